"""start-databricks-uploader.sh and build.sh, run with stand-ins for docker, podman and uv that record their words."""

from __future__ import annotations

import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sqlite_to_databricks_uploader as up

ROOT = Path(__file__).parent.parent
LAUNCHER = ROOT / "start-databricks-uploader.sh"
BUILD = ROOT / "databricks-uploader" / "build.sh"
STAND_IN = '#!/bin/sh\nprintf \'%s\\0\' "${0##*/}" "$@" > "$RECORD"\n'


class Place:
    """A directory with a database, a configuration and a PATH whose container engines only record."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = home / "data" / "sensor.db"
        self.database.parent.mkdir()
        with sqlite3.connect(self.database) as connection:
            connection.execute("CREATE TABLE sensor (id INTEGER PRIMARY KEY, timestamp TEXT)")
        connection.close()
        self.tools = home / "tools"
        self.tools.mkdir()
        self.install("docker")
        self.variables: dict[str, str] = {}
        self.configure(f"sqlite: {self.database}\ndatabricks_http_path: /sql/1.0/warehouses/1\n")

    def install(self, tool: str, content: str = STAND_IN) -> None:
        file = self.tools / tool
        file.write_text(content)
        file.chmod(0o755)

    def configure(self, yaml: str) -> None:
        (self.home / "config.yaml").write_text(yaml)

    @property
    def environment(self) -> dict[str, str]:
        record = {"RECORD": str(self.home / "record"), "HOME": str(self.home), "PATH": f"{self.tools}:/usr/bin:/bin"}
        return record | self.variables

    def start(self, *arguments: str, launcher: Path = LAUNCHER) -> subprocess.CompletedProcess[str]:
        """Run the launcher, by default with the configuration and one more argument."""
        command = [str(launcher), *(arguments or ("config.yaml", "--once"))]
        return subprocess.run(
            command, cwd=self.home, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def recorded(self, *arguments: str) -> list[str]:
        """The words that the engine was called with, its own name first."""
        (self.home / "record").unlink(missing_ok=True)
        result = self.start(*arguments)
        assert result.returncode == 0, result.stderr
        return (self.home / "record").read_text().split("\0")[:-1]

    def refusal(self, *arguments: str) -> str:
        """What the launcher says when it refuses, before any engine is called."""
        result = self.start(*arguments)
        assert result.returncode == 2, result.stderr
        assert not (self.home / "record").exists()
        return result.stderr


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path.resolve())


def mounts(words: list[str]) -> dict[str, str]:
    """Where each path inside comes from; a read-only mount's source ends in ` ro`."""
    found = {}
    for word in words:
        if word.startswith("type=bind,"):
            parts = dict(part.partition("=")[::2] for part in word.split(","))
            found[parts["target"]] = parts["source"] + (" ro" if "readonly" in parts else "")
    return found


def environment(words: list[str]) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == "--env"]


