"""The Bacalhau jobs, the nodes' configuration and the compose files: keys, rules, and each job's work done here.

`bacalhau job validate` ignores unknown keys below the top level, so a mistake would do nothing, in silence. The tables
below hold the keys that these files use, as Bacalhau 1.9.3 names them (pkg/models, pkg/config/types), and no others.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake import DeltaTable

import sqlite_to_databricks_uploader as up

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo-network"
JOBS = sorted((DEMO / "jobs").glob("*.yaml"))
COMPOSE_FILES = [DEMO / "compose.yaml", ROOT / "databricks-uploader" / "compose.yaml"]


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


# === The schema of a job: a type, a check, or the schema of what lies below. `?` marks keys that may be missing.


def one_of(*choices: str) -> re.Pattern[str]:
    return re.compile("|".join(choices))


TEXT = re.compile(r"(?s).+")
ABSOLUTE = re.compile(r"/\S+")
VARIABLE = re.compile(r"(?!BACALHAU_)[A-Z][A-Z0-9_]*")

JOB = {
    "Name": re.compile(r"[a-z0-9-]+"),
    "Type": one_of("batch", "ops", "daemon"),
    "Count?": int,
    "Namespace": TEXT,
    "Labels": {TEXT: TEXT},
    "Constraints": [{"Key": re.compile(r"[a-z][a-z0-9_-]*"), "Operator": one_of("=", "!=", "in"), "Values": [TEXT]}],
    "Tasks": [
        {
            "Name": TEXT,
            "Engine": {"Type": one_of("docker"), "Params": {"Image": TEXT, "Parameters": [TEXT]}},
            "Env": {VARIABLE: TEXT},
            "InputSources": [
                {
                    "Target": ABSOLUTE,
                    "Source": {"Type": one_of("local"), "Params": {"SourcePath": ABSOLUTE, "ReadWrite": bool}},
                }
            ],
            "Network": {"Type": one_of("Bridge", "Host", "None")},
            "Resources": {"CPU": re.compile(r"[\d.]+m?"), "Memory": re.compile(r"\d+[KMG]b")},
            "Timeouts?": {"QueueTimeout": int, "ExecutionTimeout": int, "TotalTimeout": int},
        }
    ],
}

NODE = {
    "NameProvider": one_of("hostname"),
    "DisableAnalytics": bool,
    "UpdateConfig": {"Interval": re.compile(r"\d+s")},
    "Labels?": {re.compile(r"[a-z][a-z0-9_-]*"): TEXT},
    "API?": {"Host": TEXT, "Port": int},
    "WebUI?": {"Enabled": bool, "Listen": TEXT},
    "Orchestrator?": {"Enabled": bool, "Host": TEXT, "Port": int, "Auth": {"Token": TEXT}},
    "Compute?": {
        "Enabled": bool,
        "Orchestrators": [re.compile(r"nats://[a-z-]+:\d+")],
        "Auth": {"Token": TEXT},
        "AllowListedLocalPaths": [re.compile(r"/[^*]+:(ro|rw)")],
        "Env": {"AllowList": [re.compile(r"\^[A-Z_]+\$")]},
    },
}


def problems(schema: Any, value: Any, place: str = "") -> list[str]:
    """Where `value` is not what `schema` allows; nothing else than what it names is allowed."""
    if isinstance(schema, re.Pattern):
        fits = isinstance(value, str) and schema.fullmatch(value)
        return [] if fits else [f"{place}: {value!r} does not match {schema.pattern}"]
    if isinstance(schema, type):
        return [] if type(value) is schema else [f"{place}: {value!r} is no {schema.__name__}"]
    if not isinstance(value, type(schema)) or not value:
        return [f"{place}: {value!r} is no {type(schema).__name__}, or empty"]
    if isinstance(schema, list):
        return [p for i, item in enumerate(value) for p in problems(schema[0], item, f"{place}[{i}]")]
    return mapping_problems(schema, value, place)


def mapping_problems(schema: Mapping[Any, Any], value: Mapping[Any, Any], place: str) -> list[str]:
    """The same for a mapping, whose schema names its keys, or has one pattern for all of them."""
    (pattern, below), *others = schema.items()
    if isinstance(pattern, re.Pattern) and not others:
        found = [f"{place}: key {key!r}" for key in value if not pattern.fullmatch(str(key))]
        return found + [p for key, item in value.items() for p in problems(below, item, f"{place}.{key}")]
    known = {name.rstrip("?"): below for name, below in schema.items()}
    found = [f"{place}: unknown key {key!r}" for key in value if key not in known]
    found += [f"{place}: no {name}" for name in schema if not name.endswith("?") and name not in value]
    return found + [
        p for key in known.keys() & value.keys() for p in problems(known[key], value[key], f"{place}.{key}")
    ]


# === Jobs


def test_there_is_a_job_for_each_way_to_run() -> None:
    assert {file.stem: load(file)["Type"] for file in JOBS} == {
        "one-node-now": "batch",
        "every-node-once": "ops",
        "every-node-continuously": "daemon",
        "scenario-raw": "ops",
        "scenario-filtered": "ops",
        "scenario-secure": "ops",
        "scenario-aggregated": "ops",
    }


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_a_job_has_known_keys_and_fitting_values(file: Path) -> None:
    assert problems(JOB, load(file)) == []


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_a_job_keeps_the_rules_that_bacalhau_checks_late_or_never(file: Path) -> None:
    job = load(file)
    (task,) = job["Tasks"]
    targets = [source["Target"] for source in task["InputSources"]]
    assert len(targets) == len(set(targets))
    assert ("Count" in job) == (job["Type"] == "batch"), "daemon and ops run on every node"
    assert ("--once" in task["Engine"]["Params"]["Parameters"]) == (job["Type"] != "daemon")
    times = task.get("Timeouts")
    assert (times is None) == (job["Type"] == "daemon")
    assert times is None or times["QueueTimeout"] + times["ExecutionTimeout"] <= times["TotalTimeout"]


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_a_job_has_no_secret_in_it(file: Path) -> None:
    (task,) = load(file)["Tasks"]
    assert task["Env"]["DATABRICKS_TOKEN"] == "env:DATABRICKS_TOKEN"


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_the_nodes_allow_what_a_job_asks_for(file: Path) -> None:
    allowed = load(DEMO / "bacalhau" / "compute.yaml")["Compute"]
    (task,) = load(file)["Tasks"]
    for source in task["InputSources"]:
        parameters = source["Source"]["Params"]
        mode = "rw" if parameters["ReadWrite"] else "ro"
        assert f"{parameters['SourcePath']}:{mode}" in allowed["AllowListedLocalPaths"]
    for value in task["Env"].values():
        if value.startswith("env:"):
            assert any(re.search(entry, value.removeprefix("env:")) for entry in allowed["Env"]["AllowList"])


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_only_nodes_with_a_sensor_are_asked(file: Path) -> None:
    labels = load(DEMO / "bacalhau" / "compute.yaml")["Labels"]
    assert [(c["Key"], c["Values"]) for c in load(file)["Constraints"]] == [("role", [labels["role"]])]


def test_jobs_share_a_state_exactly_where_they_share_a_table() -> None:
    """A second state for the same table would send every row a second time."""
    states: dict[str, set[str]] = {}
    for file in JOBS:
        (task,) = load(file)["Tasks"]
        switches = [name for name in task["Env"] if name.startswith("ENABLE_")]
        states.setdefault(switches[0] if switches else "raw", set()).add(task["Env"]["STATE_DIR"])
    assert all(len(directories) == 1 for directories in states.values())
    assert len(set.union(*states.values())) == len(states) == 4


def test_an_invented_job_is_refused() -> None:
    """The form that is often written down, with lower-case names and keys that Bacalhau does not know."""
    job = yaml.safe_load("""
        name: databricks-upload-job
        type: batch
        compute: {image: "ghcr.io/your-org/databricks-uploader:latest"}
        inputs: [{source: {type: localFile, path: ./config.yaml}, target: /config.yaml}]
        command: ["--config", "/config.yaml", "--once"]
    """)
    assert {": unknown key 'compute'", ": unknown key 'inputs'", ": unknown key 'command'"} <= set(problems(JOB, job))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["Timeouts", "ExecutionTimeout"], "3600s"),
        (["Env", "databricks_token"], "env:DATABRICKS_TOKEN"),
        (["Env", "ONCE"], ""),
        (["Env", "BACALHAU_X"], "1"),
        (["Network", "Type"], "Full"),
        (["Resources", "CPU"], 0.5),
        (["Engine", "Params", "Volumes"], ["/data"]),
        (["InputSources", 0, "Target"], "data"),
        (["InputSources", 0, "Source", "Params", "Path"], "/data"),
    ],
)
def test_a_mistake_deep_in_a_job_is_found(path: list[Any], value: Any) -> None:
    job = load(DEMO / "jobs" / "every-node-once.yaml")
    place = job["Tasks"][0]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert len(problems(JOB, job)) == 1


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_a_job_does_its_work_on_the_sample(file: Path, tmp_path: Path) -> None:
    """Its arguments and variables are given to the uploader, with paths of this machine and a local lake."""
    (task,) = load(file)["Tasks"]
    places = {"/data": DEMO, "/config": DEMO / "bacalhau", "/state": tmp_path / "state"}
    node = {"env:UPLOAD_SOURCE_ID": "node-1", "env:DATABRICKS_TOKEN": "token"}
    environment = {name: here(node.get(value, value), places) for name, value in task["Env"].items()}
    environment["LAKEHOUSE_PATH"] = str(tmp_path / "lake")
    arguments = [here(word, places) for word in task["Engine"]["Params"]["Parameters"]]
    arguments += ["--once"] if "--once" not in arguments else []
    # The sample spans half a minute, so its last window is still open.
    arguments += ["--flush"] if "ENABLE_AGGREGATE" in environment else []
    assert up.main(arguments, environment) == 0
    scenario = Path(task["Env"]["STATE_DIR"]).name
    assert DeltaTable(str(tmp_path / "lake" / f"{scenario}_sensor_readings")).version() >= 0


def here(text: str, places: Mapping[str, Path]) -> str:
    """A path of the container as one of this machine."""
    for inside, outside in places.items():
        if text.startswith(f"{inside}/"):
            return f"{outside}{text.removeprefix(inside)}"
    return text


# === Nodes


@pytest.mark.parametrize("name", ["orchestrator", "compute"])
def test_the_configuration_of_a_node_has_known_keys(name: str) -> None:
    assert problems(NODE, load(DEMO / "bacalhau" / f"{name}.yaml")) == []


def test_the_uploaders_on_the_nodes_have_a_valid_configuration() -> None:
    config = up.load_config(up.parse_arguments(["--config", str(DEMO / "bacalhau" / "uploader.yaml")]), {})
    up.refuse_targets(config)
    assert config.databricks_host == "warehouse:8443"


# === Compose


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.parent.name)
def test_a_compose_file_follows_the_specification(file: Path) -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="compose-spec is not installed: keys were not checked")
    compose_spec.PyCompose.from_json(json.dumps(interpolated(load(file))))


def interpolated(value: Any) -> Any:
    """A compose file's content without variables, and without what anchors were collected under."""
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items() if not key.startswith("x-")}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) if isinstance(value, str) else value


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.parent.name)
def test_images_are_named_with_a_version_or_chosen_by_the_user(file: Path) -> None:
    assert "version" not in load(file)
    for service in load(file)["services"].values():
        assert re.search(r":v?\d+\.\d+\.\d+|:\$\{TAG:-latest\}$", service["image"]), service["image"]


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.parent.name)
def test_volumes_are_declared_and_files_exist(file: Path) -> None:
    content = interpolated(load(file))
    for service in content["services"].values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if not source.startswith("."):
                assert source in content["volumes"]
            elif source != "../uploader.yaml":  # the user's own
                assert (file.parent / source).exists(), source


