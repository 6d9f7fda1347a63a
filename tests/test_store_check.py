"""`hpcrun store check`: every finding from a history that is really damaged, every mend checked."""

from __future__ import annotations

import grp
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcrun.errors import HpcrunError
from hpcrun.layout import Attempt, RunPaths
from hpcrun.metrics.models import register
from hpcrun.record import Fact, encode
from hpcrun.snapshot import read_manifest
from hpcrun.store.experiments import tell_experiment
from hpcrun.store.index import generation_path
from hpcrun.store.removal import remove
from hpcrun.workflow.care.finding import Grade
from hpcrun.workflow.care.lines import lines
from hpcrun.workflow.files import take_inventory
from hpcrun.workflow.inventory import FILE
from hpcrun.workflow.listing import index
from tests.care import Care, flip, hpcrun, long_ago
from tests.ordinary_user import needs_root

UID = os.getuid()
LIVE, SEALED = 0, 1


@pytest.fixture
def care(tmp_path: Path) -> Care:
    """A history with a run in journals, a sealed one, an index, a model and a tagged experiment."""
    care = Care(tmp_path)
    care.make(LIVE)
    care.sealed(SEALED)
    index(care.session)
    register(care.own.models, "digits", str(tmp_path / "model"), {})
    tell_experiment(care.store, "digits", "tags", {"set": {"kind": "x"}})
    assert care.findings(digests=True) == []
    return care


def paths_of(care: Care, number: int) -> RunPaths:
    return care.store.paths(f"digits_{1_690_000_000 + number}_{number:08x}")


def live(care: Care, name: str = "") -> Path:
    return Path(paths_of(care, LIVE).record, name)


def seal_of(care: Care) -> Path:
    return care.run(paths_of(care, SEALED)).sealed_path(0)


def kept(care: Care) -> Path:
    return care.run(paths_of(care, SEALED)).retired(0)


def manifest_of(care: Care) -> Path:
    (path,) = Path(care.own.snapshots).glob("*.json")
    return path


def content_of(care: Care) -> Path:
    (entry,) = read_manifest(care.own, manifest_of(care).stem).files
    return Path(care.own.objects, entry.sha256[:2], entry.sha256[2:])


def sealed_alone(care: Care) -> Path:
    shutil.rmtree(kept(care))
    return seal_of(care)


def a_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.rename(path.with_name(".target"))
    path.symlink_to(".target")


def shortened(path: Path) -> None:
    mode = path.stat().st_mode
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size - 1)
    path.chmod(mode)


def rewritten(path: Path, text: str = "{]") -> None:
    path.chmod(0o600)
    path.write_text(text)


def of_another_run(care: Care) -> None:
    path = sealed_alone(care)
    path.rename(path.with_name(path.name.replace("00000001", "00000009")))


def of_a_later_hpcrun(care: Care) -> None:
    path = seal_of(care)
    path.write_bytes(path.read_bytes().replace(b"hpcrun run 1", b"hpcrun run 9", 1))


def in_another_month(care: Care) -> None:
    path = sealed_alone(care)
    month = path.parent.with_name("2020-01")
    month.mkdir()
    path.rename(month / path.name)


def orphaned(care: Care, name: str | None) -> None:
    folder = Path(paths_of(care, 7).files, "outputs")
    folder.mkdir(parents=True)
    if name is not None:
        (folder / name).write_text("weights")
    long_ago(folder.parent)


def group_writes_users(care: Care) -> None:
    care.session.workspace.chmod(0o2775)
    (care.session.workspace / "users").chmod(0o775)