def tool(name: str) -> str:
    """A linter of the development group, or a skip that says what is missing."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        pytest.skip(f"{name} is not installed, so nothing was linted")
    return found


# === What is mounted


def test_the_directory_of_the_database_is_mounted_read_only(place: Place) -> None:
    words = place.recorded()
    assert mounts(words)["/data"] == f"{place.database.parent} ro"
    assert "SQLITE_PATH=/data/sensor.db" in environment(words)


def test_a_linked_database_is_mounted_where_it_really_is(place: Place) -> None:
    (place.home / "link.db").symlink_to(place.database)
    place.variables["SQLITE_PATH"] = "link.db"
    assert mounts(place.recorded())["/data"] == f"{place.database.parent} ro"


def test_the_state_directory_is_made_and_mounted_writable(place: Place) -> None:
    place.variables["STATE_DIR"] = "their state"
    words = place.recorded()
    assert mounts(words)["/state"] == str(place.home / "their state")
    assert (place.home / "their state").is_dir()
    assert "STATE_DIR=/state" in environment(words)


def test_the_configuration_is_mounted_read_only_and_its_arguments_follow(place: Place) -> None:
    words = place.recorded("config.yaml", "--once", "--filter-config", '{"a b": "it\'s"}')
    assert mounts(words)["/config.yaml"] == f"{place.home}/config.yaml ro"
    image = words.index("ghcr.io/your-org/databricks-uploader:latest")
    assert words[image + 1 :] == ["--config", "/config.yaml", "--once", "--filter-config", '{"a b": "it\'s"}']


def test_paths_among_the_arguments_win_over_variables_and_the_file(place: Place) -> None:
    place.configure("sqlite: /nowhere/file.db\nstate_dir: /nowhere/state\n")
    place.variables["SQLITE_PATH"] = "/nowhere/variable.db"
    words = place.recorded("config.yaml", "--sqlite", "data/sensor.db", "--state-dir=s", "--once")
    assert mounts(words)["/data"] == f"{place.database.parent} ro"
    assert mounts(words)["/state"] == str(place.home / "s")
    assert words[-3:] == ["--config", "/config.yaml", "--once"]


@pytest.mark.parametrize(
    "line",
    [
        "sqlite: {0}",
        'sqlite_path: "{0}"  # where it is',
        "sqlite : '{0}'",
        "sqlite: {0}   # comment\r",
        "# sqlite: /other\nsqlite: {0}\nlookback: 3",
        "\ufeffsqlite: {0}\r\nlookback: 3\r",
        "---\nsqlite: {0}",
    ],
)
def test_the_ways_to_write_a_path_in_yaml_are_understood(place: Place, line: str) -> None:
    place.configure(line.format(place.database) + "\n")
    assert mounts(place.recorded())["/data"] == f"{place.database.parent} ro"


@pytest.mark.parametrize(
    "yaml",
    [
        "sqlite: |\n  {0}\n",
        "sqlite:\n  {0}\n",
        "sqlite: &here {0}\n",
        'sqlite: "{0}\\x"\n',
        '"sqlite": {0}\n',
        "{{sqlite: {0}}}\n",
        "---\n  # all by two blanks\n  sqlite: {0}\n  lookback: 3\n",
        "sqlite: {0}\nsqlite_path: {0}\n",
    ],
)
def test_yaml_that_the_launcher_cannot_read_is_refused(place: Place, yaml: str) -> None:
    place.configure(yaml.format(place.database))
    assert "config.yaml, line" in place.refusal()


def test_a_home_directory_is_written_as_a_tilde(place: Place) -> None:
    place.configure("sqlite: ~/data/sensor.db\n")
    assert mounts(place.recorded())["/data"] == f"{place.database.parent} ro"


# === Targets


def test_a_local_lakehouse_is_mounted_writable_at_its_own_path(place: Place) -> None:
    place.configure(f"sqlite: {place.database}\nlakehouse_path: ./lake\n")
    words = place.recorded()
    assert mounts(words)[f"{place.home}/lake"] == f"{place.home}/lake"
    assert f"LAKEHOUSE_PATH={place.home}/lake" in environment(words)


def test_a_target_among_the_arguments_stays_one(place: Place) -> None:
    place.variables["DATABRICKS_HTTP_PATH"] = "/sql/1.0/warehouses/1"
    words = place.recorded("config.yaml", "--table-path", "table")
    assert words[-2:] == ["--table-path", f"{place.home}/table"]
    assert not any(word.startswith("TABLE_PATH=") for word in words)


@pytest.mark.parametrize("name", ["DATABRICKS_WAREHOUSE_ID", "DATABRICKS_ZEROBUS_ENDPOINT"])
def test_a_target_in_the_environment_keeps_that_of_the_file_out(place: Place, name: str) -> None:
    place.configure(f"sqlite: {place.database}\nlakehouse_path: ./lake\n")
    place.variables[name] = "1"
    assert not any("lake" in word for word in place.recorded())


def test_zerobus_among_the_arguments_keeps_the_target_of_the_file_out(place: Place) -> None:
    place.configure(f"sqlite: {place.database}\nlakehouse_path: ./lake\n")
    assert not any("lake" in word for word in place.recorded("config.yaml", "--zerobus-endpoint", "1.zerobus.x"))


@pytest.mark.parametrize("way", ["file", "variable", "argument"])
def test_the_directory_of_the_metrics_is_mounted_writable_at_its_own_path(place: Place, way: str) -> None:
    said = "metrics_file: out/uploader.prom\n" if way == "file" else ""
    place.configure(f"sqlite: {place.database}\ndatabricks_http_path: /sql/1.0/warehouses/1\n{said}")
    place.variables |= {"UPLOAD_METRICS_FILE": "out/uploader.prom"} if way == "variable" else {}
    arguments = ["--metrics-file", "out/uploader.prom"] if way == "argument" else []
    words = place.recorded("config.yaml", *arguments)
    assert mounts(words)[f"{place.home}/out"] == f"{place.home}/out"
    assert f"UPLOAD_METRICS_FILE={place.home}/out/uploader.prom" in environment(words)


def test_metrics_beside_the_state_need_no_mount_of_their_own(place: Place) -> None:
    words = place.recorded("config.yaml", "--metrics-file", "state/uploader.prom")
    assert "UPLOAD_METRICS_FILE=/state/uploader.prom" in environment(words)
    assert f"{place.home}/state" not in mounts(words)


@pytest.mark.parametrize(("yaml", "arguments"), [("off", []), ("m/a.prom", ["--metrics-file", "OFF"])])
def test_metrics_that_are_off_mount_nothing(place: Place, yaml: str, arguments: list[str]) -> None:
    place.configure(f"sqlite: {place.database}\nmetrics_file: {yaml}\n")
    words = place.recorded("config.yaml", *arguments)
    assert set(mounts(words)) == {"/state", "/data", "/config.yaml"}
    assert [word.upper() for word in environment(words) if "METRICS" in word] == ["UPLOAD_METRICS_FILE=OFF"]


def test_a_remote_table_is_not_mounted(place: Place) -> None:
    place.variables["TABLE_PATH"] = "s3://bucket/table"
    words = place.recorded()
    assert "TABLE_PATH=s3://bucket/table" in environment(words)
    assert not any("bucket" in path for path in mounts(words))


# === Variables and secrets


def test_variables_are_passed_by_name_and_no_secret_is_on_the_command_line(place: Place) -> None:
    place.variables |= {
        "DATABRICKS_TOKEN": "dapi-secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "EDITOR": "vi",
        "ONCE": "",
    }
    words = place.recorded()
    assert {"DATABRICKS_TOKEN", "AWS_SECRET_ACCESS_KEY"} <= set(environment(words))
    assert not {"EDITOR", "ONCE", "PATH", "HOME"} & set(environment(words))
    assert not any("secret" in word for word in words)


def test_every_setting_can_be_passed_in_the_environment(place: Place) -> None:
    mounted = {"SQLITE_PATH", "STATE_DIR", "TABLE_PATH", "LAKEHOUSE_PATH", "DATABRICKS_CA_FILE", "UPLOAD_METRICS_FILE"}
    names = {name for setting in up.SETTINGS.values() for name in setting.variables} - mounted
    place.variables |= dict.fromkeys(names, "1")
    (place.home / ".databrickscfg").touch()
    assert names <= set(environment(place.recorded()))


def test_files_named_by_variables_are_mounted_and_renamed(place: Place) -> None:
    secrets = [setting.variables[0] for setting in up.SETTINGS.values() if setting.secret]
    names = ["DATABRICKS_CA_FILE", "SSL_CERT_FILE", *(f"{secret}_FILE" for secret in secrets)]
    for name in names:
        (place.home / name.lower()).write_text("secret")
        place.variables[name] = name.lower()
    words = place.recorded()
    for name in names:
        assert mounts(words)[f"/run/secrets/{name}"] == f"{place.home / name.lower()} ro"
        assert f"{name}=/run/secrets/{name}" in environment(words)


def test_a_profile_brings_the_profile_file(place: Place) -> None:
    (place.home / ".databrickscfg").write_text("[DEFAULT]\n")
    assert "/run/secrets/DATABRICKS_CONFIG_FILE" not in mounts(place.recorded())
    words = place.recorded("config.yaml", "--databricks-config-profile", "DEFAULT")
    assert mounts(words)["/run/secrets/DATABRICKS_CONFIG_FILE"] == f"{place.home}/.databrickscfg ro"


def test_the_example_of_an_environment_file_names_every_variable() -> None:
    content = (ROOT / ".env.example").read_text()
    for setting in up.SETTINGS.values():
        assert re.search(rf"\b{setting.variables[0]}\b", content), setting.variables


def test_the_example_of_an_environment_file_has_lines_that_every_reader_takes_alike() -> None:
    for line in (ROOT / ".env.example").read_text().splitlines():
        assert re.fullmatch(r"|#|# .*|#?[A-Z][A-Z0-9_]*=[^ \"'$`#]*", line), line


# === What can't work is refused with the remedy


@pytest.mark.parametrize(
    "arguments",
    [
        ("-v", "/x/sensor.db:/data/sensor.db"),
        ("--volume=/x/sensor.db:/data/sensor.db",),
        ("--mount", "type=bind,source=/x/sensor.db,target=/data/sensor.db"),
    ],
)
def test_the_mount_of_a_single_database_file_is_refused(place: Place, arguments: tuple[str, ...]) -> None:
    assert "mounts the whole directory" in place.refusal("config.yaml", *arguments)


def test_a_mount_over_the_database_by_option_is_refused(place: Place) -> None:
    place.variables["CONTAINER_OPTIONS"] = "--network host -v /x/sensor.db:/data/sensor.db"
    assert "/data is the whole directory" in place.refusal()


def test_a_database_that_is_a_mount_of_its_own_is_refused(place: Place) -> None:
    script = f"mount --bind {place.database} {place.database} && exec {LAUNCHER} config.yaml"
    command = ["unshare", "--mount", "sh", "-ec", script]
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs root on Linux to mount a file")
    result = subprocess.run(command, cwd=place.home, env=place.environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert "Mount its directory instead." in result.stderr


def test_a_wal_database_outside_linux_is_refused(place: Place) -> None:
    with sqlite3.connect(place.database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    place.install("uname", "#!/bin/sh\necho Darwin\n")
    assert "Use --local." in place.refusal()


def test_a_missing_database_is_named(place: Place) -> None:
    place.variables["SQLITE_PATH"] = "data/none.db"
    assert f"{place.home}/data/none.db does not exist" in place.refusal()


def test_a_query_needs_no_database(place: Place) -> None:
    place.configure("sqlite: /nowhere/file.db\ndatabricks_http_path: /sql/1.0/warehouses/1\n")
    words = place.recorded("config.yaml", "--run-query", "INFO")
    assert "/data" not in mounts(words)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's runs take another user")
def test_a_state_of_root_is_refused_since_the_container_is_not_root(place: Place) -> None:
    (place.home / "state").mkdir()
    assert "chown -R 65534:65534" in place.refusal()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((" ",), "does not exist"),
        (("none.yaml",), "none.yaml does not exist"),
        (("--once",), "unknown option --once"),
        (("config.yaml", "--sqlite"), "--sqlite needs a value"),
        (("config.yaml", "--local"), "--local comes before CONFIG"),
    ],
)
def test_wrong_usage_is_answered_with_status_2(place: Place, arguments: tuple[str, ...], message: str) -> None:
    assert message in place.refusal(*arguments)


# === Engine, image, terminal


def test_podman_is_taken_where_docker_is_missing(place: Place) -> None:
    (place.tools / "docker").rename(place.tools / "podman")
    place.variables["PATH"] = without(place, "docker")
    assert place.recorded()[0] == "podman"


def test_the_engine_can_be_chosen(place: Place) -> None:
    place.install("podman")
    place.variables["CONTAINER_ENGINE"] = "podman"
    assert place.recorded()[0] == "podman"


def test_without_an_engine_the_remedy_is_named(place: Place) -> None:
    (place.tools / "docker").unlink()
    place.variables["PATH"] = without(place, "docker", "podman")
    assert "use --local" in place.refusal()


def without(place: Place, *hidden: str) -> str:
    """A PATH that has the tools of this machine but some."""
    usual = place.home / "usual"
    usual.mkdir()
    for name in ("bash", "sh", "env", "awk", "id", "ls", "mkdir", "chown", "dirname", "basename", "readlink", "uname"):
        found = shutil.which(name)
        assert found and name not in hidden
        (usual / name).symlink_to(found)
    return f"{place.tools}:{usual}"


@pytest.mark.parametrize(
    ("variables", "image"),
    [
        ({}, "ghcr.io/your-org/databricks-uploader:latest"),
        ({"TAG": "v1.0.0"}, "ghcr.io/your-org/databricks-uploader:v1.0.0"),
        ({"IMAGE": "localhost:5000/uploader", "TAG": "dev"}, "localhost:5000/uploader:dev"),
        ({"IMAGE": "local/uploader:dev"}, "local/uploader:dev"),
    ],
)
def test_image_and_tag_can_be_chosen(place: Place, variables: dict[str, str], image: str) -> None:
    place.variables |= variables
    assert image in place.recorded()


def test_the_container_has_no_privileges_and_a_read_only_root(place: Place) -> None:
    words = place.recorded()
    assert {"--rm", "--read-only"} <= set(words)
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert words[words.index("--security-opt") + 1] == "no-new-privileges"
    assert words[words.index("--user") + 1] == ("65534:65534" if os.geteuid() == 0 else f"{os.getuid()}:{os.getgid()}")


def test_a_terminal_is_asked_for_only_on_a_terminal(place: Place) -> None:
    assert "--tty" not in place.recorded()
    controller, terminal = pty.openpty()
    command = [str(LAUNCHER), "config.yaml"]
    subprocess.run(command, cwd=place.home, env=place.environment, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.close(controller)
    assert {"--tty", "--interactive"} <= set((place.home / "record").read_text().split("\0"))


def test_the_launcher_works_through_a_link_from_anywhere(place: Place) -> None:
    place.install("uv")
    link = place.home / "elsewhere" / "uploader"
    link.parent.mkdir()
    link.symlink_to(LAUNCHER)
    assert place.start("--local", "config.yaml", launcher=link).returncode == 0
    assert f"{ROOT}/databricks-uploader/sqlite_to_databricks_uploader.py" in (place.home / "record").read_text()


def test_a_local_run_goes_through_uv_with_the_same_arguments(place: Place) -> None:
    place.install("uv")
    words = place.recorded("--local", "config.yaml", "--once", "--filter-config", '{"a": "b c"}')
    assert words[:3] == ["uv", "run", "--quiet"]
    assert words[-5:] == ["--config", f"{place.home}/config.yaml", "--once", "--filter-config", '{"a": "b c"}']


def test_the_exit_status_is_that_of_the_uploader(place: Place) -> None:
    place.install("docker", "#!/bin/sh\nexit 75\n")
    assert place.start().returncode == 75


def test_help_says_how_to_use_it(place: Place) -> None:
    for script in (LAUNCHER, BUILD):
        result = place.start("--help", launcher=script)
        assert result.returncode == 0
        assert result.stdout.startswith(f"Usage: {script.name}")


# === build.sh


@pytest.fixture
def builder(place: Place) -> Path:
    """build.sh beside a requirements.lock."""
    shutil.copy(BUILD, place.home / "build.sh")
    (place.home / "requirements.lock").touch()
    return place.home / "build.sh"


def test_a_local_build_is_for_this_machine_and_loaded(place: Place, builder: Path) -> None:
    assert place.start("--tag", "dev", "--registry", "local", launcher=builder).returncode == 0
    words = (place.home / "record").read_text().split("\0")
    assert words[1:5] == ["buildx", "build", "--tag", "local/databricks-uploader:dev"]
    assert "--load" in words and "--platform" not in words


def test_a_pushed_build_has_both_platforms_sbom_and_provenance(place: Place, builder: Path) -> None:
    place.variables["PLATFORMS"] = "linux/amd64,linux/arm64"
    result = place.start("--tag", "v1.0.0", "--push", "--dry-run", launcher=builder)
    assert not (place.home / "record").exists()
    command = result.stdout.replace("\\", "")
    for words in (
        "--tag ghcr.io/your-org/databricks-uploader:v1.0.0",
        "--platform linux/amd64,linux/arm64",
        "--sbom=true --provenance=mode=max --push",
        "--build-arg VERSION=v1.0.0",
    ):
        assert words in command


def test_platforms_that_cannot_be_loaded_are_left_out_with_a_note(place: Place, builder: Path) -> None:
    place.variables["PLATFORMS"] = "linux/amd64,linux/arm64"
    result = place.start("--tag", "dev", "--registry", "local", launcher=builder)
    assert result.returncode == 0
    assert "can only be pushed" in result.stderr
    assert "--platform" not in (place.home / "record").read_text()


@pytest.mark.parametrize("arguments", [("--tag",), ("--nonsense",)])
def test_a_wrong_build_is_refused(place: Place, builder: Path, arguments: tuple[str, ...]) -> None:
    assert place.start(*arguments, launcher=builder).returncode == 2


def test_a_build_without_the_lock_is_refused(place: Place, builder: Path) -> None:
    (place.home / "requirements.lock").unlink()
    result = place.start("--tag", "dev", launcher=builder)
    assert result.returncode == 2
    assert "requirements.lock is missing" in result.stderr


# Docker without its plugin Buildx; and Podman under Docker's name.
PLAIN_DOCKER = '#!/bin/sh\n[ "$1" != buildx ] || exit 1\necho "Docker version 28.2.2, build e6534b4"\n'
ALIAS = '#!/bin/sh\necho podman version 4.3.1\n[ "$1" = --version ] || printf \'%s\\0\' "${0##*/}" "$@" > "$RECORD"\n'


def tools_alone(place: Place) -> None:
    """A PATH with the place's tools and what build.sh calls, and no engine of this machine."""
    for name in ("bash", "sh", "cat", "date", "dirname", "readlink", "git", "id"):
        if found := shutil.which(name):
            (place.tools / name).symlink_to(found)
    place.variables["PATH"] = str(place.tools)


