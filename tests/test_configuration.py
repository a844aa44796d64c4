"""Chapter Configuration: layers, checks, routing."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import docs
import sqlite_to_databricks_uploader as up
from boxes import PROGRAM, executed


def load(tmp_path: Path, yaml: str = "", flags: Sequence[str] = (), **environ: str) -> up.Config:
    file = tmp_path / "c.yaml"
    file.write_text(yaml)
    return up.load_config(up.parse_arguments(["--config", str(file), *flags]), environ)


def test_command_line_beats_environment_beats_yaml(tmp_path: Path) -> None:
    assert load(tmp_path, "interval: 1").interval == 1
    assert load(tmp_path, "interval: 1", UPLOAD_INTERVAL="2").interval == 2
    assert load(tmp_path, "interval: 1", ["--interval", "3"], UPLOAD_INTERVAL="2").interval == 3


def test_an_unknown_key_names_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(up.ConfigError) as error:
        load(tmp_path, "intervall: 1")
    assert "interval" in error.value.hint


@pytest.mark.parametrize("key", ["SQLITE", "SQLITE_PATH", "sqlite-path", "Sqlite_Path"])
def test_a_variable_or_capital_letters_as_a_key_are_an_error_that_names_the_key(tmp_path: Path, key: str) -> None:
    with pytest.raises(up.ConfigError, match="unknown key") as error:
        load(tmp_path, f"{key}: a.db")
    assert error.value.hint == "Did you mean 'sqlite'?"


def test_keys_that_are_known_are_named_in_the_order_of_the_guide(tmp_path: Path) -> None:
    with pytest.raises(up.ConfigError) as error:
        load(tmp_path, "blub: 1")
    assert error.value.hint == f"Known: {', '.join(up.SETTINGS)}."


def test_one_of_tables_is_not_chosen_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The others would never be sent."""
    with pytest.raises(up.ConfigError, match="leaves out all of these but one") as error:
        load(tmp_path, "tables: [a, b]\nsqlite_table_name: a")
    assert "Take one of both out" in error.value.hint
    chosen = load(tmp_path, "tables: [a, b]", ["--table", "a"])
    assert (len(chosen.tables), chosen.sqlite_table_name, caplog.text) == (2, "a", "")
    for yaml, environ in [("tables: [a, b]", {}), ("", {"UPLOAD_TABLES": "a,b"})]:
        caplog.clear()
        chosen = load(tmp_path, yaml, SQLITE_TABLE_NAME="a", **environ)
        assert (len(chosen.tables), chosen.sqlite_table_name) == (2, "a")
        assert "environment: sqlite_table_name beside tables leaves out all of these but one" in caplog.text
    for more in ({"UPLOAD_TABLES": "a,b"}, {}):
        config = load(tmp_path, "sqlite_table_name: a", [] if more else ["--tables", "a,b"], **more)
        assert (len(config.tables), config.sqlite_table_name) == (2, None)


def test_two_targets_in_one_layer_are_refused_and_a_higher_layer_decides(tmp_path: Path) -> None:
    with pytest.raises(up.ConfigError, match="two targets"):
        load(tmp_path, "table_path: /a\nlakehouse_path: /b")
    config = load(tmp_path, "table_path: /a", LAKEHOUSE_PATH="/b")
    assert (config.table_path, config.lakehouse_path) == (None, "/b")


