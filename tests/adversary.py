"""Runs the uploader in processes of their own and lets something bad happen at chosen steps.

The program has no switches for tests. Its functions are wrapped here, in the process that runs it.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import functools
import gc
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from warehouse import trust_the_given

# The steps of a run between which it may be killed, as names in the script.
DELTA_STEPS = (
    "StateFile.load", "write_durably", "sync_directory", "StateFile.save", "Quarantine.put",
    "DeltaTarget.send", "DeltaTarget._append", "DeltaTarget.settle",
)  # fmt: skip
WAREHOUSE_STEPS = (
    "StateFile.save", "Quarantine.put", "WarehouseTarget.ready", "CopyRoute._stage",
    "InsertRoute.send", "CopyRoute.send", "WarehouseTarget.settle", "WarehouseTarget.close",
)  # fmt: skip
ZEROBUS_STEPS = (
    "StateFile.save", "Quarantine.put", "WarehouseTarget.ready", "principal_token", "ZerobusRoute.send",
    "Session.ask", "WarehouseTarget.settle", "WarehouseTarget.close",
)  # fmt: skip
# Every query of the source, and every statement.
FINE_STEPS = ("Database.table", "Session.run")

Happening = Mapping[str, Any]


class Plan:
    """What happens when, in one process.

    A happening is a mapping: `at` lists names of the script's functions, `call` is the how manieth call of any of
    them it waits for, `when` is before or after it, and `do` one of the deeds below. Steps that were
    counted and deeds that were done are added to the file `trace`, one line each.
    """

    def __init__(self, happenings: list[Happening], trace: Path) -> None:
        self.happenings = happenings
        self.trace = trace
        self.calls = [0] * len(happenings)

    def install(self, script: Any) -> None:
        """Wrap the functions that the happenings name."""
        for name in {name for happening in self.happenings for name in happening["at"]}:
            owner, _, attribute = name.rpartition(".")
            holder = getattr(script, owner) if owner else script
            setattr(holder, attribute, self._wrapped(name, getattr(holder, attribute)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def step(*arguments: Any, **options: Any) -> Any:
            due = self._counted(name)
            self._happen(name, "before", due)
            result = real(*arguments, **options)
            self._happen(name, "after", due)
            return result

        return step

    def _counted(self, name: str) -> list[Happening]:
        """The happenings whose call this is."""
        due = []
        for index, happening in enumerate(self.happenings):
            if name in happening["at"]:
                self.calls[index] += 1
                due += [happening] if happening.get("call") == self.calls[index] else []
        return due

    def _happen(self, name: str, when: str, due: list[Happening]) -> None:
        for happening in due:
            if happening["when"] == when:
                self._note(f"{happening['do']} {when} {name}")
                DEEDS[happening["do"]](happening)

    def _note(self, line: str) -> None:
        with self.trace.open("a") as opened:
            opened.write(line + "\n")


def kill(_: Happening) -> None:
    """End as in a power cut: nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminate(_: Happening) -> None:
    """The signal of a container that is stopped."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.05)  # A thread hears it.


def fill(happening: Happening) -> None:
    """Fill the disk of the directory `place` to the last byte."""
    filler = os.open(Path(happening["place"]) / "filler", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for size in (4096, 1):
        try:
            while os.write(filler, b"\0" * size):
                pass
        except OSError:
            continue
    os.close(filler)


def break_in(happening: Happening) -> None:
    """Run a program of the test's."""
    subprocess.run(happening["command"], check=True)


def sleep(happening: Happening) -> None:
    """Be slow."""
    time.sleep(happening["seconds"])


def terminate_twice(_: Happening) -> None:
    """Two signals, one and three seconds from now, as of a person who does not want to wait."""
    parent = os.getpid()
    if os.fork() == 0:
        for seconds in (1, 2):
            time.sleep(seconds)
            os.kill(parent, signal.SIGTERM)
        os._exit(0)