@pytest.mark.parametrize(
    ("engines", "said"),
    [
        ({}, "neither docker nor podman is installed"),
        ({"docker": PLAIN_DOCKER}, "docker is installed, but without buildx"),
    ],
    ids=["no engine", "docker without buildx"],
)
@pytest.mark.parametrize("arguments", [("--tag", "dev"), ("--tag", "v1", "--push")], ids=["load", "push"])
def test_a_build_without_an_engine_that_can_build_is_refused_with_a_hint(
    place: Place, builder: Path, engines: dict[str, str], said: str, arguments: tuple[str, ...]
) -> None:
    tools_alone(place)
    (place.tools / "docker").unlink()
    for name, content in engines.items():
        place.install(name, content)
    result = place.start(*arguments, launcher=builder)
    first, hint = result.stderr.splitlines()
    assert (result.returncode, result.stdout, first) == (2, "", f"build.sh: {said}")
    assert hint.startswith("  Install ") and "Podman" in hint


def test_an_engine_that_is_named_but_missing_is_refused(place: Place, builder: Path) -> None:
    place.variables["CONTAINER_ENGINE"] = "nerdctl"
    result = place.start("--tag", "dev", launcher=builder)
    assert (result.returncode, result.stderr) == (2, "build.sh: CONTAINER_ENGINE: nerdctl is not installed\n")