Damage = Callable[[Care], object]
MENDED: dict[str, tuple[str, Damage]] = {
    "a sealed file with another byte": ("sealed file", lambda c: flip(seal_of(c))),
    "a sealed file cut short": ("sealed file", lambda c: shortened(seal_of(c))),
    "a sealed file that is a pipe": ("sealed file", lambda c: a_pipe(seal_of(c))),
    "a sealed file that is gone": ("sealed file", lambda c: seal_of(c).unlink()),
    "files.json that is none": (
        "files.json",
        lambda c: live(c, FILE).write_text('{"files": [[1, 2, 3, 4]]}'),
    ),
    "an index with another byte": (
        "index",
        lambda c: flip(generation_path(c.own.indexes, 1), -20),
    ),
    "an index cut short": ("index", lambda c: shortened(generation_path(c.own.indexes, 1))),
    "a journal that others may write": ("rights", lambda c: live(c, "agent.jsonl").chmod(0o666)),
    "a folder that others may write": ("rights", lambda c: Path(c.own.active).chmod(0o777)),
    "files that others may write": ("rights", lambda c: Path(c.own.files).chmod(0o777)),
    "a script that its owner cannot read": ("rights", lambda c: live(c, "script.sh").chmod(0o044)),
    "a content that can be written": ("rights", lambda c: content_of(c).chmod(0o644)),
    "users/ where the group replaces folders": ("rights", group_writes_users),
    "empty folders of no run": ("orphan", lambda c: orphaned(c, None)),
}
TOLD: dict[str, tuple[str, Damage]] = {
    "a garbled line": ("journal", lambda c: flip(live(c, "agent.jsonl"), 30)),
    "a garbled point": ("journal", lambda c: flip(live(c, "rank-0.metrics.jsonl"))),
    "a foreign line": (
        "journal",
        lambda c: live(c, "x.jsonl").write_bytes(encode(Fact("child", Attempt(1), 1.0, 1, {}))),
    ),
    "no run.json": ("record", lambda c: live(c, "run.json").unlink()),
    "a run.json that is none": ("record", lambda c: rewritten(live(c, "run.json"))),
    "a run.json of nothing but brackets": (
        "record",
        lambda c: rewritten(live(c, "run.json"), "[" * 100_000),
    ),
    "a run.json that is a pipe": ("record", lambda c: a_pipe(live(c, "run.json"))),
    "a journal that is a link": ("record", lambda c: a_link(live(c, "agent.jsonl"))),
    "an upload that is gone": (
        "file",
        lambda c: Path(paths_of(c, LIVE).outputs, "model").unlink(),
    ),
    "an upload of another size": (
        "file",
        lambda c: Path(paths_of(c, SEALED).outputs, "model").write_text("short"),
    ),
    "an upload that holds something else": (
        "file",
        lambda c: Path(paths_of(c, SEALED).outputs, "model").write_text("Weights 1"),
    ),
    "an image whose bytes are gone": (
        "image",
        lambda c: live(c, "rank-0.artifacts.jsonl").unlink(),
    ),
    "a sealed file that stood alone": ("sealed file", lambda c: flip(sealed_alone(c))),
    "a sealed file damaged with its journals": (
        "sealed file",
        lambda c: (flip(seal_of(c)), flip(kept(c) / "rank-0.metrics.jsonl")),
    ),
    "a sealed file of a later hpcrun": ("sealed file", of_a_later_hpcrun),
    "a sealed file of another run": ("sealed file", of_another_run),
    "a sealed file in another month": ("sealed file", in_another_month),
    "a manifest that is gone": ("snapshot", lambda c: manifest_of(c).unlink()),
    "a manifest with another byte": ("snapshot", lambda c: flip(manifest_of(c))),
    "a content that is gone": ("snapshot", lambda c: content_of(c).unlink()),
    "a content cut short": ("snapshot", lambda c: shortened(content_of(c))),
    "a content with another byte": ("snapshot", lambda c: flip(content_of(c))),
    "files of no run": ("orphan", lambda c: orphaned(c, "model")),
    "a model whose record is none": (
        "model",
        lambda c: Path(c.own.models, "digits/1/model.json").write_text('{"files": [[1]]}'),
    ),
    "a model whose file is gone": (
        "model",
        lambda c: Path(c.own.models, "digits/1/model/model").unlink(),
    ),
    "a model whose file holds something else": (
        "model",
        lambda c: flip(Path(c.own.models, "digits/1/model/model")),
    ),
    "a model.json that is a pipe": (
        "model",
        lambda c: a_pipe(Path(c.own.models, "digits/1/model.json")),
    ),
    "a tag of an experiment": (
        "journal",
        lambda c: flip(next(Path(c.own.experiments, "digits").glob("*.jsonl"))),
    ),
    "a workspace.json that is none": (
        "workspace",
        lambda c: rewritten(c.session.workspace / "workspace.json"),
    ),
    "a workspace.json that is none, and a garbled line": (
        "journal",
        lambda c: (
            rewritten(c.session.workspace / "workspace.json"),
            flip(live(c, "agent.jsonl"), 30),
        ),
    ),
    "active/ that is a link": ("record", lambda c: a_link(Path(c.own.active))),
}


def readable(care: Care) -> dict[str, set[str]]:
    """What is told of each run that can be read."""
    found = {}
    for number in (LIVE, SEALED):
        paths = paths_of(care, number)
        try:
            found[paths.run_id] = care.facts(paths)
        except (HpcrunError, OSError):
            found[paths.run_id] = set()
    return found


@pytest.mark.parametrize("name", MENDED)
def test_what_is_mended_is_sound_and_tells_all_that_it_told(care: Care, name: str) -> None:
    subject, damage = MENDED[name]
    before = readable(care)
    damage(care)
    found = care.wrong()
    # Without the file that it knows, the index is wrong as well.
    assert {subject} <= {finding.subject for finding in found} <= {subject, "index"}
    assert all(finding.mend is not None for finding in found)
    assert care.mend() != []
    assert care.wrong(digests=True) == []
    assert readable(care) == before
    assert not Path(paths_of(care, SEALED).record, "run.json").exists()  # it is sealed


