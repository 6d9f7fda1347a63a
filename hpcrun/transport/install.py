"""Installs hpcrun on a cluster from wheels that come along. Standard library only; runs there.

The near side sends this text, a line of JSON and a tar of wheels, on standard input:

    ~/.local/share/hpcrun/<name>/      a virtual environment; `complete` in it is written last
    ~/.local/share/hpcrun/current      a link to one of them, set at the very end

It waits for the answer without a further byte: when that input ends, nobody wants it any more.
What was there before stays as it is: jobs that wait or run use the Python of the folder that they
were submitted from.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO


class _Failed(Exception):
    """Its text is told."""


def main() -> int:
    """0 once it is installed; prints a line that begins with `installed` or `failed`."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    os.umask(0o022)
    asked = json.loads(sys.stdin.buffer.readline())
    root = Path.home() / ".local/share/hpcrun"
    place = root / asked["name"]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root / f".{place.name}.lock"):
            if not (place / "complete").exists():
                shutil.rmtree(place, ignore_errors=True)  # what was left of one that was killed
                try:
                    _install(place, asked["python"])
                except BaseException:
                    shutil.rmtree(place, ignore_errors=True)
                    raise
        _point(root / "current", asked["name"])
    except (_Failed, OSError, EOFError, tarfile.TarError) as error:
        _tell("failed", str(error) or type(error).__name__)
        return 1
    _tell("installed", str(place))
    return 0


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Waits for who installs the same: what is not complete is no rest of one that was killed."""
    while (held := _locked(lock)) is None:
        pass
    with held:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(lock: Path) -> IO[str] | None:
    """The lock file, held; None: who had it before has removed it."""
    held = lock.open("w")
    with contextlib.suppress(OSError):  # no locks on this file system
        fcntl.flock(held, fcntl.LOCK_EX)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(held.fileno()), lock.stat()):
            return held
    held.close()
    return None


def _tell(what: str, text: str) -> None:
    sys.stdout.write(f"\n{what} {json.dumps(text)}\n")
    sys.stdout.flush()


def _install(place: Path, python: str) -> None:
    wheels = place / "wheels"
    wheels.mkdir(parents=True)
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as sent:
        for member in sent:
            content = sent.extractfile(member)
            if content is None or "/" in member.name:
                raise _Failed(f"what was sent holds {member.name!r}")
            with (wheels / member.name).open("xb") as file:
                shutil.copyfileobj(content, file)
    threading.Thread(target=_end_unwanted, daemon=True).start()
    _run("venv", [python, "-m", "venv", "--without-pip", str(place)])
    pip = next(wheels.glob("pip-*.whl"), None)
    if pip is None:
        raise _Failed("pip was not sent")
    others = [str(wheel) for wheel in wheels.glob("*.whl") if wheel != pip]
    own = str(place / "bin/python")
    install = [own, f"{pip}/pip", "install", "--quiet", "--no-index", "--no-deps", "--no-input"]
    _run("pip", [*install, "--no-cache-dir", "--disable-pip-version-check", *others])
    # A wheel that does not fit the machine is found out here, not in a job.
    _run("hpcrun", [own, "-c", "import h5py, hpcrun.cli.main, hpcrun.workflow.session"])
    _run("hpcrun", [str(place / "bin/hpcrun"), "--version"])
    shutil.rmtree(wheels)
    (place / "complete").touch()


def _end_unwanted() -> None:
    """Ends this program once nobody waits for it any more."""
    while os.read(0, 1 << 16):
        pass
    # Of a process with threads, any may be told; it is the first that waits, and heeds it.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _run(what: str, words: list[str]) -> None:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**variables, "PIP_CONFIG_FILE": os.devnull},
        check=False,
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise _Failed(f"{what} exited {done.returncode}: {said[-600:]}")


def _point(link: Path, name: str) -> None:
    before = link / "complete"
    if link.resolve().name != name and before.exists():
        os.utime(before)  # it was the current one until now
    aside = link.with_name(f".{link.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(name)
    aside.replace(link)


if __name__ == "__main__":
    sys.exit(main())
