"""`hpcrun store check`, `gc` and `stats` of private runs: as of others, in their own room."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcrun.layout import RunPaths, UserPaths
from hpcrun.manifest import object_name
from hpcrun.metrics.models import register
from hpcrun.rights import kept_to
from hpcrun.store.index import generation_path
from hpcrun.store.removal import remove
from hpcrun.workflow.care.check import Asked, check
from hpcrun.workflow.care.garbage import plan_cleaning
from hpcrun.workflow.inventory import FILE
from hpcrun.workflow.listing import index
from tests.care import Care, flip, hpcrun, long_ago
from tests.ordinary_user import needs_root
from tests.test_store_check import a_pipe, rewritten
from tests.test_store_gc import clean, planned
from tests.test_store_stats import counted, told

PUBLIC, LIVE, SEALED = 0, 1, 2


@pytest.fixture
def care(tmp_path: Path) -> Care:
    """A sealed run that others may see, and of private ones one in journals and one sealed."""
    care = Care(tmp_path)
    care.sealed(PUBLIC)
    care.make(LIVE, private=True)
    care.sealed(SEALED, private=True)
    index(care.session)
    register(care.own.private.models, "digits", str(tmp_path / "model"), {})
    assert care.findings(digests=True) == []
    return care


def paths_of(care: Care, number: int) -> RunPaths:
    room = care.own if number == PUBLIC else care.own.private
    return room.run(f"digits_{1_690_000_000 + number}_{number:08x}")


def live(care: Care, name: str) -> Path:
    return Path(paths_of(care, LIVE).record, name)


def seal_of(care: Care) -> Path:
    return care.run(paths_of(care, SEALED)).sealed_path(0)


def orphaned(care: Care) -> None:
    folder = Path(paths_of(care, 7).files, "outputs")
    with kept_to(care.own.private.root):
        folder.mkdir(parents=True)
    long_ago(folder.parent)


# -- check ----------------------------------------------------------------------------------------

Damage = Callable[[Care], object]
MENDED: dict[str, tuple[str, Damage]] = {
    "a sealed file with another byte": ("sealed file", lambda c: flip(seal_of(c))),
    "a sealed file that is a pipe": ("sealed file", lambda c: a_pipe(seal_of(c))),
    "an index with another byte": (
        "index",
        lambda c: flip(generation_path(c.own.private.indexes, 1), -20),
    ),
    "files.json that is none": ("files.json", lambda c: rewritten(live(c, FILE))),
    "empty folders of no run": ("orphan", orphaned),
    "a room that the group looks into": ("rights", lambda c: Path(c.own.private.root).chmod(0o750)),
    "a folder that the group looks into": (
        "rights",
        lambda c: Path(c.own.private.active).chmod(0o2750),
    ),
    "outputs/ that all look into": (
        "rights",
        lambda c: Path(paths_of(c, LIVE).outputs).chmod(0o705),
    ),
    "a journal that the group reads": ("rights", lambda c: live(c, "agent.jsonl").chmod(0o640)),
    "a manifest that all read": (
        "rights",
        lambda c: next(Path(c.own.private.snapshots).glob("*.json")).chmod(0o444),
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_is_mended_in_the_private_room_stays_private(care: Care, name: str) -> None:
    subject, damage = MENDED[name]
    room, private = care.own.private.root, [paths_of(care, number) for number in (LIVE, SEALED)]
    before, public = [care.facts(paths) for paths in private], all_that_is_public(care)
    damage(care)
    found = care.wrong()
    # Without the file that it knows, the index is wrong as well.
    assert {subject} <= {finding.subject for finding in found} <= {subject, "index"}
    assert all(f.mend is not None and Path(f.path).is_relative_to(room) for f in found)
    assert care.mend() != []
    assert care.wrong(digests=True) == []
    assert [care.facts(paths) for paths in private] == before
    assert all_that_is_public(care) == public
    assert open_to_others(care) == []


def all_that_is_public(care: Care) -> dict[Path, bytes | None]:
    """All in the user's folder but what is private."""
    root = Path(care.own.root)
    found = [p for p in root.rglob("*") if not p.is_relative_to(care.own.private.root)]
    return {path: path.read_bytes() if path.is_file() else None for path in found}


def open_to_others(care: Care) -> list[Path]:
    """What is private and not its user's alone, but for what scripts wrote, and pipes."""
    room = Path(care.own.private.root)
    found = [p for p in (room, *room.rglob("*")) if p.is_dir() or p.is_file()]
    found = [path for path in found if path.stat().st_mode & 0o077]
    return [path for path in found if not {"outputs", "logs"} & {*path.parts[:-1]}]


def test_a_sealed_run_of_which_only_journals_are_kept_comes_back(care: Care) -> None:
    """Nothing tells any more that it was private, but where they lie."""
    paths = paths_of(care, SEALED)
    before, public = care.facts(paths), all_that_is_public(care)
    seal_of(care).unlink()
    for folder in (paths.files, paths.record):
        shutil.rmtree(folder)
    assert {f.subject for f in care.wrong()} == {"sealed file", "index"}
    care.mend()
    assert care.facts(paths) == before and all_that_is_public(care) == public
    assert care.run(paths).seals() == [1] and open_to_others(care) == []


def test_things_of_one_kind_are_mended_each_for_itself(care: Care) -> None:
    """The first generation of either index, and files.json of two runs."""
    other = care.make(3, private=True)
    care.findings(digests=True)  # takes files.json
    for room in care.store.rooms():
        flip(generation_path(room.indexes, 1), -20)
    for path in (live(care, FILE), Path(other.record, FILE)):
        rewritten(path)
    told = json.loads(hpcrun(care, "store", "check", "--mend", "--json").stdout)
    assert sorted(each["subject"] for each in told) == ["files.json"] * 2 + ["index"] * 2
    assert [each["mended"] for each in told if each["subject"] == "index"] == [
        "the index was made anew: it knows 1 runs"
    ] * 2
    assert care.wrong() == []


