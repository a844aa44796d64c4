-- A fleet seen from Databricks: for the SQL editor, for alerts and dashboards. Put your own table's name in place of
-- main.sensor_data.raw_sensor_readings, and the source's key in place of id. The table needs databricks_batch_id, which begins
-- with the box's source_id, and databricks_inserted_at; --print-ddl has both.

-- Freshness: the boxes that are furthest behind first
SELECT
    split_part(databricks_batch_id, '/', 1) AS box,
    max(timestamp) AS newest_reading,
    max(databricks_inserted_at) AS last_upload,
    unix_timestamp(current_timestamp()) - unix_timestamp(max(timestamp)) AS lag_seconds
FROM main.sensor_data.raw_sensor_readings
WHERE databricks_inserted_at > current_timestamp() - INTERVAL 30 DAYS
GROUP BY split_part(databricks_batch_id, '/', 1)
ORDER BY lag_seconds DESC;

-- Rows by hour and box, of the last day
SELECT
    date_trunc('HOUR', timestamp) AS hour,
    split_part(databricks_batch_id, '/', 1) AS box,
    count(*) AS readings
FROM main.sensor_data.raw_sensor_readings
WHERE timestamp > current_timestamp() - INTERVAL 1 DAY
GROUP BY date_trunc('HOUR', timestamp), split_part(databricks_batch_id, '/', 1)
ORDER BY hour, box;

-- Silent boxes: something came in the last 30 days, but nothing in the last six hours. An alert takes this one
SELECT
    split_part(databricks_batch_id, '/', 1) AS box,
    max(databricks_inserted_at) AS last_upload
FROM main.sensor_data.raw_sensor_readings
WHERE databricks_inserted_at > current_timestamp() - INTERVAL 30 DAYS
GROUP BY split_part(databricks_batch_id, '/', 1)
HAVING max(databricks_inserted_at) < current_timestamp() - INTERVAL 6 HOURS
ORDER BY last_upload;

-- Doubles: the same reading of the same box more than once. There should be none; docs/delivery.md says when there may be
SELECT
    split_part(databricks_batch_id, '/', 1) AS box,
    id,
    timestamp,
    count(*) AS copies,
    count(DISTINCT databricks_batch_id) AS batches
FROM main.sensor_data.raw_sensor_readings
GROUP BY split_part(databricks_batch_id, '/', 1), id, timestamp
HAVING count(*) > 1
ORDER BY box, id;

-- Delay of the last day's rows, from reading to table, in seconds
SELECT
    split_part(databricks_batch_id, '/', 1) AS box,
    count(*) AS readings,
    round(avg(unix_timestamp(databricks_inserted_at) - unix_timestamp(timestamp))) AS mean,
    max(unix_timestamp(databricks_inserted_at) - unix_timestamp(timestamp)) AS longest
FROM main.sensor_data.raw_sensor_readings
WHERE databricks_inserted_at > current_timestamp() - INTERVAL 1 DAY
GROUP BY split_part(databricks_batch_id, '/', 1)
ORDER BY longest DESC;

-- Newest word of each box in the status_table, the worst first
SELECT box, stream, version, waiting, quarantine, error, newest, cycle_seconds, time
FROM (
    SELECT *, row_number() OVER (PARTITION BY box, stream ORDER BY time DESC) AS position_in_time
    FROM main.sensor_data.uploader_status
)
WHERE position_in_time = 1
ORDER BY error IS NULL, waiting DESC;

-- Boxes that have not reported to the status_table for two hours. A box reports once an hour, news or not
SELECT box, max(time) AS last_report
FROM main.sensor_data.uploader_status
WHERE time > current_timestamp() - INTERVAL 30 DAYS
GROUP BY box
HAVING max(time) < current_timestamp() - INTERVAL 2 HOURS
ORDER BY last_report;