def test_no_target_ends_with_status_2(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert up.main([], {}) == 2
    assert "lakehouse_path" in caplog.text


def test_what_a_target_needs_besides_is_named_with_all_ways_to_set_it(tmp_path: Path) -> None:
    with pytest.raises(up.ConfigError, match="databricks_table not set") as error:
        up.refuse_targets(load(tmp_path, "lakehouse_path: lake"))
    assert error.value.hint.startswith("Set DATABRICKS_TABLE (--databricks-table), or the same in YAML. --tables '*' ")
    with pytest.raises(up.ConfigError) as error:
        up.refuse_targets(load(tmp_path, "zerobus_endpoint: 1.zerobus.x.cloud.databricks.com"))
    assert "DATABRICKS_CLIENT_ID, DATABRICKS_CLIENT_SECRET, DATABRICKS_DATABASE (--" in error.value.hint


@pytest.mark.parametrize("value", ["{", "[]", "1"])
def test_malformed_rules_in_the_environment_are_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(up.ConfigError, match="FILTER_CONFIG"):
        load(tmp_path, FILTER_CONFIG=value)


@pytest.mark.parametrize("name", ["SANITIZE_CONFIG", "FILTER_CONFIG", "AGGREGATE_CONFIG", "UPLOAD_COLUMN_TYPES"])
@pytest.mark.parametrize("value", ['{"name": {"canary": "x"', '["canary"]'])
def test_of_malformed_rules_the_place_of_the_fault_is_shown_and_no_value(tmp_path: Path, name: str, value: str) -> None:
    """Rules may have the very values that rows are cleaned of."""
    with pytest.raises(up.ConfigError, match=name) as error:
        load(tmp_path, **{name: value})
    assert "canary" not in str(error.value)
    assert "line 1, column 24" in str(error.value) or value[0] == "["


def test_a_tilde_is_the_home_directory_wherever_a_path_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load(tmp_path, "lakehouse_path: ~/lake\nsqlite: ~/a.db")
    assert (config.lakehouse_path, config.sqlite) == (f"{tmp_path}/lake", tmp_path / "a.db")
    config = load(tmp_path, "table_path: ~nobody-has-this-name/lake\nsqlite: ~nobody-has-this-name/a.db")
    assert str(config.sqlite).startswith("~") and up.delta_uri(config, "raw_s").endswith("/~nobody-has-this-name/lake")


def test_an_address_of_metrics_is_no_url(tmp_path: Path) -> None:
    assert load(tmp_path, "metrics_address: '[::1]:9108'").metrics_address == "[::1]:9108"
    with pytest.raises(up.ConfigError, match="expected host:port"):
        load(tmp_path, "metrics_address: http://127.0.0.1:9108")


def test_a_bad_secret_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(up.ConfigError) as error:
        load(tmp_path, "databricks_token: [dapi-canary]")
    assert "canary" not in str(error.value)


def test_the_example_file_is_accepted(tmp_path: Path) -> None:
    config = load(tmp_path, docs.example_config())
    up.refuse_targets(config)
    assert config.databricks_table == "sensor_readings"


@pytest.mark.parametrize(
    ("base", "scenario", "table"),
    [("readings", "raw", "raw_readings"), ("raw_readings", "raw", "raw_readings"), ("raw_r", "filter", "filtered_r")],
)
def test_routing_adds_one_prefix(base: str, scenario: str, table: str) -> None:
    assert up.routed_table(base, scenario) == table


def test_a_pasted_address_becomes_a_host(tmp_path: Path) -> None:
    config = load(tmp_path, DATABRICKS_HOST="https://h.example.net/?o=12", DATABRICKS_WAREHOUSE_ID="abc")
    assert config.databricks_host == "h.example.net"
    assert config.databricks_http_path == "/sql/1.0/warehouses/abc"


@pytest.mark.parametrize("name", up.SETTINGS)
def test_each_setting_can_be_given_by_yaml_environment_and_flag_and_bad_values_are_refused(
    tmp_path: Path, name: str
) -> None:
    """A nested list fits no setting; the place where it stands is named."""
    setting = up.SETTINGS[name]
    with pytest.raises(up.ConfigError, match=name):
        load(tmp_path, f"{name}: [[1]]")
    for alias in setting.aliases:
        with pytest.raises(up.ConfigError, match="repeats"):
            load(
                tmp_path,
                f"{name}: '1'\n{alias}: '1'" if setting.parse is not up.mapping else f"{name}: {{}}\n{alias}: {{}}",
            )
    if setting.secret:
        assert up.flags_of(name) == []


def test_a_line_of_the_example_that_is_taken_in_means_the_default(tmp_path: Path) -> None:
    example = docs.example_config()
    taken_in, count = re.subn(rf"(?m)^# (({'|'.join(up.SETTINGS)}):)", r"\1", example)
    assert count > len(up.SETTINGS) / 2
    assert dataclasses.replace(load(tmp_path, taken_in), on_doubt=None) == load(tmp_path, example)


def test_off_is_no_file_no_address_and_no_table(tmp_path: Path) -> None:
    """The guide calls it the default, and a higher layer can switch off what a file has."""
    config = load(tmp_path, "metrics_file: off\nmetrics_address: OFF\nstatus_table: 'off'")
    assert (config.metrics_file, config.metrics_address, config.status_table) == (None, None, None)
    yaml = "metrics_file: a.prom\nstatus_table: boxes\ndatabricks_table: off"
    config = load(tmp_path, yaml, ["--status-table", "off"], UPLOAD_METRICS_FILE="off")
    assert (config.metrics_file, config.status_table, config.databricks_table) == (None, None, "off")


def test_empty_variables_count_as_unset(tmp_path: Path) -> None:
    assert load(tmp_path, "interval: 7", UPLOAD_INTERVAL="").interval == 7


def test_a_variable_and_its_file_may_not_both_be_set(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t\n")
    assert load(tmp_path, DATABRICKS_TOKEN_FILE=str(file)).databricks_token == "t"
    with pytest.raises(up.ConfigError, match="both set"):
        load(tmp_path, DATABRICKS_TOKEN="t", DATABRICKS_TOKEN_FILE=str(file))


def test_a_token_in_yaml_is_taken_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(tmp_path, "databricks_token: dapi-x").databricks_token == "dapi-x"
    assert "keeps it out of files" in caplog.text
    assert "dapi-x" not in caplog.text


@pytest.mark.parametrize(
    ("given", "value"), [("true", True), ("TRUE", True), ("1", True), ("False", False), ("0", False)]
)
def test_switches_are_read_in_any_case(tmp_path: Path, given: str, value: bool) -> None:
    assert load(tmp_path, ONCE=given).once is value
    assert load(tmp_path, f"once: {given}").once is value


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3:/bucket/lake", "s3://bucket/lake"),
        ("s3:bucket/lake", "s3://bucket/lake"),
        ("ABFSS:/c@a.dfs.core.windows.net/t", "abfss://c@a"),
        ("file:/data/lake", "file:///data/lake"),
        ("s3n://bucket/lake", "Did you mean 's3'"),
        ("s4://bucket/lake", "Known: s3, "),
        ("https://bucket.s3.amazonaws.com/lake", "Known: s3, "),
        ("wasbs://c@a.blob.core.windows.net/t", "Did you mean 'abfss'"),
        ("https://a.blob.core.windows.net/c", "no store https://"),
        ("dbfs:/mnt/lake", "within Databricks only"),
        ("s3:///lake", "a bucket or host after s3://"),
        ("gs://my bucket/lake", "a bucket or host after gs://"),
        ("abfss://container@/lake", "a bucket or host after abfss://"),
    ],
)
@pytest.mark.parametrize("name", ["table_path", "lakehouse_path"])
def test_an_address_that_is_no_stores_or_would_become_a_local_directory_is_refused(
    tmp_path: Path, name: str, uri: str, said: str
) -> None:
    with pytest.raises(up.ConfigError, match=name) as error:
        load(tmp_path, f"{name}: '{uri}'")
    assert said in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        "/data/lake",
        "lake",
        "./s3:/lake",
        "s3://b/l",
        "abfss://c@a.dfs.core.windows.net/t",
        "gs://b",
        "2026:lake",
        "hdfs:///l",
    ],
)
def test_paths_and_addresses_of_stores_are_taken_as_they_are(tmp_path: Path, uri: str) -> None:
    assert load(tmp_path, f"table_path: '{uri}'").table_path == uri


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("file:/data/sensor.db?mode=ro", "no URI"),
        ("sqlite:///data/sensor.db", "no URI"),
        (":memory:", "no URI"),
        ("/data/a\0b", "expected a text"),
    ],
)
def test_what_is_no_path_of_a_file_is_refused(tmp_path: Path, path: str, said: str) -> None:
    """As other programs take it; where such a file is, `./file:x` leads there."""
    with pytest.raises(up.ConfigError, match=said):
        load(tmp_path, json.dumps({"sqlite": path}))
    assert load(tmp_path, "sqlite: ./file:x").sqlite == Path("file:x")


