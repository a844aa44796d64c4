-- The tables that the uploader fills from a sensor's database, one for each scenario; and two more, events and status,
-- which a station has that sends its whole database. The uploader makes no tables in a warehouse: run this once, in the
-- schema that databricks_database names. The last two columns are optional; the uploader fills them where they are
-- there, and with databricks_batch_id it can tell after a lost answer what arrived.

CREATE TABLE IF NOT EXISTS raw_sensor_readings (
    id BIGINT,
    timestamp TIMESTAMP,
    sensor_id STRING,
    temperature DOUBLE,
    humidity DOUBLE,
    pressure DOUBLE,
    vibration DOUBLE,
    voltage DOUBLE,
    status_code BIGINT,
    anomaly_flag BIGINT,
    anomaly_type STRING,
    firmware_version STRING,
    model STRING,
    manufacturer STRING,
    location STRING,
    latitude DOUBLE,
    longitude DOUBLE,
    original_timezone STRING,
    serial_number STRING,
    manufacture_date STRING,
    deployment_type STRING,
    installation_date STRING,
    height_meters DOUBLE,
    orientation_degrees DOUBLE,
    instance_id STRING,
    sensor_type STRING,
    databricks_inserted_at TIMESTAMP,
    databricks_batch_id STRING
);

CREATE TABLE IF NOT EXISTS filtered_sensor_readings
AS SELECT * FROM raw_sensor_readings WHERE 1 = 0;

CREATE TABLE IF NOT EXISTS secure_sensor_readings
AS SELECT * FROM raw_sensor_readings WHERE 1 = 0;

CREATE TABLE IF NOT EXISTS aggregated_sensor_readings (
    sensor_id STRING,
    minute TIMESTAMP,
    avg_temperature DOUBLE,
    max_humidity DOUBLE,
    reading_count BIGINT,
    databricks_inserted_at TIMESTAMP,
    databricks_batch_id STRING
);

CREATE TABLE IF NOT EXISTS raw_events (
    event_id BIGINT,
    happened_at TIMESTAMP,
    sensor_id STRING,
    severity STRING,
    kind STRING,
    details STRING,
    databricks_inserted_at TIMESTAMP,
    databricks_batch_id STRING
);

CREATE TABLE IF NOT EXISTS raw_status (
    recorded_at TIMESTAMP,
    sensor_id STRING,
    online BOOLEAN,
    battery_percent DOUBLE,
    readings_written BIGINT,
    databricks_inserted_at TIMESTAMP,
    databricks_batch_id STRING
);