@pytest.mark.parametrize(
    ("engines", "variables", "engine"),
    [
        ({"podman": STAND_IN}, {}, "podman"),
        ({"docker": PLAIN_DOCKER, "podman": STAND_IN}, {}, "podman"),
        ({"docker": STAND_IN, "podman": STAND_IN}, {"CONTAINER_ENGINE": "podman"}, "podman"),
        ({"docker": ALIAS}, {}, "docker"),
    ],
    ids=["alone", "beside a docker without buildx", "by name", "under docker's name"],
)
def test_podman_builds_where_docker_does_not(
    place: Place, builder: Path, engines: dict[str, str], variables: dict[str, str], engine: str
) -> None:
    tools_alone(place)
    (place.tools / "docker").unlink()
    for name, content in engines.items():
        place.install(name, content)
    place.variables.update(variables)
    result = place.start("--tag", "dev", "--registry", "local", launcher=builder)
    assert result.returncode == 0, result.stderr
    words = (place.home / "record").read_text().split("\0")
    assert words[:4] == [engine, "build", "--format", "docker"]
    assert words[-4:-1] == ["--tag", "local/databricks-uploader:dev", "."]


def test_podman_pushes_one_image_for_all_platforms_and_says_what_it_lacks(place: Place, builder: Path) -> None:
    place.variables["CONTAINER_ENGINE"] = "podman"
    result = place.start("--tag", "v1.0.0", "--push", "--dry-run", launcher=builder)
    assert not (place.home / "record").exists()
    removed, built, pushed = result.stdout.replace("\\", "").splitlines()
    image = "ghcr.io/your-org/databricks-uploader:v1.0.0"
    assert removed.strip() == f"podman manifest rm {image}"
    assert f"--platform linux/amd64,linux/arm64 --manifest {image} ." in built
    assert pushed.strip() == f"podman manifest push --all {image} docker://{image}"
    assert "without SBOM and provenance" in result.stderr


def test_the_shell_scripts_pass_shellcheck() -> None:
    scripts = [str(LAUNCHER), str(BUILD), str(BUILD.with_name("install.sh"))]
    result = subprocess.run([tool("shellcheck"), *scripts], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