@pytest.mark.parametrize("uri", ["s3://bucket/state", "abfss://c@a.dfs.core.windows.net/s", "dbfs:/state"])
def test_a_state_in_a_store_is_refused(tmp_path: Path, uri: str) -> None:
    """A local directory `s3:` was made, which a container loses."""
    with pytest.raises(up.ConfigError, match="expected a path on this machine"):
        load(tmp_path, STATE_DIR=uri)


@pytest.mark.parametrize(
    ("yaml", "key"),
    [
        ("interval: 1\ninterval: 2", "interval"),
        ("filter_config:\n  a: 1\n  a: 2", "a"),
        ("sanitize_config:\n  repair:\n    - {a: 1, b: 2, a: 3}", "a"),
        ('"interval": 1\ninterval: 2', "interval"),
    ],
)
def test_a_yaml_key_that_stands_twice_is_refused_at_any_depth(tmp_path: Path, yaml: str, key: str) -> None:
    with pytest.raises(up.ConfigError, match=f"{key!r} stands twice"):
        load(tmp_path, yaml)


def test_what_a_setting_says_in_yaml_counts_as_it_is_written(tmp_path: Path) -> None:
    """YAML itself reads octal numbers, groups of digits and days, and takes on and no for truth values."""
    yaml = "source_id: 007\ndatabricks_table: 2024_01\nbatch_rows: 010\nlookback: 1_000\nenable_filter: off\n"
    yaml += (
        "tables:\n- on\n- &a {sqlite_table_name: 1_0, databricks_table: 2026-13-45}\n- {<<: *a, enable_filter: yes}\n"
    )
    config = load(tmp_path, yaml)
    assert (config.source_id, config.databricks_table) == ("007", "2024_01")
    assert (config.batch_rows, config.lookback, config.enable_filter) == (10, 1000, False)
    entry = {"sqlite_table_name": "1_0", "databricks_table": "2026-13-45"}
    assert config.tables == ({"sqlite_table_name": "on"}, entry, {**entry, "enable_filter": True})
    assert load(tmp_path, "filter_config: {v: 010, w: on}").filter_config == {"v": 8, "w": True}