DEEDS: dict[str, Callable[[Happening], None]] = {
    "kill": kill, "terminate": terminate, "terminate twice": terminate_twice, "fill": fill, "run": break_in, "sleep": sleep,
}  # fmt: skip


def run(request: Mapping[str, Any]) -> int:
    """One run of the uploader as `Stage.run` asks for it; returns its exit status."""
    import sqlite_to_databricks_uploader as up

    if request["user"]:
        load_the_rest(up)
    os.environ.clear()
    os.environ.update(request["environ"])
    mount(request["mounts"])
    for name, value in request["constants"].items():
        owner, _, attribute = name.rpartition(".")
        setattr(getattr(up, owner) if owner else up, attribute, value)
    if request["later"]:
        come_later(up, request["later"])
    if request["patience"]:
        lose_patience(request["patience"])
    Plan(request["plan"], Path(request["trace"])).install(up)
    become(request["user"])
    up.heed_signals()
    return up.main(request["flags"], request["environ"])


def come_later(script: Any, seconds: float) -> None:
    """Let a warehouse's clock be so many seconds ahead, and more with each wait, which takes no time.

    Statements are sent at the true time: that is what their table's history tells, too.
    """
    real, waited = script.Session.now, [seconds]

    def wait(supervisor: Any, pause: float, stop: Any) -> bool:
        waited.append(pause)
        return bool(stop.is_set())

    script.Session.now = lambda session: real(session) + sum(waited)
    script.Route.now = lambda route: dt.datetime.fromtimestamp(real(route.session), dt.UTC).isoformat()
    script.Supervisor.wait = wait


def lose_patience(seconds: float) -> None:
    """Let the driver wait for an answer no longer than this."""
    from databricks import sql

    real = sql.connect
    setattr(sql, "connect", lambda **options: real(**{**options, "_socket_timeout": seconds}))  # noqa: B010 - a module


def mount(commands: list[str]) -> None:
    """Run commands in a mount namespace of this process's own; they are undone with its end."""
    if not commands:
        return
    new_mounts = 0x00020000  # CLONE_NEWNS of linux/sched.h; os.unshare came with Python 3.12
    if ctypes.CDLL(None, use_errno=True).unshare(new_mounts):
        raise OSError(ctypes.get_errno(), "unshare")
    for command in ["mount --make-rprivate /", *commands]:
        subprocess.run(command, shell=True, check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def load_the_rest(script: Any) -> None:
    """Deliver a row, which loads what is loaded late: Python itself may be out of reach for another user."""
    with tempfile.TemporaryDirectory() as place:
        with contextlib.closing(sqlite3.connect(f"{place}/small.db")) as database:
            database.execute("CREATE TABLE t (time TEXT)")
            database.execute("INSERT INTO t VALUES ('2026-01-01')")
            database.commit()
        files = {"SQLITE_PATH": f"{place}/small.db", "TABLE_PATH": f"{place}/table", "STATE_DIR": f"{place}/state"}
        assert script.main([], {**files, "ONCE": "1"}) == 0
    driver = script.sqlite_driver()
    ctypes.CDLL(driver)  # stays loaded, so that it is found by its name alone
    script.sqlite_driver = lambda: driver


def become(user: int) -> None:
    """Go on as another user, without the rights of root."""
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)