def test_the_uploader_of_one_box_reads_only_and_has_no_privileges() -> None:
    service = load(COMPOSE_FILES[1])["services"]["uploader"]
    assert "${DATA_DIR:-data}:/data:ro" in service["volumes"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert load(COMPOSE_FILES[1])["services"]["sensor"]["profiles"] == ["demo"]


def test_each_node_has_a_sensor_and_data_of_its_own() -> None:
    services = load(COMPOSE_FILES[0])["services"]
    for number in "123":
        assert f"data-{number}:/opt/sensor/data" in services[f"node-{number}"]["volumes"]
        assert f"data-{number}:/data" in services[f"sensor-{number}"]["volumes"]
        assert services[f"node-{number}"]["environment"]["UPLOAD_SOURCE_ID"] == f"node-{number}"


def test_nothing_but_loopback_is_published() -> None:
    ports = [port for service in load(COMPOSE_FILES[0])["services"].values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("script", ["sensor.py", "local_warehouse.py"])
def test_the_scripts_of_the_demo_know_the_options_that_compose_gives_them(script: str) -> None:
    source = (DEMO / script).read_text()
    for file in COMPOSE_FILES:
        for service in load(file)["services"].values():
            words = [*service.get("entrypoint", []), *service.get("command", [])]
            if f"/{script}" in words:
                options = [word for word in words[words.index(f"/{script}") :] if word.startswith("--")]
                assert not [option for option in options if f'"{option}"' not in source]


def test_the_sensor_needs_no_packages_since_the_uploaders_image_runs_it() -> None:
    block = re.search(r"(?m)^# /// script$\s((?:^#(?:| .*)$\s)+)^# ///$", (DEMO / "sensor.py").read_text())
    assert block
    inline = tomllib.loads("".join(line.removeprefix("#")[1:] for line in block[1].splitlines(keepends=True)))
    assert not inline.get("dependencies")


def test_the_warehouses_own_modules_are_mounted_beside_it() -> None:
    script = (DEMO / "local_warehouse.py").read_text()
    imported = {name for name in re.findall(r"(?m)^(?:import|from) (\w+)", script) if (DEMO / f"{name}.py").exists()}
    mounted = load(COMPOSE_FILES[0])["services"]["warehouse"]["volumes"]
    assert {f"./{name}.py:/{name}.py:ro" for name in imported} <= set(mounted)
    assert imported