@pytest.mark.parametrize(
    "yaml",
    [
        "filter_config: {day: 2026-13-45}",
        "filter_config: {n: 0x_}",
        "tables: " + "[" * 2000,
        "filter_config: {n: !!int x}",
    ],
)
def test_values_that_yaml_can_not_make_are_no_traceback(tmp_path: Path, yaml: str) -> None:
    with pytest.raises(up.ConfigError, match="is not valid YAML"):
        load(tmp_path, yaml)


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("sqlite: a\n\tinterval: 1", r"at line 2: found character '\t'"),
        ('sqlite: "C:\\data"', "at line 1: found unknown escape character 'd'"),
        ("sqlite: a\n  interval: 1", "at line 2: mapping values are not allowed here"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line_and_reason(tmp_path: Path, yaml: str, said: str) -> None:
    with pytest.raises(up.ConfigError) as error:
        load(tmp_path, yaml)
    assert said in str(error.value) and "no tabs" in error.value.hint


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_of_another_encoding_is_to_be_saved_as_utf_8(tmp_path: Path, encoding: str) -> None:
    """PowerShell's `>` writes UTF-16."""
    file = tmp_path / "c.yaml"
    file.write_text("databricks_table: größe", encoding=encoding)
    with pytest.raises(up.ConfigError, match="can't be read") as error:
        up.layer_from_yaml(file)
    assert error.value.hint == "Save it as UTF-8."
    with pytest.raises(up.ConfigError, match="No such file") as error:
        up.layer_from_yaml(tmp_path / "none.yaml")
    assert error.value.hint == "Check --config."


@pytest.mark.parametrize("value", ["*quiet", "!quiet x", "!quiet!x y"])
def test_a_secret_that_yaml_takes_for_a_reference_or_tag_is_not_shown(tmp_path: Path, value: str) -> None:
    with pytest.raises(up.ConfigError, match="is not valid YAML") as error:
        load(tmp_path, f"databricks_token: {value}")
    assert "quiet" not in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize("quoted", ['"dapi1"', "'dapi1'"])
def test_quotes_around_a_variable_are_warned_of_without_its_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, quoted: str
) -> None:
    """Shells take them away, `docker run --env-file` does not."""
    assert load(tmp_path, DATABRICKS_TOKEN=quoted).databricks_token == quoted
    assert caplog.messages == ["DATABRICKS_TOKEN: the quotes around its value are part of it"]
    caplog.clear()
    load(tmp_path, 'databricks_table: "t"', SQLITE_TABLE_NAME="it's", FILTER_CONFIG='{"a": "b"}')
    assert not caplog.messages