def begun(request: Mapping[str, Any]) -> int:
    """A run in a child of this process: its process number."""
    child = os.fork()
    if child == 0:
        console = os.open(request["console"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(console, 1)
        os.dup2(console, 2)
        try:
            status = run(request)
            sys.stdout.flush()  # As at the end of a process; `_exit` forgets what was not written yet.
            os._exit(status)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(CRASHED)
    return child


def ended(child: int) -> dict[str, int]:
    """How a child ended: its exit status, negative if a signal ended it, and its peak memory in KiB."""
    _, status, usage = os.wait4(child, 0)
    return {"status": os.waitstatus_to_exitcode(status), "peak": usage.ru_maxrss}


# The status of a run that ended with an exception that nobody had thought of.
CRASHED = 99


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer each line, runs at the same time or a branch, with a line of JSON."""
    for line in requests:
        request = json.loads(line)
        answer = (
            branched(request)
            if "pipes" in request
            else [ended(child) for child in [begun(run) for run in request["runs"]]]
        )
        print(json.dumps(answer), file=answers, flush=True)


def branched(request: Mapping[str, Any]) -> int:
    """A child that serves at two named pipes, with mounts of its own: its process number."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended
            pass
    child = os.fork()
    if child == 0:
        try:
            mount(request["mounts"])
            with open(request["pipes"][0]) as requests, open(request["pipes"][1], "w") as answers:
                serve(requests, answers)
        finally:
            os._exit(0)
    return child


def load_everything() -> None:
    """Load what a run may need, so that a child has it at once."""
    import adbc_driver_manager
    import adbc_driver_sqlite
    import arro3.core
    import databricks.sql.backend.thrift_backend
    import databricks.sql.client
    import deltalake
    import pandas

    import sqlite_to_databricks_uploader as up

    del adbc_driver_manager, adbc_driver_sqlite, arro3, databricks, deltalake, pandas, up
    trust_the_given()
    with tempfile.TemporaryDirectory() as place:
        deliver_to_nowhere(Path(place))
    gc.set_threshold(20_000, 20, 20)
    gc.freeze()  # A collection in a child would copy the pages of all of it.


def deliver_to_nowhere(place: Path) -> None:
    """Try to deliver a row where nobody listens: what Python has learned on the way, children need not learn anew."""
    import sqlite_to_databricks_uploader as up

    with contextlib.closing(sqlite3.connect(place / "small.db")) as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)")
        database.execute("INSERT INTO t VALUES (1, '2026-01-01T00:00:00Z', 1)")
        database.commit()
    nowhere = {"DATABRICKS_HOST": "localhost:9", "DATABRICKS_HTTP_PATH": "/x", "DATABRICKS_TOKEN": "x"}
    target = {"DATABRICKS_DATABASE": "s", "DATABRICKS_TABLE": "t", "STATE_DIR": str(place / "state"), "ONCE": "1"}
    for _ in range(4):
        with contextlib.redirect_stderr(io.StringIO()):
            assert up.main([], {"SQLITE_PATH": str(place / "small.db"), **nowhere, **target}) == 2
    for thread in {*threading.enumerate()} - {threading.main_thread()}:
        thread.join(60)  # A fork takes no other thread along.


# Processes that have loaded everything and that no stage uses now; they end with the tests.
IDLE: list[subprocess.Popen[str]] = []


def loaded_process() -> subprocess.Popen[str]:
    """A process that serves, and that nobody else uses."""
    if IDLE:
        return IDLE.pop()
    pipe, environ = subprocess.PIPE, {**os.environ, **environment()}
    return subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, env=environ)


