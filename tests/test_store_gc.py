"""`hpcrun store gc`: what no run needs goes, and what a submission wants at that moment stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcrun.errors import StoreError
from hpcrun.layout import Attempt, RunPaths
from hpcrun.manifest import object_name
from hpcrun.record import Fact, encode
from hpcrun.snapshot import read_manifest
from hpcrun.snapshot.unneeded import take_away
from hpcrun.store.removal import remove
from hpcrun.store.sdk import publish
from hpcrun.store.sealing import seal, unseal
from hpcrun.workflow.care.garbage import YOUNG, clean_up, plan_cleaning
from hpcrun.workflow.code import digest_of
from hpcrun.workflow.resubmit import check as check_resubmission
from tests.care import Care, flip, hpcrun, long_ago
from tests.terminal import Terminal

ROUNDS = 150


@pytest.fixture
def care(tmp_path: Path) -> Care:
    return Care(tmp_path)


def planned(care: Care) -> dict[str, set[str]]:
    """By what, the paths below the user's folder."""
    found: dict[str, set[str]] = {}
    for each in plan_cleaning(care.session, time.time()).garbage:
        found.setdefault(each.what, set()).add(str(Path(each.path).relative_to(care.own.root)))
    return found


def clean(care: Care) -> int:
    """How many files went."""
    now = time.time()
    done = clean_up(care.session, plan_cleaning(care.session, now), now)
    assert done.problems == []
    return done.files


def gc(care: Care, *words: str) -> subprocess.CompletedProcess[str]:
    return hpcrun(care, "store", "gc", *words)


def stored(care: Care, paths: RunPaths) -> list[Path]:
    """The manifest of a run, and its contents."""
    digest = digest_of(care.store.read(paths.run_id))
    assert digest is not None
    contents = (object_name(f.sha256) for f in read_manifest(care.own, digest).files)
    return [Path(care.own.manifest(digest)), *(Path(care.own.objects, name) for name in contents)]


def test_snapshots_go_when_their_last_run_is_deleted(care: Care) -> None:
    kept, sealed = care.make(0), care.sealed(1, source="print(2)\n")
    twins = [care.make(2, source="print(3)\n"), care.sealed(3, source="print(3)\n")]
    of = {paths: stored(care, paths) for paths in (kept, sealed, *twins)}
    long_ago(Path(care.own.snapshots))
    assert planned(care) == {}
    remove(twins[0])
    assert planned(care) == {}
    remove(twins[1])
    gone = of[twins[1]]
    assert planned(care) == {"snapshot": {str(p.relative_to(care.own.root)) for p in gone}}
    assert clean(care) == 2
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in (*of[kept], *of[sealed]))
    assert care.wrong(digests=True) == []


def test_what_is_young_stays(care: Care) -> None:
    care.source()
    assert planned(care) == {}
    long_ago(Path(care.own.snapshots), days=YOUNG / 86400 - 0.1)
    assert planned(care) == {}
    long_ago(Path(care.own.snapshots), days=YOUNG / 86400 + 0.1)
    assert len(planned(care)["snapshot"]) == 2
    care.source()  # wanted again
    assert planned(care) == {}


def test_a_content_of_a_wanted_snapshot_stays(care: Care) -> None:
    """Two manifests share it; between the plan and the deed one is wanted again."""
    paths = care.make(0)
    of = stored(care, paths)
    remove(paths)
    long_ago(Path(care.own.snapshots))
    now = time.time()
    plan = plan_cleaning(care.session, now)
    assert {each.path for each in plan.garbage} == set(map(str, of))
    care.source()
    assert clean_up(care.session, plan, now).files == 0
    assert all(path.exists() for path in of)


def test_what_was_touched_at_the_last_moment_comes_back(tmp_path: Path) -> None:
    path, old = tmp_path / "a", time.time() - 3 * YOUNG
    path.write_text("x")
    assert not take_away(str(path), time.time() - YOUNG)
    assert path.read_text() == "x" and len(list(tmp_path.iterdir())) == 1
    os.utime(path, (old, old))
    assert take_away(str(path), time.time() - YOUNG)
    assert list(tmp_path.iterdir()) == [] and not take_away(str(path), 1e12)


def test_nothing_goes_where_a_record_cannot_be_read(care: Care) -> None:
    care.source("print(9)\n")
    paths = care.make(0)
    long_ago(Path(care.own.snapshots))
    Path(paths.request).write_text("{]")
    plan = plan_cleaning(care.session, time.time())
    assert (
        plan.garbage == [] and f"what run {paths.run_id} needs cannot be read" in plan.problems[0]
    )
    shutil.rmtree(paths.record)
    flip(Path(care.own.manifest(care.source()[0].digest)))
    plan = plan_cleaning(care.session, time.time())
    assert "contents of snapshots stay" in plan.problems[0]