def test_merged_yaml_mappings_may_override_a_key(tmp_path: Path) -> None:
    config = load(tmp_path, "filter_config: &base {a: 1}\naggregate_config: {<<: *base, a: 2}")
    assert config.aggregate_config == {"a": 2}


def test_a_key_that_stands_twice_in_json_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(up.ConfigError, match="FILTER_CONFIG: the key 'a' stands twice"):
        load(tmp_path, FILTER_CONFIG='{"b": {"a": 1, "a": 2}}')
    with pytest.raises(up.ConfigError, match="UPLOAD_TABLES: the key 'a' stands twice"):
        load(tmp_path, UPLOAD_TABLES='[{"sqlite_table_name": "t", "filter_config": {"a": 1, "a": 2}}]')


def test_json_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(up.ConfigError, match="FILTER_CONFIG: JSON is nested too deep"):
        load(tmp_path, FILTER_CONFIG="[" * 100_000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABRICKS_HOST", "https://dapi-s3cret@adb-1.azuredatabricks.net"),
        ("TABLE_PATH", "s3://AKIA:s3cret@bucket/t"),
        ("STORAGE_OPTIONS", '{"account": {"key": "s3cret"}}'),
    ],
)
def test_secrets_in_the_wrong_place_are_refused_and_not_shown(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(up.ConfigError) as error:
        load(tmp_path, **{name: value})
    assert "s3cret" not in f"{error.value} {error.value.hint}"


def test_a_store_s_option_without_a_value_is_none(tmp_path: Path) -> None:
    assert load(tmp_path, "storage_options: {a: 1, b: }").storage_options == {"a": 1}


@pytest.mark.parametrize(
    "yaml", ["databricks_token: ${TOKEN}", "table_path: s3://${BUCKET}/t", "filter_config: {a: '${X}'}"]
)
def test_a_variable_in_yaml_gets_a_hint_since_nothing_expands_it(
    tmp_path: Path, yaml: str, caplog: pytest.LogCaptureFixture
) -> None:
    load(tmp_path, yaml)
    assert "which nothing expands" in caplog.text


def test_a_variable_with_a_prefix_of_ours_that_no_setting_has_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(tmp_path, UPLOAD_INTERVL="secret", DATABRICKS_TABEL="x", ENABLE_FILTRE="1", UPLOAD_WHATEVER="1")
    assert [line.split("variable ")[1] for line in caplog.messages] == [
        "DATABRICKS_TABEL: did you mean DATABRICKS_TABLE?",
        "ENABLE_FILTRE: did you mean ENABLE_FILTER?",
        "UPLOAD_INTERVL: did you mean UPLOAD_INTERVAL?",
        "UPLOAD_WHATEVER",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SQLITE_TABLE", "SQLITE_TABLE_NAME"),
        ("TIMESTAMP_COLUMN", "TIMESTAMP_COL"),
        ("TIMESTAMP_FORMAT", "UPLOAD_TIMESTAMP_FORMAT"),
        ("ENABLE_SANITIZATION", "ENABLE_SANITIZE"),
    ],
)
def test_a_variable_as_one_would_guess_it_is_answered_with_the_right_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, meant: str
) -> None:
    load(tmp_path, **{name: "x"})
    assert caplog.messages == [f"no setting has the variable {name}: did you mean {meant}?"]


def test_variables_of_others_are_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = {variable: "" for setting in up.SETTINGS.values() for variable in setting.variables}
    foreign = (
        "AUTH_TYPE",
        "CONFIG_FILE",
        "RUNTIME_VERSION",
        "BUNDLE_ENV",
        "CLUSTER_ID",
        "AZURE_RESOURCE_ID",
        "OIDC_TOKEN_ENV",
    )
    others = dict.fromkeys(
        [
            "PATH",
            "SQLITE_HISTORY",
            "SQLITE_TMPDIR",
            "STORAGE_ACCOUNT",
            "ENABLE_X",
            *(f"DATABRICKS_{name}" for name in foreign),
        ],
        "1",
    )
    load(tmp_path, **known, **others, DATABRICKS_CLIENT_SECRET_FILE="")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("given", "seconds"), [("30s", 30), ("5m", 300), ("1h", 3600), ("1.5 h", 5400), ("0", 0), (7, 7), ("2d", 172800)]
)
@pytest.mark.parametrize("name", ["interval", "jitter", "lookback"])
def test_times_are_seconds_or_have_a_unit(tmp_path: Path, name: str, given: object, seconds: float) -> None:
    assert getattr(load(tmp_path, f"{name}: {given}"), name) == seconds
    assert getattr(load(tmp_path, "", [f"--{name}", str(given)]), name) == seconds