def test_what_is_damaged_in_the_private_room_is_told(care: Care) -> None:
    """Of runs and of what is none; or of a run that is named alone."""
    flip(live(care, "agent.jsonl"), 30)
    flip(Path(care.own.private.models, "digits/1/model/model"))
    flip(next(p for p in Path(care.own.private.objects).rglob("*") if p.is_file()))
    found = {(f.subject, f.run_id) for f in care.wrong(digests=True)}
    paths, sealed = paths_of(care, LIVE), paths_of(care, SEALED)
    assert found == {("journal", paths.run_id), ("model", None), ("snapshot", sealed.run_id)}
    flip(seal_of(care))
    names = [paths.run_id, paths_of(care, PUBLIC).run_id]
    told = json.loads(hpcrun(care, "store", "check", "--json", *names, code=8).stdout)
    assert [(each["subject"], each["run_id"]) for each in told] == [("journal", paths.run_id)]


@needs_root
def test_anothers_private_room_is_never_looked_at(care: Care) -> None:
    """Even by one who could."""
    flip(seal_of(care))
    Path(care.own.private.active).chmod(0o777)
    users = Path(care.own.root).parent
    shutil.move(care.own.root, users / "nobody")
    for path in (users / "nobody", *(users / "nobody").rglob("*")):
        os.lchown(path, 65534, 65534)
    found = [*check(care.session, Asked("nobody"))]
    assert found == []
    (user,) = told(care, "-u", "nobody")["users"]
    shutil.rmtree(users / "nobody/private")
    assert user["inodes"] == counted(users / "nobody")["inodes"]


# -- gc -------------------------------------------------------------------------------------------


def test_each_room_keeps_the_snapshots_of_its_own_runs(care: Care) -> None:
    """Of three sources: one that runs of both rooms need, one of a private run alone, and one of a
    public run alone; each lies in both rooms."""
    sources = ["print(1)\n", "print(2)\n", "print(3)\n"]
    care.make(4, source=sources[1], private=True)
    care.make(5, source=sources[2])
    where = {
        (room.is_private, text): stored(care, room, text)
        for room in care.store.rooms()
        for text in sources
    }
    for room in care.store.rooms():
        long_ago(Path(room.snapshots))
    gone = where[False, sources[1]] | where[True, sources[2]]
    assert planned(care) == {"snapshot": gone}
    assert clean(care) == len(gone) == 4
    assert care.wrong(digests=True) == []
    remove(paths_of(care, PUBLIC))
    assert planned(care) == {"snapshot": where[False, sources[0]]}
    clean(care)
    assert care.wrong(digests=True) == []


def stored(care: Care, room: UserPaths, source: str) -> set[str]:
    """The manifest of a source that is brought to a room, and its content."""
    manifest, _ = care.source(source, room)
    (entry,) = manifest.files
    paths = (room.manifest(manifest.digest), f"{room.objects}/{object_name(entry.sha256)}")
    return {str(Path(path).relative_to(care.own.root)) for path in paths}


def test_what_killed_processes_and_seals_left_in_the_private_room_goes(care: Care) -> None:
    paths, run = paths_of(care, SEALED), care.run(paths_of(care, SEALED))
    before = care.facts(paths)
    aside = Path(care.own.private.active, ".digits_1690000009_00000009.0123abcd")
    with kept_to(care.own.private.root):
        aside.mkdir()
        (aside / "run.json").write_text("half")
    long_ago(aside)
    long_ago(run.sealed_path(0))
    assert planned(care) == {
        "leftover": {f"private/active/{aside.name}"},
        "journals": {f"private/active/{run.retired(0).name}"},
    }
    assert [f.subject for f in care.findings()] == ["leftover"]
    clean(care)
    assert not aside.exists() and not run.retired(0).exists()
    assert care.facts(paths) == before and care.findings() == []


def test_nothing_goes_where_a_private_record_cannot_be_read(care: Care) -> None:
    for room in care.store.rooms():
        care.source("print(9)\n", room)
        long_ago(Path(room.snapshots))
    assert len(planned(care)["snapshot"]) == 4
    rewritten(live(care, "run.json"))
    plan = plan_cleaning(care.session, time.time())
    assert plan.garbage == [] and paths_of(care, LIVE).run_id in plan.problems[0]


# -- stats ----------------------------------------------------------------------------------------


def test_private_runs_count_as_their_users_other_runs(care: Care) -> None:
    found = told(care)
    (user,), (experiment,) = found["users"], found["experiments"]
    sizes = ("inodes", "apparent", "allocated")
    assert {name: user[name] for name in sizes} == counted(Path(care.own.root))
    for area, folder in (("sealed", "runs"), ("snapshots", "snapshots"), ("files", "files")):
        counts = [counted(Path(room.root, folder)) for room in care.store.rooms()]
        assert user["areas"][area] == {n: sum(each[n] for each in counts) for n in sizes}, area
    runs = {run["run_id"]: run for run in found["runs"]}
    assert runs.keys() == {paths_of(care, n).run_id for n in (PUBLIC, LIVE, SEALED)}
    paths = paths_of(care, LIVE)
    of_live = [counted(Path(folder)) for folder in (paths.record, paths.files)]
    assert {name: runs[paths.run_id][name] for name in sizes} == {
        name: sum(each[name] for each in of_live) for name in sizes
    }
    assert experiment["inodes"] == sum(run["inodes"] for run in runs.values())