@pytest.mark.parametrize("name", TOLD)
def test_what_cannot_be_mended_is_told_and_stays(care: Care, name: str) -> None:
    subject, damage = TOLD[name]
    damage(care)
    before, lying = readable(care), everything_in(care.session.workspace)
    found = care.wrong(digests=True)
    assert subject in {finding.subject for finding in found}
    # Without the file that it knows, the index is wrong as well.
    others = [finding for finding in found if finding.subject != "index"]
    assert all(f.message and f.cure and f.mend is None for f in others), others
    assert all(said.startswith("the index was made anew") for said in care.mend())
    assert readable(care) == before
    changed = everything_in(care.session.workspace) ^ lying
    changed = {path for path, _ in changed if not path.startswith(care.own.indexes)}
    assert {Path(path).name for path in changed} <= {FILE}  # what --digests adds


def everything_in(folder: Path) -> set[tuple[str, bytes | None]]:
    files = ((p, p.is_file() and not p.is_symlink()) for p in folder.rglob("*"))
    return {(str(path), path.read_bytes() if is_file else None) for path, is_file in files}


def test_a_torn_line_is_a_note(care: Care) -> None:
    """Whoever wrote it was never told that it was; garbled ones were, perhaps."""
    line = encode(Fact("tags", Attempt(1), 1.5, 9, {"set": {"a": 'x"y', "b": "ü{"}}))
    journal = live(care, "agent.jsonl")
    whole = journal.read_bytes()
    for end in range(1, len(line) - 1):
        journal.write_bytes(whole + line[:end] + b"\n" + line)
        (finding,) = care.findings() if end % 20 == 1 else [None]
        if finding is not None:
            assert (finding.grade, finding.subject) == (Grade.NOTE, "journal")
            assert finding.message.startswith("1 line is torn")
        with journal.open("rb") as file:
            *_, torn, good = lines(file)
        assert (torn.is_torn, torn.is_good, good.is_good) == (True, False, True), line[:end]
    journal.write_bytes(whole + line[:-9])  # as it is being written
    assert care.findings() == []


def test_a_line_with_another_byte_is_never_taken_for_torn(care: Care) -> None:
    line = encode(Fact("metric", Attempt(1), 1.5, 9, {"m": "loss", "v": 0.5, "s": 3}))
    journal = live(care, "more.metrics.jsonl")
    noise = random.Random(1)
    for place in range(len(line) - 1):
        data = bytearray(line)
        data[place] ^= noise.randrange(1, 256)
        if data[place] == ord("\n"):
            continue
        journal.write_bytes(data)
        with journal.open("rb") as file:
            (bad,) = lines(file)
        assert (bad.is_torn, bad.is_good) == (False, False), data


def test_places_of_garbled_lines_are_told(care: Care) -> None:
    journal = live(care, "agent.jsonl")
    journal.write_bytes(b"garbage\n" * 2 + journal.read_bytes() + b"\xff\xfe\n" * 5)
    (finding,) = care.wrong()
    assert finding.path == str(journal)
    assert finding.message == "7 lines are garbled or foreign (line 1, 2, 7 …)"


def test_what_an_upload_became_before_the_end_is_a_note(care: Care) -> None:
    paths = paths_of(care, LIVE)
    live(care, FILE).unlink()
    Path(paths.outputs, "model").write_text("trained on")
    assert [f.subject for f in care.wrong()] == ["file"]  # nobody knows when
    take_inventory(care.store, care.store.read(paths.run_id))
    (finding,) = [f for f in care.findings() if f.subject == "file"]
    assert finding.grade is Grade.NOTE and "before the run's end: outputs/model" in finding.message


def test_what_did_not_come_with_an_imported_run_is_a_note(care: Care) -> None:
    """Files that were left out, as many as were told; and its source."""
    paths = paths_of(care, LIVE)
    Path(paths.outputs, "model").unlink()
    manifest_of(care).unlink()
    assert {f.subject for f in care.wrong()} == {"file", "snapshot"}
    data = {"user": "bob", "workspace": "/elsewhere", "left_out": 1}
    care.store.append(paths, Attempt(1), "imported", data)
    found = [f for f in care.findings() if f.run_id == paths.run_id]
    assert [(f.grade, f.subject) for f in found] == [(Grade.NOTE, "file")]
    Path(paths.logs, "log.txt").unlink()
    assert "missing: 2 of " in next(f.message for f in care.wrong() if f.run_id == paths.run_id)


