"""Performs the steps of a Dockerfile, and runs the result, on a machine without a container engine.

Each stage is an overlay over this machine's own root directory, so that the RUN lines are carried out as
they stand, with their absolute paths, by Linux's overlayfs and chroot. It needs root and Linux.

What is not as in a real build: this machine stands in for the base images (its Python for `python:*`, its
uv for `*/uv:*`), so the result can use files that a real image would lack. Layers, caches, labels and other
platforms are not treated.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile in upper case, each with the rest of its (continued) line."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def expand(value: str, variables: Mapping[str, str]) -> str:
    """`${NAME}` by its value; an unknown name stays, as in the shell lines that Docker doesn't expand."""
    return re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found[1], found[0]), value)


@dataclass
class Stage:
    """One FROM: its own files in `upper`, and what its instructions set."""

    base: str
    upper: Path
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin"})
    settings: dict[str, str] = field(default_factory=dict)

    def words(self, instruction: str) -> list[str]:
        """The JSON form of ENTRYPOINT, CMD or HEALTHCHECK's CMD."""
        found: list[str] = json.loads(self.settings[instruction].partition("CMD ")[2] or self.settings[instruction])
        return found


def build(dockerfile: Path, context: Path, work: Path) -> Stage:
    """Carry out `dockerfile` with the files of `context`; `work` must be on a disk. Returns the last stage."""
    stages: dict[str, Stage] = {}
    before: dict[str, str] = {}
    stage = Stage("", work)
    for word, rest in instructions(dockerfile.read_text()):
        if word == "FROM":
            base, _, name = expand(rest, before).partition(" AS ")
            stage = stages[name] = start(base, work / f"stage-{len(stages)}")
        elif word == "ARG" and not stages:
            before.update(assignments(rest))
        elif word == "ARG":
            stage.arguments |= {k: before.get(k, v) for k, v in assignments(rest).items()}
        elif word == "ENV":
            known = stage.arguments | stage.environment
            stage.environment |= {k: expand(v, known) for k, v in assignments(rest).items()}
        elif word == "COPY":
            copy(shlex.split(rest), context, stage, stages)
        elif word == "RUN":
            run_line(rest, stage)
        else:
            stage.settings[word] = rest
    return stage


def start(base: str, upper: Path) -> Stage:
    """A new stage, with this machine's Python or uv where the base image has its own."""
    upper.mkdir(parents=True)
    stage = Stage(base, upper)
    if base.startswith("python:"):
        library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix})).resolve()
        interpreter = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
        for place, real in (("bin/python3", interpreter), (f"lib/{library.name}", library)):
            open_way(upper, real)
            link = upper / "usr/local" / place
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(real)
    elif base.partition(":")[0].endswith("/uv"):
        shutil.copy2(uv_executable(), upper / "uv")
    else:
        raise ValueError(f"no stand-in for the base image {base}")
    return stage


def open_way(upper: Path, file: Path) -> None:
    """Let any user of the image reach `file`; directories of this machine itself stay as they are."""
    for directory in reversed(file.parents):
        (upper / directory.relative_to("/")).mkdir(exist_ok=True)
        (upper / directory.relative_to("/")).chmod(0o755)


def uv_executable() -> str:
    """`uv run` names itself in UV; elsewhere it is on the path."""
    found = os.environ.get("UV") or shutil.which("uv")
    if not found:
        raise FileNotFoundError("uv is not installed")
    return found


def assignments(rest: str) -> dict[str, str]:
    """`A=1 B="x y"` as a mapping; a name alone (of an ARG) has no value."""
    return {name: value for name, _, value in (word.partition("=") for word in shlex.split(rest))}


def copy(words: Sequence[str], context: Path, stage: Stage, stages: Mapping[str, Stage]) -> None:
    """COPY of one file or directory to a given path."""
    flags = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
    source, target = (word for word in words if not word.startswith("--"))
    origin = stages[flags["from"]].upper if "from" in flags else context
    destination = stage.upper / target.lstrip("/")
    destination.parent.mkdir(parents=True, exist_ok=True)
    if (origin / source.lstrip("/")).is_dir():
        shutil.copytree(origin / source.lstrip("/"), destination, symlinks=True, copy_function=os.link)
    else:
        shutil.copy2(origin / source.lstrip("/"), destination)
        if "chmod" in flags:
            destination.chmod(int(flags["chmod"], 8))


def run_line(rest: str, stage: Stage) -> None:
    """RUN, as root. Its cache mounts get the caller's own directory of the same name."""
    caches = {}
    while found := re.match(r"--mount=type=cache,target=(\S+)\s+", rest):
        caches[found[1]] = f"{Path.home() / '.cache' / Path(found[1]).name}"
        rest = rest[found.end() :]
    for source in caches.values():
        Path(source).mkdir(parents=True, exist_ok=True)
    mounts = [(source, target, "rw") for target, source in caches.items()]
    # What says where packages come from and which certificates count is this machine's.
    outside = {k: v for k, v in os.environ.items() if k.startswith(("UV_INDEX", "UV_DEFAULT_INDEX", "SSL_"))}
    result = inside(stage, ["sh", "-ec", rest], mounts, outside | {"HOME": "/root"} | stage.environment)
    if result.returncode:
        raise RuntimeError(f"RUN {rest} failed:\n{result.stderr}")


def run(
    image: Stage,
    command: Sequence[str],
    mounts: Sequence[tuple[str, str, str]] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` as a hardened container would: the image's user, no capability, a read-only root.

    `mounts` are (directory here, path inside, "ro" or "rw").
    """
    return inside(image, command, mounts, image.environment | dict(environment or {}), user=image.settings["USER"])


def inside(
    stage: Stage,
    command: Sequence[str],
    mounts: Sequence[tuple[str, str, str]],
    environment: Mapping[str, str],
    user: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run `command` in the stage's tree, in a mount namespace that ends with it. With `user`: hardened."""
    root, inner = f"{stage.upper}-root", f"{stage.upper}-work"
    for directory in (root, inner):
        Path(directory).mkdir(exist_ok=True)
    for source, target, _ in mounts:
        make_mount_point(stage.upper / target.lstrip("/"), Path(source))
    overlay = f"lowerdir=/,upperdir={stage.upper},workdir={inner}"
    steps = [["mount", "-t", "overlay", "overlay", "-o", overlay, root]]
    steps += [["mount", "--rbind", place, f"{root}{place}"] for place in ("/dev", "/proc")]
    for source, target, mode in mounts:
        steps.append(["mount", "--bind", source, f"{root}{target}"])
        if mode == "ro":
            steps.append(["mount", "-o", "remount,bind,ro", f"{root}{target}"])
    entry = ["chroot", root]
    if user:
        steps.append(["mount", "-o", "remount,ro", root])
        number, _, group = user.partition(":")
        entry += ["setpriv", f"--reuid={number}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        entry += ["--inh-caps=-all", "--bounding-set=-all"]
    entry += ["env", "-i", "-C", stage.settings.get("WORKDIR", "/"), *(f"{k}={v}" for k, v in environment.items())]
    script = "\n".join([shlex.join(step) for step in steps] + ["exec " + shlex.join([*entry, *command])])
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script],
        capture_output=True,
        text=True,
        timeout=300,
    )


def make_mount_point(place: Path, source: Path) -> None:
    """What an engine does for a mount: an empty directory, or file, to put it on."""
    if source.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def obstacle() -> str:
    """Why this machine can't do it; empty where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    missing = [tool for tool in ("unshare", "setpriv", "chroot") if not shutil.which(tool)]
    return f"needs {', '.join(missing)}" if missing else ""
