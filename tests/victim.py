"""Every command and call that looks at another's runs, in one process with limits of its own.

A program: `python victim.py MAKES`, run as the victim, with HPCRUN_WORKSPACE set; MAKES are runs of
another, as JSON name → id, and `own` the victim's. It prints what went wrong as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from hpcrun import Run, Workspace
from hpcrun.cli.main import cli
from hpcrun.cli.tensorboard import Shown
from hpcrun.errors import HpcrunError
from hpcrun.workflow.session import open_session

SECONDS = 90
MEMORY = 6 << 30

OF_A_RUN = """\
show RUN
show --json RUN
logs RUN
logs --json RUN
logs --rank 7 RUN
metrics RUN
metrics --json RUN
metrics --plot RUN
metrics --export export RUN
files RUN
files --check RUN
download RUN outputs/near
download RUN images/..
snapshot RUN
snapshot RUN --restore NEW
diff RUN OWN
compare RUN OWN
report RUN
wait --timeout 0.01 RUN
collect RUN
clean RUN
cancel RUN
delete --yes RUN
resubmit RUN
store seal RUN
"""

OF_ALL = """\
list -u bob
list -n 0 -u bob --json
list -u bob --archived --children --sort loss
list -u bob --sort=-took --json
list -u bob --status Failed
list -u root
list -u ..
list -u ../alice
list -u daemon
store index -u bob
list -u bob
show bad_
show x_17
show ../bob/active/x_1700000000_01234567
metrics --export export x_
list
list --json
list --sort loss
store seal
store index
doctor
"""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _late)
    made = json.loads(sys.argv[1])
    own = made.pop("own")
    wrong = []
    for name, run_id in made.items():
        for line in OF_A_RUN.splitlines():
            new = tempfile.mktemp(dir=".")
            places = {"RUN": run_id, "OWN": own, "NEW": new}
            words = [places.get(word, word) for word in line.split()]
            wrong += _tried(f"{name}: {line}", lambda words=words: _typed(words))
        for what, call in _calls(run_id):
            wrong += _tried(f"{name}: {what}", call)
    for line in OF_ALL.splitlines():
        wrong += _tried(line, lambda line=line: _typed(line.split()))
    print(json.dumps(wrong))


def _late(number: int, frame: object) -> None:
    raise TimeoutError(f"it takes more than {SECONDS} s")


def _typed(words: list[str]) -> None:
    """A command, whose output must not steer a terminal."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            cli.main(args=words, prog_name="hpcrun", standalone_mode=False)
        finally:
            out.flush()
            if words[0] != "logs" and b"\x1b]" in out.buffer.getvalue():  # type: ignore[attr-defined]
                raise AssertionError(f"it steers the terminal: {words}")


def _calls(run_id: str) -> Iterator[tuple[str, Callable[[], object]]]:
    workspace = Workspace.from_config()
    folder = tempfile.mkdtemp(dir=".")

    def run() -> Run:
        return Run.get(workspace, run_id)

    yield "get_details_with_logs", lambda: run().get_details_with_logs()
    yield "get_metrics", lambda: run().get_metrics()
    yield "get_children", lambda: list(run().get_children(recursive=True))
    yield "download_files", lambda: run().download_files(output_directory=folder)
    yield "get_all_logs", lambda: run().get_all_logs(folder)
    yield "restore_snapshot", lambda: run().restore_snapshot(path=folder)
    yield "tag", lambda: run().tag("x")
    yield "upload_file", lambda: run().upload_file("outputs/x", "/etc/hostname")
    yield "tensorboard", lambda: _shown(run_id, folder)


def _shown(run_id: str, folder: str) -> None:
    session = open_session()
    user, found = session.store.find(run_id)
    Shown(session, session.store.read(found, user), folder).look()


def _tried(what: str, act: Callable[[], object]) -> list[str]:
    """Nothing, or what went wrong: a fault, or more time or memory than it may take."""
    signal.alarm(SECONDS)
    try:
        act()
    except (HpcrunError, click.ClickException, SystemExit):
        pass
    except BaseException as error:  # noqa: BLE001
        where = traceback.extract_tb(error.__traceback__)[-3:]
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in where]
        return [f"{what}: {error!r:.300} at {places}"]
    finally:
        signal.alarm(0)
    return []


if __name__ == "__main__":
    os.umask(0o077)
    main()
