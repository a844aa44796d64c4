"""docs/fleet/: alerts, dashboard, DaemonSet and job are checked against their schemas, and against a real uploader."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

import sqlite_to_databricks_uploader as up
from boxes import ROOT, Box
from test_jobs import JOB, load, problems

FLEET = ROOT / "docs" / "fleet"
RULES = FLEET / "uploader.rules.yml"
# What Prometheus itself adds to each series.
ADDED = {"job", "instance", "le"}
VARIABLES = {"$job": ".*", "$instance": ".*", "$table": ".*", "$__rate_interval": "5m"}
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing: no query was parsed")


def alerts() -> list[dict[str, Any]]:
    (group,) = load(RULES)["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@functools.cache
def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FLEET / "grafana-dashboard.json").read_text())
    return content


def queries() -> Iterator[tuple[str, str]]:
    """Every query with the name of its alert or panel, without Grafana's variables."""
    yield from ((rule["alert"], rule["expr"]) for rule in alerts())
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query
    for variable in dashboard()["templating"]["list"][1:]:
        query = re.sub(r"label_values\((.*), (\w+)\)", r"group by (\2) (\1)", variable["query"])
        yield variable["name"], re.sub(r"\$\w+", ".*", query)


# === Prometheus


@needs_promtool
@pytest.mark.parametrize("command", [["check", "rules", RULES.name], ["test", "rules", "uploader.rules.test.yml"]])
def test_the_alerts_are_valid_and_do_what_their_tests_say(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FLEET, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire_and_not_to_fire() -> None:
    cases = [case for test in load(FLEET / "uploader.rules.test.yml")["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fires == {rule["alert"] for rule in alerts()}
    # The tests with one time alone have another series that stays quiet.
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} >= fires - {"UploaderClock"}


@needs_promtool
def test_every_query_can_be_parsed(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rules) > 25


@pytest.fixture
def served(box: Box) -> dict[str, set[str]]:
    """The names of what an uploader tells, with their labels, after a good and a failed cycle."""
    box.sample()
    file = box.folder / "uploader.prom"
    assert box.run("--metrics-file", str(file)) == 0
    good = file.read_text()
    box.execute("DROP TABLE sensor_readings")
    assert box.run("--metrics-file", str(file)) != 0
    found: dict[str, set[str]] = {}
    for family in (f for text in (good, file.read_text()) for f in text_string_to_metric_families(text)):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_and_label_of_a_query_is_told_by_an_uploader(served: dict[str, set[str]]) -> None:
    used = set()
    for name, query in queries():
        metrics = set(re.findall(r"\buploader_\w+", query))
        assert metrics and metrics <= served.keys(), name
        known = ADDED.union(*(served[metric] for metric in metrics))
        labels = re.findall(r"(\w+)=~?\"", query) + re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query)))
        assert set(labels) <= known, name
        used |= metrics
    assert {name for name in served if name.startswith("uploader_") and not name.endswith("_created")} == used


def test_what_alerts_say_speaks_of_labels_that_are_there(served: dict[str, set[str]]) -> None:
    known = ADDED.union(*served.values())
    for rule in alerts():
        assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= known, rule["alert"]


# === Grafana


def dropped(given: Any, kept: Any, place: str = "") -> list[str]:
    """Where a value is not the same after it went through Grafana's own types, which drop what they don't know."""
    if isinstance(given, dict) and isinstance(kept, dict):
        pairs = [(value, kept.get(key, "missing"), f"{place}.{key}") for key, value in given.items()]
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        pairs = [(value, kept[i], f"{place}[{i}]") for i, value in enumerate(given)]
    else:
        return [] if given in (kept, None) else [f"{place}: {given!r}"]
    return [fault for pair in pairs for fault in dropped(*pair)]


def faults(content: dict[str, Any]) -> list[str]:
    """What Grafana's types don't know of a dashboard."""
    plugins.register_default_plugins()
    return dropped(content, json.loads(JSONEncoder().encode(Dashboard.from_json(content))))


def test_the_dashboard_follows_grafanas_schema() -> None:
    assert faults(dashboard()) == []


@pytest.mark.parametrize("path", [[], ["panels", 7], ["panels", 7, "targets", 0], ["panels", 7, "options", "legend"],
                                  ["panels", 7, "fieldConfig", "defaults", "custom"], ["templating", "list", 1]])  # fmt: skip
def test_a_mistake_in_the_dashboard_is_found(path: list[Any]) -> None:
    content = json.loads(json.dumps(dashboard()))
    functools.reduce(lambda place, key: place[key], path, content)["misspelt"] = 1
    assert len(faults(content)) == 1


def test_the_dashboard_asks_the_data_source_that_was_chosen_and_its_panels_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        chosen = {"type": "prometheus", "uid": "${datasource}"}
        assert all(part["datasource"] == chosen for part in [panel, *panel["targets"]]), panel["title"]
        place = panel["gridPos"]
        area = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not area & taken and max(x for x, _ in area) < 24, panel["title"]
        taken |= area


# === Kubernetes and Bacalhau


def manifests() -> dict[str, Any]:
    return {part["kind"]: part for part in yaml.safe_load_all((FLEET / "kubernetes.yaml").read_text())}


def test_the_manifests_follow_the_schema_of_kubernetes() -> None:
    for manifest in manifests().values():
        kubernetes_validate.validate(manifest, "1.37", strict=True)
    wrong = manifests()["DaemonSet"]
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_the_pods_configuration_is_one_that_the_uploader_takes(tmp_path: Path) -> None:
    """Each file that it names lies in a volume, and only the state can be written."""
    content = manifests()
    (file, text), *none = content["ConfigMap"]["data"].items()
    (tmp_path / file).write_text(text)
    (tmp_path / "token").write_text("t")
    pod = content["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environ = {entry["name"]: entry.get("value", "node-1") for entry in container["env"]}
    token = environ["DATABRICKS_TOKEN_FILE"]
    environ["DATABRICKS_TOKEN_FILE"] = str(tmp_path / "token")
    config = up.load_config({"config": tmp_path / file}, environ)
    up.refuse_targets(config)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert container["args"] == ["--config", f"/config/{file}"] and none == []
    for path in (token, str(config.sqlite), f"/config/{file}"):
        assert mounts[str(Path(path).parent)]["readOnly"], path
    assert {path for path, mount in mounts.items() if not mount.get("readOnly")} == {"/state", "/tmp"}
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pod["volumes"]}
    assert str(config.metrics_address).endswith(f":{container['ports'][0]['containerPort']}")
    assert config.source_id == "node-1"


def test_the_job_has_known_keys_and_no_secret() -> None:
    job = load(FLEET / "bacalhau.yaml")
    assert problems(JOB, job) == []
    (task,) = job["Tasks"]
    assert task["Env"]["DATABRICKS_TOKEN"] == "env:DATABRICKS_TOKEN"
    known = {variable for setting in up.SETTINGS.values() for variable in setting.variables}
    assert task["Env"].keys() <= known