def test_a_newer_sealed_file_makes_an_older_one_a_note(care: Care) -> None:
    paths = paths_of(care, SEALED)
    care.store.append(paths, Attempt(1), "tags", {"set": {"a": "1"}})
    from hpcrun.store.sealing import seal

    seal(care.run(paths))
    flip(seal_of(care))
    assert [f.grade for f in care.findings()] == [Grade.NOTE]
    # Without the older one, whose journals are kept, the newer one is made again as well.
    before = readable(care)
    flip(care.run(paths).sealed_path(1))
    assert [f.subject for f in care.wrong()] == ["sealed file"] * 2
    care.mend()
    assert care.wrong() == [] and readable(care) == before
    assert care.run(paths).seals() == [2]


def test_a_damaged_file_that_was_replaced_goes_with_its_run(care: Care) -> None:
    paths = paths_of(care, SEALED)
    flip(seal_of(care))
    care.mend()
    assert [path.name for path in Path(paths.sealed).glob(".*")] == [f".{paths.run_id}.h5.damaged"]
    remove(paths)
    left = [path for path in Path(care.own.root).rglob("*") if paths.run_id in path.name]
    assert left == []


def test_where_the_kept_journals_are_not_all_nothing_is_made_of_them(care: Care) -> None:
    (kept(care) / "run.json").unlink()
    flip(seal_of(care))
    (finding,) = care.wrong()
    assert finding.mend is None and "no whole journals are kept" in finding.message


def test_an_index_that_hides_a_run(care: Care) -> None:
    """A sealed file that came back into a month that is closed, and one that went."""
    other = care.sealed(2)
    index(care.session, anew=True)
    path = care.run(other).sealed_path(0)
    path.rename(care.root / path.name)
    shutil.rmtree(care.run(other).retired(0))
    shutil.rmtree(other.files)
    (finding,) = care.wrong()
    assert "1 runs that are not there and hides 0" in finding.message
    assert care.mend() == ["the index was made anew: it knows 1 runs"]
    (care.root / path.name).rename(path)
    (finding,) = [f for f in care.wrong() if f.subject == "index"]
    assert "0 runs that are not there and hides 1" in finding.message
    care.mend()
    assert care.store.has(other.run_id, care.store.user)
    assert other.run_id in care.store.run_ids()


@needs_root
def test_a_file_of_somebody_else(care: Care) -> None:
    os.chown(live(care, "agent.jsonl"), 65534, -1)
    (finding,) = care.wrong()
    assert finding.subject == "rights" and "belongs to nobody" in finding.message
    (care.session.workspace / "users/nobody").mkdir()
    (note,) = [f for f in care.findings() if f.grade is Grade.NOTE]
    assert note.path.endswith("users/nobody")


def test_what_a_group_may_write_to_is_wrong_where_there_is_a_policy(care: Care) -> None:
    settings = care.session.workspace / "workspace.json"
    folder = Path(care.own.active)
    folder.chmod(0o2775)
    assert care.wrong() == []
    policy = {"group": grp.getgrgid(os.getgid()).gr_name, "umask": "0027", "private": False}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "policy": policy}))
    assert str(folder) in {f.path for f in care.wrong() if "others may write" in f.message}
    care.mend()
    assert care.wrong() == [] and folder.stat().st_mode & 0o7777 == 0o2755


# -- the command ----------------------------------------------------------------------------------


def test_the_command_says_what_is_wrong_and_mends(care: Care) -> None:
    assert hpcrun(care, "store", "check").stdout == "nothing is wrong\n"
    flip(seal_of(care))
    live(care, "agent.jsonl").chmod(0o666)
    done = hpcrun(care, "store", "check", code=8)
    assert f"wrong: {seal_of(care)}: its checksum is wrong" in done.stdout
    assert "2 things are wrong" in done.stderr and "--mend mends 2 of them" in done.stderr
    assert done.stderr.count("\n") == 1
    run_id = paths_of(care, SEALED).run_id
    (told,) = json.loads(hpcrun(care, "store", "check", "--json", run_id, code=8).stdout)
    assert (told["grade"], told["subject"], told["run_id"]) == ("wrong", "sealed file", run_id)
    assert (told["mendable"], told["mended"]) == (True, None)
    done = hpcrun(care, "store", "check", "--mend")
    assert f"mended: run {run_id} was sealed again: " in done.stdout
    assert done.stdout.endswith("nothing is wrong any more\n")
    assert hpcrun(care, "store", "check", "--digests").stdout == "nothing is wrong\n"
    assert "no run 'nix'" in hpcrun(care, "store", "check", "nix", code=9).stderr
    assert hpcrun(care, "store", "check", "-u", "nix", code=9)
