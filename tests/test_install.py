"""install.sh and its unit: into a tree of its own with a stand-in for the uploader, and for real, as root, in an overlay.

The stand-in has one package, so that environments are made in a moment; what it is called with stands in its output.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import image_steps
import sqlite_to_databricks_uploader as up
from boxes import OFFLINE, ROOT, SAMPLE, SCRIPT

PROGRAM = ROOT / "databricks-uploader"
UNIT = PROGRAM / "databricks-uploader.service"
STAND_IN = """
__version__ = "{version}"
import json, os, sys
import tqdm
if "--init" in sys.argv:
    print("sqlite:", sys.argv[sys.argv.index("--init") + 2])
else:
    print(json.dumps({{"version": __version__, "arguments": sys.argv[1:], "variables": dict(os.environ)}}))
sys.exit({check} if "--check" in sys.argv else 0)
"""


def package(name: str) -> str:
    """One package of the lock, with its hashes."""
    found = re.search(rf"(?m)^{name}==.*(\n +--hash.*)+\n", (PROGRAM / "requirements.lock").read_text())
    assert found
    return found[0]


def release(folder: Path, version: str = "1.0.0", *, check: int = 0, lock: str = "") -> Path:
    """A directory with install.sh and all that it installs; the stand-in's --check ends with `check`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in ("install.sh", UNIT.name):
        shutil.copy(PROGRAM / file, folder)
    (folder / SCRIPT.name).write_text(STAND_IN.format(version=version, check=check))
    (folder / "requirements.lock").write_text(lock or package("tqdm"))
    return folder


class Tree:
    """A tree to install into, and what is in it then."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.source = folder / "source"
        self.home = self.root / "opt/databricks-uploader"
        self.etc = self.root / "etc/databricks-uploader"
        self.state = self.root / "var/lib/databricks-uploader"
        self.unit = self.root / "etc/systemd/system" / UNIT.name
        self.path = f"{Path(image_steps.uv_executable()).parent}:/usr/sbin:/usr/bin:/bin"

    def start(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """install.sh of the present release; its variables are those named here."""
        command = [str(self.source / "install.sh"), "--root", str(self.root), *arguments]
        outside = {k: v for k, v in os.environ.items() if k.startswith(("UV_", "PIP_", "SSL_", "HOME"))}
        environ = {"PATH": self.path, **outside, **variables}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200)
        if re.search(OFFLINE, done.stderr):
            pytest.skip("no package index can be reached, so nothing was installed")
        return done

    def install(self, *arguments: str, **variables: str) -> str:
        """What an installation prints that has to succeed."""
        done = self.start(*arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refusal(self, *arguments: str) -> str:
        """What is said where an installation fails."""
        done = self.start(*arguments)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def checked(self, printed: str) -> dict[str, Any]:
        """What the stand-in was called with for its check."""
        found: dict[str, Any] = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
        assert found["arguments"][-1] == "--check"
        return found

    def version(self) -> str:
        """The version that is in use."""
        return (self.home / "current").readlink().name.partition("-")[0]

    def content(self) -> dict[str, tuple[int, int, str]]:
        """Every file with its rights, time and text, or where it leads to."""
        return {str(f.relative_to(self.root)): self.look(f) for f in self.root.rglob("*") if not f.is_dir()}

    def look(self, file: Path) -> tuple[int, int, str]:
        found = file.lstat()
        text = str(file.readlink()) if file.is_symlink() else file.read_text(errors="replace")
        return stat.S_IMODE(found.st_mode), found.st_mtime_ns, text


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tree that has the first release in it, and a state."""
    tree = Tree(tmp_path_factory.mktemp("installed"))
    release(tree.source)
    tree.install("--sqlite", str(SAMPLE))
    (tree.state / "last_upload.json").write_text("a state")
    return tree.root.parent


