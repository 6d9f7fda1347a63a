"""Checking and mending under hostile hands: damage at random, kills, sealers, other users."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.errors import StoreError
from hpcrun.layout import Attempt
from hpcrun.record import Fact, encode
from hpcrun.workflow.inventory import FILE
from hpcrun.workflow.listing import index
from tests.care import Care, flip, hpcrun
from tests.ordinary_user import needs_root
from tests.test_sealing_faults import SEALER
from tests.test_store_check import LIVE, SEALED, readable

REPOSITORY = Path(__file__).parents[1]
KILLS, RUNS = 10, 5


@pytest.fixture
def care(tmp_path: Path) -> Care:
    return Care(tmp_path)


# -- at random ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Care:
    care = Care(tmp_path_factory.mktemp("template"))
    care.make(LIVE)
    paths = care.sealed(SEALED)
    care.store.append(paths, Attempt(1), "tags", {"set": {"later": "1"}})
    index(care.session)
    return care


DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "flip", "flip", "cut", "zero", "grow", "remove"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=30)
@given(DEEDS)
def test_whatever_was_damaged_nothing_more_is_lost(
    template: Care, tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[str, float, float]]
) -> None:
    """Bytes change, files are cut, filled, or go, anywhere; then all is checked and mended."""
    acknowledged = readable(template)
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(template.session.workspace, root / "history", symlinks=True)
    care = Care(root)
    files = sorted(path for path in care.session.workspace.rglob("*") if path.is_file())
    for deed, which, where in deeds:
        damaged(files[int(which * len(files))], deed, where)
    before = readable(care)
    care.findings(digests=True)
    for finding in care.wrong():
        if finding.mend is not None:
            try:
                care.mend()
            except StoreError as error:
                assert error.message
            break
    after = readable(care)
    for run_id, facts in acknowledged.items():
        assert after[run_id] >= before[run_id] & facts, deeds
    left = care.wrong()
    if not any(finding.subject == "workspace" for finding in left):  # that comes first
        assert [finding for finding in left if finding.mend is not None] == [], deeds
    shutil.rmtree(root)


def damaged(path: Path, deed: str, where: float) -> None:
    if not path.exists():
        return
    data = bytearray(path.read_bytes())
    place = int(where * len(data))
    if deed == "flip" and data:
        data[place] ^= 1 + place % 255
    elif deed == "cut":
        del data[place:]
    elif deed == "zero":
        data[place : place + 40] = bytes(len(data[place : place + 40]))
    elif deed == "grow":
        data += bytes(data[:place])
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    if deed != "remove":
        path.write_bytes(data)
        path.chmod(mode)


# -- killed, and beside others that work ----------------------------------------------------------

# Mends all that is wrong; a byte on standard output, which outlives it, tells of each.
MENDER = """\
import os, sys
from collections.abc import Iterator
from pathlib import Path
from hpcrun.workflow.care.mend import mend
from tests.care import Care

care = Care(Path(sys.argv[1]))
for finding in care.wrong():
    mend(care.session, finding)
    os.write(1, b".")