class Stage:
    """Starts runs fast: a process that has loaded everything forks a child for each.

    `mounts` are commands that the runs see the effect of, nobody else.
    """

    def __init__(self, folder: Path, *mounts: str) -> None:
        self.trace = folder / "trace.txt"
        self.console = folder / "console.txt"
        self.console.touch()
        self.peak = 0
        self._said = 0
        self._process = loaded_process()
        assert self._process.stdin and self._process.stdout
        self._pid, self._requests, self._answers = self._process.pid, self._process.stdin, self._process.stdout
        if mounts:
            self._branch(folder, mounts)

    def _branch(self, folder: Path, mounts: Sequence[str]) -> None:
        """Speak from now on with a child that sees the mounts."""
        pipes = [folder / "requests", folder / "answers"]
        for pipe in pipes:
            os.mkfifo(pipe)
        self._pid = self._asked({"mounts": mounts, "pipes": [str(pipe) for pipe in pipes]})
        IDLE.append(self._process)
        self._requests, self._answers = pipes[0].open("w"), pipes[1].open()

    def _asked(self, request: Mapping[str, Any]) -> Any:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return json.loads(self._answers.readline())

    def run(
        self,
        environ: Mapping[str, str],
        *flags: str,
        plan: Sequence[Happening] = (),
        constants: Mapping[str, Any] | None = None,
        mounts: Sequence[str] = (),
        user: int = 0,
        later: float = 0,
        patience: float = 0,
    ) -> int:
        """The exit status of one run, negative if a signal ended it.

        `constants` sets constants of the script and its classes, `user` the user that it runs as, and `later` lets a
        warehouse's clock be so many seconds ahead, as if the run came as much later; waits take no time then.
        `patience` is how many seconds the driver waits for an answer.
        """
        request = {
            "environ": dict(environ), "flags": flags, "plan": list(plan), "constants": dict(constants or {}),
            "mounts": list(mounts), "user": user, "later": later, "patience": patience,
            "trace": str(self.trace), "console": str(self.console),
        }  # fmt: skip
        self._said = self.console.stat().st_size
        [answer] = self._asked({"runs": [request]})
        self.peak = answer["peak"]
        return int(answer["status"])

    def here(self, environ: Mapping[str, str], *flags: str, constants: Mapping[str, Any], later: float = 0) -> int:
        """The same in this process, which takes half of the time: nothing may end such a run."""
        import sqlite_to_databricks_uploader as up

        self._said = self.console.stat().st_size
        with contextlib.ExitStack() as undone, self.console.open("a") as console:
            for name in (*constants, "Session.now", "Route.now", "Supervisor.wait"):
                owner, _, attribute = name.rpartition(".")
                holder = getattr(up, owner)
                undone.callback(setattr, holder, attribute, getattr(holder, attribute))
                setattr(holder, attribute, constants.get(name, getattr(holder, attribute)))
            if later:
                come_later(up, later)
            with contextlib.redirect_stderr(console), contextlib.redirect_stdout(console):
                return up.main(list(flags), environ)

    def run_together(self, environs: Mapping[Path, Mapping[str, str]]) -> list[int]:
        """The exit statuses of runs at the same time; each writes to a console of its own."""
        usual = {"flags": [], "plan": [], "constants": {}, "mounts": [], "user": 0, "later": 0, "patience": 0}
        runs = [
            {**usual, "environ": dict(environ), "trace": str(self.trace), "console": str(console)}
            for console, environ in environs.items()
        ]
        return [int(answer["status"]) for answer in self._asked({"runs": runs})]

    def seen(self, path: Path) -> Path:
        """The path of a file as the runs see it, with their mounts."""
        return Path(f"/proc/{self._pid}/root{path}")

    def done(self) -> list[str]:
        """The deeds done so far."""
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    def said(self) -> str:
        """What the last run wrote."""
        return self.console.read_bytes()[self._said :].decode()

    def close(self) -> None:
        """Leave the process to the next stage; one with mounts ends."""
        if self._pid == self._process.pid:
            IDLE.append(self._process)
        else:
            self._requests.close()
            self._answers.close()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def continuous(environ: Mapping[str, str], *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """The uploader as a service that looks for new rows five times a second; killed in the end if it still runs."""
    from boxes import PROGRAM

    lasting = {name: value for name, value in environ.items() if name != "ONCE"}
    command = [*PROGRAM, "--interval", "0.2", *flags]
    process = subprocess.Popen(command, env={**lasting, "OPENBLAS_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=200)


def eventually(fact: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 60) -> bool:
    """Whether a fact comes true while a process runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if fact():
            return True
        time.sleep(0.05)
    return fact()


def environment() -> dict[str, str]:
    """The variables with which a process finds the script that the tests run."""
    import sqlite_to_databricks_uploader as up

    return {"PYTHONPATH": str(Path(up.__file__).parent), "OPENBLAS_NUM_THREADS": "1"}


if __name__ == "__main__":
    load_everything()
    serve(sys.stdin, sys.stdout)