@pytest.fixture
def tree(installed: Path, tmp_path: Path) -> Tree:
    """A copy of that tree."""
    shutil.copytree(installed, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Tree(tmp_path)


# === A tree of its own


@pytest.mark.network
def test_one_command_lays_out_program_configuration_state_and_unit(tree: Tree) -> None:
    assert tree.version() == "1.0.0"
    assert (tree.etc / "config.yaml").read_text() == f"sqlite: {SAMPLE}\n", "written by --init"
    assert tree.unit.read_text() == UNIT.read_text()
    assert stat.S_IMODE(tree.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((tree.etc / "environment").stat().st_mode) == 0o600


@pytest.mark.network
def test_what_the_unit_starts_is_what_was_installed(tree: Tree) -> None:
    (started,) = re.findall(r"(?m)^ExecStart=(.*)$", UNIT.read_text())
    (place,) = re.findall(r"(?m)^Environment=PYTHONPATH=(.*)$", UNIT.read_text())
    python, *words, _, config = (f"{tree.root}{word}" if word[0] == "/" else word for word in started.split())
    assert Path(config) == tree.etc / "config.yaml"
    command, environ = [python, "-v", *words, "--version"], {"PYTHONPATH": f"{tree.root}{place}"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["version"] == "1.0.0"
    assert re.search(rf"code object from '?{tree.home}/current/__pycache__/{SCRIPT.stem}[^/]*\.pyc", done.stderr)
    assert f"Environment=STATE_DIR=/{tree.state.relative_to(tree.root)}\n" in UNIT.read_text()


@pytest.mark.network
def test_installing_again_changes_nothing(tree: Tree) -> None:
    before = tree.content()
    assert "nothing has changed" in tree.install()
    for given in (["--sqlite", "/other.db"], ["--", "--lakehouse-path", "/lake"]):
        said = tree.install(*given)
        assert "stays as it is" in said and "nothing has changed" in said, (
            "nor does what is passed over, but it is said"
        )
    assert "stays as it is" not in tree.install()
    assert tree.content() == before


@pytest.mark.network
def test_an_upgrade_keeps_configuration_state_and_the_packages_that_are_the_same(tree: Tree) -> None:
    kept = [tree.etc / "config.yaml", tree.etc / "environment", tree.state / "last_upload.json"]
    before, environments = [tree.look(file) for file in kept], list((tree.home / "environments").iterdir())
    release(tree.source, "1.1.0")
    assert tree.checked(tree.install())["version"] == "1.1.0"
    assert tree.version() == "1.1.0"
    assert [tree.look(file) for file in kept] == before
    assert list((tree.home / "environments").iterdir()) == environments


@pytest.mark.network
def test_a_release_that_fails_its_check_leaves_the_one_before_in_use(tree: Tree) -> None:
    before = tree.content()
    release(tree.source, "1.1.0", check=1)
    with (tree.source / UNIT.name).open("a") as unit:
        unit.write("# of the new release\n")
    said = tree.refusal()
    assert re.search(r"the check of 1\.1\.0-\w+ failed; 1\.0\.0-\w+ stays in use", said)
    after = tree.content()
    assert {name: after[name] for name in before} == before, "the unit, too"
    release(tree.source, "1.1.0")
    tree.install()
    assert tree.version() == "1.1.0"


@pytest.mark.network
def test_a_first_installation_that_lacks_a_target_is_completed_by_another_run(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    release(tree.source, check=2)
    said = tree.refusal("--sqlite", str(SAMPLE))
    assert "the service was not started" in said and f"Complete {tree.etc}," in said
    assert not tree.unit.exists()
    (tree.etc / "config.yaml").write_text("mine\n")
    release(tree.source)
    tree.install()
    assert tree.unit.exists()
    assert (tree.etc / "config.yaml").read_text() == "mine\n"


@pytest.mark.network
@pytest.mark.parametrize("name", ["config.yaml", "environment"])
def test_a_configuration_that_changed_is_checked_and_taken_up(tree: Tree, name: str) -> None:
    with (tree.etc / name).open("a") as file:
        file.write("UPLOAD_SOURCE_ID=box 1=a\n" if name == "environment" else "interval: 60\n")
    checked = tree.checked(tree.install())
    assert checked["variables"].get("UPLOAD_SOURCE_ID") == ("box 1=a" if name == "environment" else None)
    assert "nothing has changed" in tree.install()


@pytest.mark.network
def test_the_check_sees_the_services_variables_and_none_of_the_callers(tree: Tree) -> None:
    (tree.etc / "environment").write_text("# A comment\nAWS_REGION=eu-west-1\n")
    variables = tree.checked(tree.install(DATABRICKS_TOKEN="the caller's", UPLOAD_INTERVAL="1"))["variables"]
    assert "the caller's" not in variables.values() and "UPLOAD_INTERVAL" not in variables
    assert (variables["AWS_REGION"], variables["STATE_DIR"]) == ("eu-west-1", str(tree.state))


@pytest.mark.network
def test_a_secret_gets_its_variable_once_and_is_for_the_service_alone(tree: Tree) -> None:
    secret = tree.etc / "secrets" / "databricks_token"
    secret.write_text("s3cret")
    secret.chmod(0o644)
    variables = tree.checked(tree.install())["variables"]
    assert variables["DATABRICKS_TOKEN_FILE"] == str(secret)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    secret.write_text("a newer one")
    assert "nothing has changed" in tree.install(), "the uploader reads it again by itself"
    assert (tree.etc / "environment").read_text().count("DATABRICKS_TOKEN_FILE=/etc/databricks-uploader/secrets/") == 1


def test_install_sh_knows_the_secrets_that_the_uploader_knows() -> None:
    (listed,) = re.findall(r"(?m)^SECRETS=\((.*)\)$", (PROGRAM / "install.sh").read_text())
    assert set(listed.split()) == {s.variables[0].lower() for s in up.SETTINGS.values() if s.secret and s.variables}


@pytest.mark.network
@pytest.mark.parametrize(
    ("pattern", "instead"), [(r"sha256:\w{8}", "sha256:00000000"), (r"(?s) *\\.*", "")], ids=["another", "none"]
)
def test_a_package_with_another_hash_or_none_is_refused_and_nothing_changes(
    tree: Tree, pattern: str, instead: str
) -> None:
    before = tree.content()
    release(tree.source, "1.1.0", lock=re.sub(pattern, instead, package("tqdm")))
    assert "the packages could not be installed" in tree.refusal()
    after = tree.content()
    assert {name: after[name] for name in before} == before


@pytest.mark.network
def test_packages_that_were_installed_in_part_are_installed_anew(tree: Tree) -> None:
    (environment,) = (tree.home / "environments").iterdir()
    (environment / ".whole").unlink()
    shutil.rmtree(environment / "lib")
    release(tree.source, "1.1.0")
    tree.install()
    assert tree.version() == "1.1.0"


@pytest.mark.network
def test_the_release_before_is_kept_and_older_ones_are_removed(tree: Tree) -> None:
    for version, lock in [("1.1.0", package("tqdm")), ("1.2.0", package("pyyaml") + package("tqdm"))]:
        release(tree.source, version, lock=lock)
        tree.install()
    assert sorted(f.name.partition("-")[0] for f in (tree.home / "releases").iterdir()) == ["1.1.0", "1.2.0"]
    release(tree.source, "1.3.0", lock=package("pyyaml") + package("tqdm"))
    tree.install()
    assert len(list((tree.home / "environments").iterdir())) == 1, "that of 1.0.0 and 1.1.0 is used no more"


@pytest.mark.network
@pytest.mark.slow
def test_pip_does_where_uv_is_missing(tmp_path: Path) -> None:
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    if subprocess.run([python, "-c", "import ensurepip"]).returncode:
        pytest.skip("this Python has no ensurepip, so pip was not tried")
    tree = Tree(tmp_path)
    tree.path = "/usr/bin:/bin"
    release(tree.source)
    tree.install("--sqlite", str(SAMPLE), "--python", str(python))
    assert tree.version() == "1.0.0"


@pytest.mark.network
def test_the_installed_uploader_can_be_run_by_hand(tree: Tree) -> None:
    said = json.loads(tree.install("--run", "--status", "--format", "json"))
    assert said["arguments"] == ["--config", str(tree.etc / "config.yaml"), "--status", "--format", "json"]


@pytest.mark.network
def test_uninstalling_leaves_configuration_and_state_and_says_where(tree: Tree) -> None:
    said = tree.install("--uninstall")
    assert str(tree.state) in said and str(tree.etc) in said
    left = {file.name for file in tree.root.rglob("*") if file.is_file()}
    assert left == {"config.yaml", "environment", "last_upload.json"}
    tree.install("--uninstall")
    tree.install()
    assert (tree.version(), (tree.state / "last_upload.json").read_text()) == ("1.0.0", "a state")


@pytest.mark.network
def test_two_installations_at_once_are_refused(tree: Tree) -> None:
    with (tree.home / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another install.sh is at work" in tree.refusal()


@pytest.mark.parametrize("arguments", [("--sqlite",), ("--nonsense",), ("stray",)])
def test_wrong_usage_ends_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    tree = Tree(tmp_path)
    release(tree.source)
    assert tree.start(*arguments).returncode == 2
    assert not tree.root.exists()


def test_without_configuration_and_database_it_says_what_is_missing(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    release(tree.source)
    assert "name the database: --sqlite FILE" in tree.refusal()
    (tree.source / "requirements.lock").unlink()
    assert "requirements.lock is missing" in tree.refusal()


# === For real: root, a user of its own, and a stand-in for systemctl that starts nothing

SYSTEMCTL = """#!/bin/sh
# Remembers what is enabled and active. A release with BROKEN in it does not start; /run/kill ends the caller.
echo "$*" >> /run/systemctl.log
case $1 in
    is-active) [ -e /run/active ] ;;
    is-enabled) [ -e /run/enabled ] ;;
    enable) touch /run/enabled ;;
    start) rm -f /run/active; ! grep -q BROKEN /opt/databricks-uploader/current/*.py && touch /run/active ;;
    stop) rm -f /run/active; if [ -e /run/kill ]; then rm /run/kill; kill $PPID; fi ;;
    disable) rm -f /run/active /run/enabled ;;
esac
"""


class Machine:
    """This machine's root directory under an overlay: what is installed stays there."""

    def __init__(self, folder: Path) -> None:
        self.stage = image_steps.Stage("", folder / "upper")
        self.upper = self.stage.upper
        self.source = self.upper / "srv/release"
        self.database = self.upper / "srv/sensor/sensor.db"
        self.database.parent.mkdir(parents=True)
        shutil.copy(SAMPLE, self.database)
        tool = self.upper / "usr/local/bin/systemctl"
        tool.parent.mkdir(parents=True)
        tool.write_text(SYSTEMCTL)
        tool.chmod(0o755)
        shutil.copy(image_steps.uv_executable(), tool.with_name("uv"))

    def sh(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command of root."""
        outside = {k: v for k, v in os.environ.items() if k.startswith(("UV_INDEX", "UV_DEFAULT_INDEX", "SSL_"))}
        outside |= {"HOME": "/root", "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin"}
        done = image_steps.inside(self.stage, ["sh", "-ec", command], [], outside)
        if re.search(OFFLINE, done.stderr):
            pytest.skip("no package index can be reached, so nothing was installed")
        return done

    def read(self, command: str) -> str:
        """What a command prints that has to succeed."""
        done = self.sh(command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def services(self) -> list[str]:
        """What systemctl was told since the last time, but for questions."""
        log = self.upper / "run/systemctl.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.split()[0] for line in lines if not line.startswith("is-")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if obstacle := image_steps.obstacle():
        pytest.skip(f"nothing can be installed for real here: {obstacle}")
    machine = Machine(tmp_path)
    if machine.sh("true").returncode:
        pytest.skip("this machine allows no overlay, so nothing was installed for real")
    return machine


@pytest.mark.network
def test_the_service_goes_on_with_the_release_that_works(machine: Machine) -> None:
    release(machine.source)
    machine.read("/srv/release/install.sh --sqlite /srv/sensor/sensor.db")
    assert machine.services() == ["stop", "daemon-reload", "enable", "start"]
    release(machine.source, "1.1.0", check=1)
    assert machine.sh("/srv/release/install.sh").returncode == 1
    assert machine.services() == ["stop", "start"], "the old one goes on"
    assert machine.sh("touch /run/kill; /srv/release/install.sh").returncode not in (0, 1)
    assert machine.services() == ["stop", "start"], "also where the installation is killed"
    release(machine.source, "1.1.0 BROKEN")
    broken = machine.sh("/srv/release/install.sh")
    assert (broken.returncode, "1.0.0" in broken.stderr) == (1, True)
    assert machine.services() == ["stop", "daemon-reload", "start", "daemon-reload", "start"]
    assert machine.read("readlink /opt/databricks-uploader/current").startswith("releases/1.0.0-")
    machine.read("rm /run/enabled; systemctl stop")
    machine.services()
    release(machine.source, "1.2.0")
    machine.read("/srv/release/install.sh")
    assert machine.services() == ["stop", "daemon-reload"], "a disabled service is upgraded, not started"
    machine.read("/srv/release/install.sh --uninstall")
    assert machine.services() == ["disable", "daemon-reload"]


@pytest.mark.network
@pytest.mark.slow
def test_a_box_is_installed_for_real_and_uploads_as_a_user_of_its_own(machine: Machine) -> None:
    shutil.copytree(PROGRAM, machine.source)
    settings = "--databricks-table readings --lakehouse-path /srv/lake"
    machine.read(
        "groupadd sensor; chgrp -R sensor /srv/sensor; chmod -R o=,g=rX /srv/sensor; umask 077; mkdir /srv/lake"
    )
    assert machine.sh(f"/srv/release/install.sh --sqlite /srv/sensor/sensor.db -- {settings}").returncode == 1
    (machine.upper / "etc/databricks-uploader/secrets/databricks_token").write_text("s3cret")
    machine.read("chown databricks-uploader: /srv/lake")
    machine.read(f"/srv/release/install.sh --group sensor --sqlite /srv/sensor/sensor.db -- {settings}")
    printed = machine.read(
        "/srv/release/install.sh --run --once 2>&1; stat -c '%U %a' /var/lib/databricks-uploader /srv/lake/*"
    )
    assert "3000 rows sent" in printed
    assert printed.split()[-4:] == ["databricks-uploader", "700", "databricks-uploader", "755"]
    shown = machine.read("cd /etc/databricks-uploader; stat -c '%U %G %a' . config.yaml environment secrets secrets/*")
    assert shown.splitlines() == [
        "root databricks-uploader 750",
        "root databricks-uploader 640",
        "root root 600",
        "root databricks-uploader 750",
        "databricks-uploader databricks-uploader 600",
    ]
    assert "can be read by others" not in printed


@pytest.mark.network
@pytest.mark.slow
def test_the_playbook_installs_a_box_and_leaves_nothing_for_another_run(machine: Machine) -> None:
    """Carried out by Ansible itself, on this machine; ansible-core is fetched for it."""
    shutil.copytree(ROOT / "docs" / "fleet", machine.upper / "srv/docs/fleet")
    release(machine.upper / "srv/databricks-uploader")
    settings = {
        "databricks_host": "h.example",
        "databricks_http_path": "/sql/1.0/warehouses/1",
        "databricks_token": "s3cret",
    }
    files = {
        "vars.json": json.dumps(settings | {"ansible_become": False}),
        "boxes.ini": "[boxes]\nbox-1 ansible_connection=local\n",
    }
    for name, text in files.items():
        (machine.upper / "srv" / name).write_text(text)
    play = "cd /srv; export LC_ALL=C.UTF-8 ANSIBLE_PIPELINING=1; uv tool run --quiet --from ansible-core ansible-playbook -i boxes.ini -e @vars.json docs/fleet/ansible.yml"
    told = machine.read(play)
    assert re.search(r"box-1 +: ok=5 +changed=5 +unreachable=0 +failed=0", told), told
    assert "s3cret" not in told
    config = up.load_config({"config": machine.upper / "etc/databricks-uploader/config.yaml"}, {})
    up.refuse_targets(config)
    assert (config.source_id, config.databricks_host) == ("box-1", "h.example")
    assert machine.services() == ["stop", "daemon-reload", "enable", "start"]
    environment = machine.upper / "etc/databricks-uploader/environment"
    assert "DATABRICKS_TOKEN_FILE=/etc/databricks-uploader/secrets/databricks_token\n" in environment.read_text()
    # What Ansible sets, install.sh must leave, or the two would undo each other's work for ever.
    asked = re.findall(
        r"(?:path|dest): (/etc/[^,}]+),.*mode: \"0?(\d+)\"", (ROOT / "docs/fleet/ansible.yml").read_text()
    )
    assert len(asked) == 3
    for path, mode in asked:
        assert machine.read(f"stat -c %a {path}").strip() == mode, path
    assert "nothing has changed" in machine.read("/usr/local/src/databricks-uploader/install.sh")


# === The unit

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")


def analyzed(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", command, *arguments], capture_output=True, text=True)


def with_interpreter(unit: str) -> str:
    """A unit with an interpreter that is there; without one, systemd finds fault with it."""
    return unit.replace("/opt/databricks-uploader/current/venv/bin/python", f'"{sys.executable}"')


@needs_systemd
def test_the_unit_is_valid_and_leaves_the_service_few_rights(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(with_interpreter(UNIT.read_text()))
    verified = analyzed("verify", "--man=no", str(unit))
    assert (verified.returncode, verified.stderr) == (0, "")
    # Of 10: above 2.0, with the network that it needs, something was given away. The threshold is ten times that.
    judged = analyzed("security", "--offline=true", "--no-pager", "--threshold=20", str(unit))
    assert judged.returncode == 0, judged.stdout


@needs_systemd
def test_the_timer_and_the_drop_in_of_the_guide_are_valid(tmp_path: Path) -> None:
    drop_in, timer = re.findall(r"```ini\n(.*?)```", (ROOT / "docs" / "systemd.md").read_text(), re.DOTALL)
    (started,) = re.findall(r"(?m)^ExecStart=.*$", UNIT.read_text())
    assert f"{started} --once\n" in drop_in
    files = {UNIT.name: UNIT.read_text(), f"{UNIT.name}.d/once.conf": drop_in, f"{UNIT.stem}.timer": timer}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(with_interpreter(text))
    verified = analyzed("verify", "--man=no", *(str(tmp_path / name) for name in files if not name.endswith("conf")))
    assert (verified.returncode, verified.stderr) == (0, "")
    (tmp_path / UNIT.name).write_text(with_interpreter(files[UNIT.name]).replace("WatchdogSec", "Watchdog"))
    assert "Unknown key" in analyzed("verify", "--man=no", str(tmp_path / UNIT.name)).stderr
