"""The cluster's processes: started with a mark, known by it, ended by number, never by name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.cluster.failure import ClusterError, tail
from tests.cluster.layout import ACCOUNTS, PATH, Layout

MARK = "HPCRUN_TEST_CLUSTER"
"""A variable in the environment of every daemon; its value is the cluster's root."""

LONG = 60.0
"""Seconds within which a machine does what it does at once, however busy it is."""


def call(words: Sequence[str], *, check: bool = True) -> str:
    """Gives what a command writes; ClusterError with its own words if it fails."""
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/"},
    )
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ClusterError(f"{' '.join(words)} exited {done.returncode}: {said[-400:]}")
    return done.stdout


def start(
    layout: Layout, name: str, words: Sequence[str], more: Mapping[str, str] | None = None
) -> None:
    """Starts a daemon in a session of its own, nobody's child; its process id goes to a file."""
    file = layout.pid_file(name)
    file.unlink(missing_ok=True)
    with layout.output(name).open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", "sh", "-c", 'echo $$ >"$0" && exec "$@"', str(file), *words],
            env={"PATH": PATH, "LANG": "C.UTF-8", MARK: str(layout.root), **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            check=True,
        )
    wait_until(lambda: _number(file) is not None, LONG, f"{name} does not start")


def pid(layout: Layout, name: str) -> int | None:
    """The process id of a running daemon that is ours, else None."""
    number = _number(layout.pid_file(name))
    if number is None:
        return None
    deadline = time.monotonic() + 5
    while _alive(number) and time.monotonic() < deadline:
        if _marked(Path(f"/proc/{number}"), layout):
            return number
        # While a process is inside execve its environment reads as empty.
        time.sleep(0.002)
    return None


def stop(layout: Layout, name: str) -> None:
    """Ends a daemon and waits until it is gone; one that does not heed TERM is killed."""
    number = pid(layout, name)
    if number is not None:
        _signal(number, signal.SIGTERM)
        try:
            wait_until(lambda: not _alive(number), 20, name)
        except ClusterError:
            kill_all([number])
    layout.pid_file(name).unlink(missing_ok=True)


def kill(layout: Layout, name: str) -> None:
    """Kills a daemon and waits until it is gone."""
    number = pid(layout, name)
    if number is not None:
        kill_all([number])


def kill_all(numbers: Sequence[int]) -> None:
    """Kills processes and waits until they are gone: on a busy machine that takes a moment."""
    for number in numbers:
        _signal(number, signal.SIGKILL)
    wait_until(lambda: not any(map(_alive, numbers)), LONG, f"these do not end: {numbers}")


def stop_all(layout: Layout) -> None:
    """Kills every process of the cluster."""
    deadline = time.monotonic() + LONG
    while found := _ours(layout):
        if time.monotonic() > deadline:
            raise ClusterError(f"these processes do not end: {sorted(found)}")
        for number in found:
            _signal(number, signal.SIGKILL)
        time.sleep(0.02)


def kill_inside(
    layout: Layout, name: str, how: signal.Signals = signal.SIGKILL, steps: bool = False
) -> bool:
    """Kills what users run in the mount namespace of a daemon; whether there was something.

    steps: and what started it.
    """
    found = False
    for number in inside_space(layout, name):
        entry = Path(f"/proc/{number}")
        if _users(entry, layout) or (steps and _is_step(entry)):
            _signal(number, how)
            found = True
    return found


def inside_space(layout: Layout, name: str) -> list[int]:
    """The processes in the mount namespace of a daemon."""
    space = _space(Path(f"/proc/{pid(layout, name)}"), "mnt")
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [n for n in numbers if space and _space(Path(f"/proc/{n}"), "mnt") == space]


def _is_step(entry: Path) -> bool:
    try:
        return (entry / "comm").read_text() == "slurmstepd\n"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float, message: str) -> None:
    """Waits for a condition; ClusterError with this message if it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(message)
        time.sleep(0.02)


def wait_for(layout: Layout, name: str, condition: Callable[[], bool]) -> None:
    """Waits until a daemon is ready; ClusterError with its last words if it ends or never is."""

    def ready() -> bool:
        if pid(layout, name) is None:
            raise ClusterError(f"{name} ended at once:\n{tail(layout.output(name))}")
        return condition()

    try:
        wait_until(ready, LONG, "")
    except ClusterError as error:
        words = str(error) or f"{name} is not ready after {LONG} s:\n{tail(layout.output(name))}"
        raise ClusterError(words) from None


def _ours(layout: Layout) -> set[int]:
    """Marked processes, the users' on hosts, and all that share a namespace with one of these.

    Namespaces are what finds jobs: slurmstepd's environment is Slurm's own business. A job may
    have left one of them, and a process of the users' numbers outside of hosts is somebody else's.
    """
    spaces: dict[int, set[str | None]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _alive(int(entry.name)):
            spaces[int(entry.name)] = {_space(entry, kind) for kind in ("mnt", "net", "uts")}
    machine = {None, *spaces.get(1, ()), *spaces.get(os.getpid(), ())}
    known = {
        number
        for number, own in spaces.items()
        if _marked(entry := Path(f"/proc/{number}"), layout)
        or (own - machine and _users(entry, layout))
    }
    inside = {space for number in known for space in spaces[number]} - machine
    return known | {number for number, own in spaces.items() if own & inside}


def _users(entry: Path, layout: Layout) -> bool:
    try:
        return entry.stat().st_uid in {layout.uid(user) for user in ACCOUNTS}
    except OSError:
        return False


def _space(entry: Path, kind: str) -> str | None:
    try:
        return str((entry / "ns" / kind).readlink())
    except OSError:
        return None


def _marked(entry: Path, layout: Layout) -> bool:
    if f"{MARK}={layout.root}".encode() in _environment(entry).split(b"\0"):
        return True
    try:
        line = (entry / "cmdline").read_bytes()
    except OSError:
        return False
    # sshd writes its title over its environment (9.2).
    return line.startswith(b"sshd:") and f" {layout.etc}/".encode() in line


def _environment(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""


def _number(file: Path) -> int | None:
    try:
        text = file.read_text()
    except OSError:
        return None
    return int(text) if text.endswith("\n") and text.strip().isdigit() else None


def _alive(number: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return ") Z" not in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False


def _signal(number: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, how)