@pytest.mark.parametrize("given", ["-1", "5 weeks", "s", "true", "1..2", ".nan", "1h30m"])
def test_what_is_no_time_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(up.ConfigError, match="interval"):
        load(tmp_path, f"interval: {given}")


@pytest.mark.parametrize(
    "named",
    [
        "--databricks-table", "--lakehouse-path", "--table-path", "--source-id", "--filter-config", "--tables",
        "--sqlite-table-name", "--run-query", "--since",
    ],
)  # fmt: skip
def test_bytes_that_are_no_utf_8_are_refused_by_the_setting_s_name(tmp_path: Path, named: str) -> None:
    shown = {"--filter-config": '{"v": "\udce9"}', "--tables": '["\udce9"]'}.get(named, "caf\udce9")
    with pytest.raises(up.ConfigError, match=f"{named}.* can't be written in UTF-8") as error:
        load(tmp_path, "", [named, shown])
    assert "UTF-8" in error.value.hint


def test_bytes_that_are_no_utf_8_are_refused_in_variables_and_yaml_too(tmp_path: Path) -> None:
    with pytest.raises(up.ConfigError, match=r"UPLOAD_SOURCE_ID: '.udce9' can't be written in UTF-8"):
        load(tmp_path, UPLOAD_SOURCE_ID="\udce9")
    with pytest.raises(up.ConfigError, match="DATABRICKS_TOKEN: its value can't be written in UTF-8"):
        load(tmp_path, DATABRICKS_TOKEN="\udce9")
    for yaml in (r'state_dir: "\ud83d"', r'filter_config: {a: {"in": ["\ud83d"]}}'):
        with pytest.raises(up.ConfigError, match="can't be written in UTF-8"):
            load(tmp_path, yaml)


def test_files_beside_tables_may_have_names_of_any_bytes(tmp_path: Path) -> None:
    config = load(tmp_path, "", ["--sqlite", "/caf\udce9.db"], STATE_DIR="/\udce9")
    assert [os.fsencode(str(file)) for file in (config.sqlite, config.state_dir)] == [b"/caf\xe9.db", b"/\xe9"]


PLAIN = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("name", ["sqlite", "state_dir", "lakehouse_path", "metrics_file", "databricks_table"])
def test_names_that_the_locale_can_not_write_are_an_error_that_says_so(tmp_path: Path, name: str) -> None:
    given = {"sqlite": f"{tmp_path}/s.db", "lakehouse_path": str(tmp_path), "databricks_table": "t"}
    given |= {"state_dir": str(tmp_path), name: "\u00e4" if name == "databricks_table" else f"{tmp_path}/\u00e4"}
    executed(tmp_path / "s.db", "CREATE TABLE t (ts TEXT)")
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(given, ensure_ascii=False), encoding="utf-8")
    ended = subprocess.run([*PROGRAM, "--config", str(file), "--once"], env=PLAIN, capture_output=True, text=True)
    assert "can't be written in ASCII" in ended.stderr and "LC_ALL=C.UTF-8" in ended.stderr and ended.returncode == 2


def test_an_address_of_a_store_may_be_in_letters_that_the_locale_can_not_write(tmp_path: Path) -> None:
    executed(tmp_path / "s.db", "CREATE TABLE t (ts TEXT)", "INSERT INTO t VALUES ('2026-01-01')")
    given = {"sqlite": f"{tmp_path}/s.db", "lakehouse_path": f"file://{tmp_path}/\u00e4", "databricks_table": "t"}
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({**given, "state_dir": str(tmp_path)}, ensure_ascii=False), encoding="utf-8")
    assert subprocess.run([*PROGRAM, "--config", str(file), "--once"], env=PLAIN).returncode == 0
    assert (tmp_path / "\u00e4" / "raw_t").is_dir()