"""


def test_killed_while_it_mends_a_run_tells_what_it_told(care: Care) -> None:
    landed = 0
    for seed in range(6 * KILLS):
        runs = [care.sealed(seed * RUNS + number) for number in range(RUNS)]
        told = [care.facts(paths) for paths in runs]
        for paths in runs:
            flip(care.run(paths).sealed_path(0))
        words = [sys.executable, "-c", MENDER, str(care.root)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=REPOSITORY) as child:
            assert child.stdout is not None
            first = child.stdout.read(1)
            time.sleep(random.Random(seed).uniform(0, 0.05))
            child.send_signal(signal.SIGKILL)
            mended = len(first + child.stdout.read())
        assert [care.facts(paths) for paths in runs] == told
        landed += child.returncode == -signal.SIGKILL and 0 < mended < RUNS
        care.mend()
        assert care.wrong() == [] and [care.facts(paths) for paths in runs] == told
        shutil.rmtree(care.own.runs)
        shutil.rmtree(care.own.active)
        shutil.rmtree(care.own.files)
        care.store.prepare()
        if landed == KILLS:
            return
    pytest.fail(f"only {landed} kills landed while it was at work")


def test_nothing_seems_wrong_while_runs_are_sealed(care: Care) -> None:
    for number in range(40):
        care.make(number)
    words = [sys.executable, "-c", SEALER, str(care.session.workspace), "seal", "remove"]
    looks = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE) as sealer:
        assert sealer.stdout is not None
        sealer.stdout.readline()
        while sealer.poll() is None:
            assert care.wrong() == []
            looks += 1
    assert sealer.returncode == 0 and looks
    assert care.findings() == []


# -- other users ----------------------------------------------------------------------------------


@pytest.fixture
def cleared(care: Care) -> Iterator[Care]:
    """pytest falls over folders as deep as these when it removes what old sessions left."""
    yield care
    subprocess.run(["rm", "-rf", str(care.session.workspace)], check=True)


@needs_root
def test_others_cannot_make_a_check_fall_or_wait(cleared: Care) -> None:
    """Everything that hostile hands can put there; nothing of it is changed."""
    own = cleared.session.workspace / "users/nobody"
    run_id = "digits_1690000005_00000005"
    record, runs = own / "active" / run_id, own / "runs/2023-07"
    record.mkdir(parents=True)
    runs.mkdir(parents=True)
    request: dict[str, Any] = {"run_id": run_id, "experiment": "digits", "user": "nobody"}
    request |= {"target": "local", "created": 1.0, "snapshot": {"digest": "0" * 64}}
    (record / "run.json").write_text(json.dumps(request))
    end = {"exit_code": 0, "cause": "completed"}
    (record / "agent.jsonl").write_bytes(encode(Fact("ended", Attempt(1), 1.0, 1, end)))
    piped = record.with_name("digits_1690000004_00000004")
    for copy in (piped, record.with_name("digits_1690000003_00000003")):
        shutil.copytree(record, copy)
    os.mkfifo(piped / "pipe.jsonl")
    (record / "long.metrics.jsonl").write_bytes(b"x" * (9 << 20))
    with (record / "huge.artifacts.jsonl").open("wb") as file:
        file.truncate(1 << 40)
    (record / FILE).write_text(json.dumps({"files": [["../../../etc/passwd", 1, 1, "x"]]}))
    (own / "active" / f".sealed-{run_id}.²").mkdir()
    (own / "active" / f".sealed-{run_id}.7").symlink_to("/")
    huge = runs / f"{run_id}.1.h5"
    huge.write_bytes(b"hpcrun run 1\nsize 1099511627776\ncrc32 00000000\n".ljust(512, b"\0"))
    os.truncate(huge, 1 << 40)
    os.mkfifo(runs / "digits_1690000006_00000006.h5")
    (runs / "digits_1690000007_00000007.h5").symlink_to("/dev/zero")
    (own / "snapshots").mkdir()
    os.mkfifo(own / f"snapshots/{'0' * 64}.json")
    (own / "models/m/1").mkdir(parents=True)
    os.mkfifo(own / "models/m/1/model.json")
    (own / "index").symlink_to("/")
    below = own / "files/2023-07" / run_id / "outputs"
    below.mkdir(parents=True)
    deep = below.joinpath(*"d" * 1500)
    subprocess.run(["mkdir", "-p", str(deep)], check=True)
    subprocess.run(["chown", "-Rh", "nobody", str(own)], check=True)
    before = lying_in(own)
    done = hpcrun(cleared, "store", "check", "--digests", "-u", "nobody", "--json", code=8)
    found = json.loads(done.stdout)
    assert {"record", "snapshot", "model"} <= {f["subject"] for f in found}
    assert str(piped / "pipe.jsonl") in {f["path"] for f in found}
    assert not any(f["mended"] for f in found)
    assert (
        "is theirs to mend"
        in hpcrun(cleared, "store", "check", "--mend", "-u", "nobody", code=10).stderr
    )
    hpcrun(cleared, "store", "check", run_id, code=8)
    hpcrun(cleared, "store", "stats", "-u", "nobody")
    assert lying_in(own) == before


def lying_in(folder: Path) -> str:
    """Each path with its kind, size and time of change."""
    words = ["find", str(folder), "-printf", "%p %y %m %s %T@\\n"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
