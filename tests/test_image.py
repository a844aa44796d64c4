"""The image: its Dockerfile read and linted, its steps carried out without a container engine, the result run."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from deltalake import DeltaTable, QueryBuilder

import image_steps
from boxes import OFFLINE

ROOT = Path(__file__).parent.parent
CONTEXT = ROOT / "databricks-uploader"
DOCKERFILE = CONTEXT / "Dockerfile"
LOCK = CONTEXT / "requirements.lock"
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
PYTHONS = ("3.11", "3.12", "3.13")


def values(instruction: str) -> list[str]:
    """All values of one instruction, with the defaults of the ARGs before the first FROM filled in."""
    found = list(image_steps.instructions(DOCKERFILE.read_text()))
    until_from = found[: [word for word, _ in found].index("FROM")]
    defaults = {name: value for _, rest in until_from for name, value in image_steps.assignments(rest).items()}
    return [image_steps.expand(rest, defaults) for word, rest in found if word == instruction]


# === The Dockerfile as it is written


def test_the_dockerfile_passes_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not hadolint:
        pytest.skip("hadolint is not installed, so the Dockerfile was not linted")
    result = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_base_images_are_pinned_by_version() -> None:
    bases = [rest.split()[0] for rest in values("FROM")]
    assert len(bases) > 1
    assert all(re.search(r":\d+\.\d+\.\d+", base) for base in bases), bases


def test_the_image_runs_as_a_numeric_user_without_rights() -> None:
    assert values("USER") == ["65534:65534"]


def test_one_volume_is_written_to() -> None:
    assert values("VOLUME") == ['["/state"]']


def test_the_lock_is_the_only_list_of_packages() -> None:
    """The environment comes from it with hashes, and from wheels: nothing is built or chosen in the image."""
    runs = " ".join(values("RUN"))
    assert "--require-hashes --no-build /src/requirements.lock" in runs
    assert not re.search(r"apt-get|pip install|[=<>]=\d", runs)


def test_the_image_says_where_it_comes_from() -> None:
    labels = image_steps.assignments(" ".join(values("LABEL")))
    names = {"title", "description", "licenses", "source", "version", "revision", "created"}
    assert {f"org.opencontainers.image.{name}" for name in names} == labels.keys()


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    copied = {rest.split()[-2] for rest in values("COPY") if "--from=" not in rest}
    lines = [line for line in (CONTEXT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines[1:]} == copied
    assert not any(fnmatch.fnmatch("databricks-uploader-config.yaml", name) for name in copied)


# === The lock


@pytest.mark.network
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_all_wheels_of_the_lock_exist(tmp_path: Path, platform: str, python: str) -> None:
    command = [image_steps.uv_executable(), "pip", "install", "--dry-run", "--target", str(tmp_path)]
    command += ["--python-version", python, "--python-platform", platform]
    command += ["--no-build", "--require-hashes", "--no-deps", "--requirement", str(LOCK)]
    result = subprocess.run(command, capture_output=True, text=True)
    if re.search(OFFLINE, result.stderr):
        pytest.skip("no package index can be reached, so the wheels were not looked up")
    assert result.returncode == 0, result.stderr


# === The image as it runs


class Container:
    """Containers of one image on the sample database, with a state and a lake that outlast them."""

    def __init__(self, image: image_steps.Stage, home: Path) -> None:
        self.image = image
        self.source = home / "data"
        self.state = home / "state"
        self.lake = home / "lake"
        for directory in (self.source, self.state, self.lake):
            directory.mkdir()
        shutil.copy(ROOT / "demo-network" / "sensor_data.db", self.source)
        for directory in (self.state, self.lake):
            os.chown(directory, 65534, 65534)
        self.config = home / "config.yaml"
        self.config.write_text(
            "sqlite: /data/sensor_data.db\nstate_dir: ./state\nlakehouse_path: /lake\ndatabricks_table: readings\n"
        )

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        mounts = [(self.source, "/data", "ro"), (self.config, "/config.yaml", "ro")]
        mounts += [(self.state, "/state", "rw"), (self.lake, "/lake", "rw")]
        return image_steps.run(self.image, command, [(str(source), target, mode) for source, target, mode in mounts])

    def upload(self) -> subprocess.CompletedProcess[str]:
        """One cycle, by the arguments that `docker run` has after the image's name."""
        return self.run([*self.image.words("ENTRYPOINT"), "--config", "/config.yaml", "--once"])

    def rows(self) -> int:
        query = QueryBuilder().register("readings", DeltaTable(str(self.lake / "raw_readings")))
        return int(query.execute("SELECT count(*) FROM readings").read_all().column(0)[0].as_py())


# Two thirds of what is compiled: the warehouse's connector needs them, files of Delta don't.
UNUSED = ("numpy", "pandas")


def lighter_context(folder: Path) -> Path:
    """The context, with a lock without what is not used here; test_install.py installs the whole lock."""
    shutil.copytree(CONTEXT, folder)
    packages = re.split(r"(?m)^(?=\S)", LOCK.read_text())
    (folder / LOCK.name).write_text("".join(p for p in packages if not p.startswith(tuple(f"{n}==" for n in UNUSED))))
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> image_steps.Stage:
    """The image, or a skip that says why it can't be made here."""
    if obstacle := image_steps.obstacle():
        pytest.skip(f"the image's steps can't be carried out: {obstacle}")
    try:
        context = lighter_context(tmp_path_factory.mktemp("context") / "context")
        return image_steps.build(DOCKERFILE, context, tmp_path_factory.mktemp("image"))
    except RuntimeError as error:
        if re.search(OFFLINE, str(error)):
            pytest.skip("no package index can be reached, so the image was not made")
        raise


@pytest.fixture
def container(image: image_steps.Stage, tmp_path: Path) -> Container:
    return Container(image, tmp_path)


@pytest.mark.slow
@pytest.mark.network
def test_the_image_uploads_the_sample_once(container: Container) -> None:
    for _ in range(2):
        result = container.upload()
        assert result.returncode == 0, result.stderr
        assert container.rows() == 3000
    assert [file.name for file in container.source.iterdir()] == ["sensor_data.db"]


@pytest.mark.slow
@pytest.mark.network
def test_the_image_is_healthy_after_a_cycle_and_not_before(container: Container) -> None:
    check = container.image.words("HEALTHCHECK")
    assert container.run(check).returncode == 1
    container.upload()
    assert container.run(check).returncode == 0


@pytest.mark.slow
@pytest.mark.network
def test_nothing_but_the_volume_can_be_written(container: Container) -> None:
    script = "id -u; for place in / /app /data /opt/venv /state; do touch $place/x 2>/dev/null && echo $place; done"
    assert container.run(["sh", "-c", script]).stdout.split() == ["65534", "/state"]


@pytest.mark.slow
@pytest.mark.network
def test_packages_are_compiled_beforehand(container: Container) -> None:
    """Python of a read-only image could not keep what it compiles, and would do it again at each start."""
    script = (
        "import deltalake, os, sqlite_to_databricks_uploader as uploader, yaml;"
        "print([os.path.exists(m.__cached__) for m in (deltalake, yaml, uploader)])"
    )
    assert container.run(["python", "-c", script]).stdout.strip() == "[True, True, True]"


@pytest.mark.slow
@pytest.mark.network
def test_the_program_runs_as_it_was_compiled(container: Container) -> None:
    entry = container.image.words("ENTRYPOINT")
    said = container.run([entry[0], "-v", *entry[1:], "--help"]).stderr
    assert re.search(r"code object from '?/app/__pycache__/sqlite_to_databricks_uploader[^/]*\.pyc", said)