@pytest.mark.parametrize("text", ["{]", '{"format": 99, "hpcrun": "9.9"}'])
def test_nothing_goes_where_the_workspace_is_laid_out_otherwise(care: Care, text: str) -> None:
    care.source()
    long_ago(Path(care.own.snapshots))
    assert len(planned(care)["snapshot"]) == 2
    (care.session.workspace / "workspace.json").write_text(text)
    with pytest.raises(StoreError, match=r"damaged|9\.9"):
        plan_cleaning(care.session, time.time())


def test_what_was_being_taken_away_comes_back(care: Care) -> None:
    """As a killed process leaves it: hidden, not removed yet."""
    paths = care.make(0)
    of = stored(care, paths)
    long_ago(Path(care.own.snapshots))
    for path in of:
        path.rename(path.with_name(f".{path.name}.collected"))
    assert planned(care) == {}
    assert all(path.exists() for path in of) and care.wrong(digests=True) == []


def test_leftovers_of_killed_processes_go_after_two_days(care: Care) -> None:
    paths = care.sealed(0)
    own, files = care.own, Path(paths.files)
    record = Path(care.make(1).record)
    left = [
        Path(own.active, ".digits_1690000009_00000009.0123abcd", "run.json"),
        Path(own.active, ".digits_1690000009_00000009.deleted", "run.json"),
        Path(own.active, ".sealed-digits_1690000009_00000009.0.deleted", "run.json"),
        record / ".files.json.0123abcd",
        record / "claim-1.0123abcd",
        Path(own.indexes, ".g00000001.h5.n1.7.0123abcd"),
        Path(own.snapshots, ".0123456789abcdef.0123456789ab"),
        Path(own.objects, "00", ".0123456789abcdef.0123456789ab"),
        Path(own.sdk, ".0.1.0-0123456789ab.0123abcd", "x.py"),
        Path(own.models, "digits", ".0123456789ab", "model", "x"),
        files / ".collecting-n1",
        files / "outputs/deep/.0123456789ab.part",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
        if path.is_relative_to(care.own.snapshots):
            path.chmod(0o444)
    assert planned(care) == {}
    assert care.findings() == []
    for path in left:
        long_ago(path)
        if path.parent.name.startswith(".") or path.parents[1].name.startswith("."):
            long_ago(path.parent)
            long_ago(path.parents[1]) if path.name == "x" else None
    assert len(planned(care)["leftover"]) == len(left)
    assert [f.subject for f in care.findings()] == ["leftover"]
    assert clean(care) == len(left)
    assert not any(path.exists() for path in left)
    assert care.findings() == []


def test_what_a_newer_seal_replaced_does_not_come_back(care: Care) -> None:
    paths = care.make(0)
    run = care.run(paths)
    claim, files = Path(paths.record, "claim-1"), Path(paths.record, "files.json")
    claim.write_text("an old job")
    files.write_text("of the first end")
    journal = Path(paths.record, "rank-1.metrics.jsonl")
    early = encode(Fact("metric", Attempt(1), 100.0, 1, {"m": "y", "v": 2.5}, journal.name))
    late = encode(Fact("metric", Attempt(1), 101.0, 2, {"m": "y", "v": 3.5}, journal.name))
    journal.write_bytes(late + early + early)
    seal(run)
    unseal(run)
    assert journal.read_bytes() == early + late  # rewritten, and tells the same
    claim.write_text("nobody")
    files.unlink()
    seal(run)
    told = care.facts(paths)
    assert run.retired(0).is_dir() and run.retired(1).is_dir()
    for number in run.seals():
        long_ago(run.sealed_path(number))
    clean(care)
    assert run.retired_folders() == [] and not Path(paths.record).exists()
    assert care.facts(paths) == told and list(run.metrics()["y"].values) == [2.5, 3.5]
    assert run.text("claim-1") == b"nobody" and run.text("files.json") is None


def test_sealed_journals_go_once_their_time_is_over(care: Care) -> None:
    paths = care.sealed(0)
    run = care.run(paths)
    told = care.facts(paths)
    assert planned(care) == {}
    long_ago(run.sealed_path(0))
    assert planned(care) == {"journals": {f"active/{run.retired(0).name}"}}
    assert clean(care) == 5
    assert not run.retired(0).exists() and care.facts(paths) == told
    assert care.findings() == []


def test_versions_that_no_unsealed_run_uses_go(care: Care) -> None:
    current = publish(Path(care.own.sdk))
    used, old = current.with_name("0.0.9-aaaaaaaaaaaa"), current.with_name("0.0.8-bbbbbbbbbbbb")
    for path in (used, old):
        shutil.copytree(current, path)
    words = ["/usr/bin/python3", "-I", "-S", str(used)]
    paths = care.make(0, agent={"spool": "/tmp/none", "words": words})
    long_ago(Path(care.own.sdk))
    assert planned(care) == {"sdk": {f"sdk/{old.name}"}}
    clean(care)
    assert sorted(path.name for path in Path(care.own.sdk).iterdir()) == sorted(
        [current.name, used.name]
    )
    remove(paths)
    # One that is wanted at this moment stays: publishing touches it.
    now = time.time()
    plan = plan_cleaning(care.session, now)
    os.utime(used)
    assert clean_up(care.session, plan, now).garbage == [] and used.is_dir()
    long_ago(current)
    publish(Path(care.own.sdk))
    assert current.stat().st_mtime > time.time() - 60


def test_a_version_that_a_private_run_uses_stays(care: Care) -> None:
    current = publish(Path(care.own.sdk))
    used, old = current.with_name("0.0.9-aaaaaaaaaaaa"), current.with_name("0.0.8-bbbbbbbbbbbb")
    for path in (used, old):
        shutil.copytree(current, path)
    care.store.prepare(private=True)
    care.make(0, private=True, agent={"spool": "/tmp/none", "words": ["python3", str(used)]})
    long_ago(Path(care.own.sdk))
    assert planned(care) == {"sdk": {f"sdk/{old.name}"}}


def test_a_version_that_a_resubmission_wants_is_touched(care: Care) -> None:
    used = publish(Path(care.own.sdk))
    snapshot = {
        "digest": (digest := care.source()[0].digest),
        "manifest": care.own.manifest(digest),
    }
    agent = {"spool": "/tmp/none", "words": ["python3", str(used)]}
    paths = care.sealed(0, target="local", agent=agent, snapshot=snapshot)
    long_ago(used)
    check_resubmission(care.store.read(paths.run_id), care.store)
    assert used.stat().st_mtime > time.time() - 60
    shutil.rmtree(used)
    with pytest.raises(StoreError, match=r"its hpcrun, .* is gone"):
        check_resubmission(care.store.read(paths.run_id), care.store)


def test_the_command_says_what_goes_and_asks(care: Care) -> None:
    care.source()
    assert gc(care).stdout == "there is nothing that no run needs\n"
    long_ago(Path(care.own.snapshots))
    done = gc(care)
    size = sum(p.stat().st_size for p in Path(care.own.snapshots).rglob("*") if p.is_file())
    assert f"snapshots that no run needs\t2\t{size} B" in done.stdout
    assert done.stderr == "nothing was deleted; --yes deletes\n"
    told = json.loads(gc(care, "--json").stdout)
    assert (told["deleted"], told["files"], told["bytes"]) == (False, 2, size)
    words = [sys.executable, "-m", "hpcrun", "-w", str(care.session.workspace), "store", "gc"]
    for answer, left in (("n\n", 2), ("y\n", 0)):
        terminal = Terminal(words)
        terminal.shows(r"delete 2 files for good\?")
        terminal.type(answer)
        terminal.shows("deleted")
        assert terminal.ends() == 0
        files = [p for p in Path(care.own.snapshots).rglob("*") if p.is_file()]
        assert len(files) == left
    care.source("print(4)\n")
    long_ago(Path(care.own.snapshots))
    assert json.loads(gc(care, "--yes", "--json").stdout)["deleted"] is True


# -- beside a submission that goes on -------------------------------------------------------------

# Takes away all that nobody needs at each line that comes, and says how much it was.
COLLECTOR = """\
import sys, time
from pathlib import Path
from tests.care import Own
from hpcrun.assets import Assets
from hpcrun.workflow.care.garbage import clean_up, plan_cleaning

session = Own(Path(sys.argv[1]), Assets.of(Path(sys.argv[1]), {}))
print("ready", flush=True)
for _ in sys.stdin:
    now = time.time()
    print(clean_up(session, plan_cleaning(session, now), now).files, flush=True)
"""


def test_a_snapshot_that_a_submission_wants_survives(care: Care) -> None:
    """It is old and no run needs it, and a submission begins to rely on it while it is collected:
    pushed or found, and run.json not written yet.

    It grows old between two collections: what a submission wanted does not do that during one.
    """
    words = [sys.executable, "-c", COLLECTOR, str(care.session.workspace)]
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as collector:
        assert collector.stdin is not None and collector.stdout is not None
        assert collector.stdout.readline() == "ready\n"
        manifest, _ = care.source()
        (content,) = (Path(care.own.objects, object_name(f.sha256)) for f in manifest.files)
        needed = [Path(care.own.manifest(manifest.digest)), content]
        taken = 0
        for number in range(100 * ROUNDS):
            # A collector that gets little of the processor meets few of the first rounds.
            if number >= ROUNDS and taken > ROUNDS / 20:
                break
            for path in needed:
                os.utime(path, (1e9, 1e9))
            print(file=collector.stdin, flush=True)
            time.sleep(0.0005 * (number % 7))
            paths = pushed_and_told(care, number)
            taken += int(collector.stdout.readline())
            assert all(path.exists() for path in needed)
            remove(paths)
        collector.communicate()
    assert taken > ROUNDS / 20


def pushed_and_told(care: Care, number: int) -> RunPaths:
    """As a submission does it, with a moment between the two."""
    manifest, _ = care.source()
    time.sleep(0.001)
    request = {
        "run_id": f"digits_{1_690_000_000 + number}_{number:08x}",
        "experiment": "digits",
        "user": care.store.user,
        "target": "local",
        "created": 1.0,
        "snapshot": {"digest": manifest.digest},
    }
    return care.store.create(request, "")
