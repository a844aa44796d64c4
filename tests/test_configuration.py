"""Chapter Configuration: layers, checks, routing."""

import pytest
import sqlite_to_databricks_uploader as up


def load(tmp_path, yaml="", flags=(), **environ):
    file = tmp_path / "c.yaml"
    file.write_text(yaml)
    return up.load_config(up.parse_arguments(["--config", str(file), *flags]), environ)


def test_command_line_beats_environment_beats_yaml(tmp_path):
    assert load(tmp_path, "interval: 1").interval == 1
    assert load(tmp_path, "interval: 1", UPLOAD_INTERVAL="2").interval == 2
    assert load(tmp_path, "interval: 1", ["--interval", "3"], UPLOAD_INTERVAL="2").interval == 3


def test_an_unknown_key_names_the_nearest_known_one(tmp_path):
    with pytest.raises(up.ConfigError) as error:
        load(tmp_path, "intervall: 1")
    assert "interval" in error.value.hint


def test_two_targets_in_one_layer_are_refused_and_a_higher_layer_decides(tmp_path):
    with pytest.raises(up.ConfigError, match="two targets"):
        load(tmp_path, "table_path: /a\nlakehouse_path: /b")
    config = load(tmp_path, "table_path: /a", LAKEHOUSE_PATH="/b")
    assert (config.table_path, config.lakehouse_path) == (None, "/b")


def test_no_target_ends_with_status_2(tmp_path, caplog):
    assert up.main([], {}) == 2
    assert "lakehouse_path" in caplog.text


@pytest.mark.parametrize("value", ["{", "[]", "1"])
def test_malformed_rules_in_the_environment_are_refused(tmp_path, value):
    with pytest.raises(up.ConfigError, match="FILTER_CONFIG"):
        load(tmp_path, FILTER_CONFIG=value)


def test_a_bad_secret_is_not_shown(tmp_path):
    with pytest.raises(up.ConfigError) as error:
        load(tmp_path, "databricks_token: [dapi-canary]")
    assert "canary" not in str(error.value)


def test_the_example_file_is_accepted(tmp_path):
    config = load(tmp_path, up.example_config())
    up.check_target(config)
    assert config.databricks_table == "sensor_readings"


@pytest.mark.parametrize(
    ("base", "scenario", "table"),
    [("readings", "raw", "raw_readings"), ("raw_readings", "raw", "raw_readings"), ("raw_r", "filter", "filtered_r")],
)
def test_routing_adds_one_prefix(base, scenario, table):
    assert up.routed_table(base, scenario) == table


def test_a_pasted_address_becomes_a_host(tmp_path):
    config = load(tmp_path, DATABRICKS_HOST="https://h.example.net/?o=12", DATABRICKS_WAREHOUSE_ID="abc")
    assert config.databricks_host == "h.example.net"
    assert config.databricks_http_path == "/sql/1.0/warehouses/abc"
