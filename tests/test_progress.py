"""The bar of what takes long: at a terminal, after a second, with how much and a rate."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun import progress
from hpcrun.progress import Tell
from hpcrun.snapshot import push, scan
from hpcrun.workflow.exporting import export
from hpcrun.workflow.importing import take_in
from hpcrun.workflow.seal import seal_all
from hpcrun.workflow.session import open_session
from tests.test_exchange import Quick, There
from tests.test_seal import RUN_YAML

PROGRAM = """
import sys, time
from hpcrun.cli.progress import transfer

unit = {"bytes": "", "none": None}.get(sys.argv[2], sys.argv[2])
with transfer("to [the] site", unit) as tell:
    for n in range(int(sys.argv[1]) + 1):
        if tell is not None and unit is not None:
            tell(n << 20, 12 << 20)
        if n < int(sys.argv[1]):
            time.sleep(0.15)
"""


def told(count: int, stderr: int, unit: str = "bytes") -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", PROGRAM, str(count), unit]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    return subprocess.Popen(words, stderr=stderr, env=env)


@pytest.mark.parametrize(
    ("count", "unit", "shown"),
    [
        (12, "bytes", rb"12\.0/12\.0 MiB.* [kMG]B/s"),
        (12, "runs", rb"12582912/12582912 .*\d runs/s"),
        (12, "none", rb"0:00:0\d"),
        (0, "bytes", None),
        (0, "none", None),
    ],
)
def test_a_terminal_has_a_bar_after_a_second(count: int, unit: str, shown: bytes | None) -> None:
    ours, its = os.openpty()
    text = b""
    with told(count, its, unit):
        os.close(its)
        while True:
            try:
                text += os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", text)
    assert (b"to [the] site" in plain) == (shown is not None)
    assert (re.search(shown, plain) is not None) if shown else not plain


def test_who_does_not_look_is_told_nothing() -> None:
    for unit in ("bytes", "none"):
        with told(12, subprocess.PIPE, unit) as process:
            _, text = process.communicate()
        assert text == b""


class Shown:
    """What is shown: of each thing how much was done in the end, and how much there was."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[int, int] | None] = {}

    @contextlib.contextmanager
    def __call__(self, what: str, unit: str | None) -> Iterator[Tell]:
        self.last[f"{what}, {unit}" if unit else what] = None

        def tell(done: int, total: int) -> None:
            self.last[f"{what}, {unit}" if unit else what] = (done, total)

        yield tell


def test_what_may_take_long_tells_how_far_it_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Quick(tmp_path)
    monkeypatch.chdir(quick.source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(quick.cache))
    (quick.source / "train.py").write_text("print(1)\n")
    (quick.source / "run.yaml").write_text(RUN_YAML)
    run_id = quick.json("submit", "--follow")["run_id"]
    code = tmp_path / "code"
    code.mkdir()
    for name in "abc":
        (code / name).write_bytes(name.encode() * 100)
    session, shown = open_session(given=str(quick.workspace)), Shown()
    monkeypatch.setattr(progress, "_show", shown)
    push(scan(code), code, session.store.own)
    assert [each.reason for each in seal_all(session)] == [""]
    record = session.store.read(run_id)
    export(session, [record], tmp_path / "runs.tar", ())
    take_in(open_session(given=str(There(quick).workspace)), tmp_path / "runs.tar")
    assert shown.last["reading code"] == (300, 300)
    assert shown.last["snapshot to the run history"] == (300, 300)
    assert shown.last["sealing, runs"] == shown.last["reading runs, runs"] == (1, 1)
    written = shown.last["writing the export"]
    assert written is not None and written[0] == written[1] > 0
    assert shown.last["reading runs.tar"] == written
