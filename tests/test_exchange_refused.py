"""An export may be anybody's: whatever is wrong with it is told, and nothing of it is taken in."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hpcrun
from hpcrun.assets import Assets
from hpcrun.errors import StoreError
from hpcrun.layout import UserPaths
from hpcrun.manifest import Entry, Link, Manifest
from hpcrun.snapshot import push
from hpcrun.store import FileStore, tar
from hpcrun.store.bundle import NAME, Bundle, LinkMember, Member, with_digest
from hpcrun.store.formats import NewerFormat
from hpcrun.store.hdf5 import HEAD, Head
from hpcrun.store.packing import Source, write_bundle
from hpcrun.store.sealed import Content, open_sealed, sealed
from hpcrun.workflow.exporting import export
from hpcrun.workflow.importing import take_in
from hpcrun.workflow.listing import list_rows
from tests.ordinary_user import NOBODY, as_ordinary_user
from tests.test_history import Own
from tests.test_sealing_faults import make_run

RUN_ID = "digits_1700000000_0123abcd"


def session(root: Path) -> Own:
    root.mkdir(exist_ok=True)
    found = Own(root / "history", Assets.of(root, {}))
    found.store.prepare()
    return found


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """Three runs with files, links and a source."""
    root = tmp_path_factory.mktemp("origin")
    found = session(root)
    source = root / "source"
    source.mkdir()
    (source / "train.py").write_text("print(1)\n")
    import hashlib

    digest = hashlib.sha256(b"print(1)\n").hexdigest()
    manifest = Manifest.of([Entry("train.py", digest, 9), Link("link", "train.py")])
    push(manifest, source, found.store.own)
    for number in range(3):
        paths = make_run(found.store, number)
        request = json.loads(Path(paths.request).read_text())
        request["snapshot"] = {"digest": manifest.digest}
        Path(paths.request).write_text(json.dumps(request))
        Path(paths.outputs, "model").write_bytes(random.Random(number).randbytes(200_000))
        with Path(paths.outputs, "sparse").open("wb") as file:
            file.truncate(1 << 24)
        Path(paths.outputs, "link").symlink_to("model")
    return found


@pytest.fixture(scope="module")
def whole_file(origin: Own, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "runs.tar"
    export(origin, [origin.store.read(i) for i in origin.store.run_ids()], path, ())
    return path


@pytest.fixture
def here(tmp_path: Path) -> Own:
    return session(tmp_path / "here")


def tree(here: Own) -> list[str]:
    return sorted(str(path) for path in here.workspace.rglob("*"))


def refused(here: Own, path: Path, words: str) -> None:
    """One sentence, and nothing was taken."""
    before = tree(here)
    with pytest.raises(StoreError, match=words) as told:
        take_in(here, path)
    assert told.value.message.count("\n") == 0
    assert tree(here) == before


def test_what_is_whole_is_taken_in(origin: Own, whole_file: Path, here: Own) -> None:
    taken = take_in(here, whole_file)
    assert [run.is_new for run in taken] == [True] * 3
    for run_id in origin.store.run_ids():
        was, now = (one.store.read(run_id) for one in (origin, here))
        assert now.imported is not None and (was.attempt.undrained, now.attempt.undrained) == (
            ("n1",), (),
        )  # fmt: skip
        assert now.problems == ("records may have stayed on n1 when it was exported",)
        assert (now.state, now.verdict, now.tags) == (was.state, was.verdict, was.tags)
        a, b = (one.store.metrics(one.store.paths(run_id)) for one in (origin, here))
        assert repr(a) == repr(b)
    # November 2023 is over, and its month may be closed in the index.
    from hpcrun.workflow.listing import index

    index(here)
    assert len(list_rows(here, None)) == 3
    assert not list(Path(here.store.own.root).glob(".import-*"))


def test_an_import_into_a_closed_month_is_listed(whole_file: Path, here: Own) -> None:
    from hpcrun.store.sealing import seal
    from hpcrun.workflow.listing import index

    seal(here.store.stored(make_run(here.store, 77)))
    index(here)
    take_in(here, whole_file)
    assert len(list_rows(here, None)) == 4


def test_files_that_are_closed_to_the_reader_stay_behind() -> None:
    if os.geteuid() != 0:
        pytest.skip("files of somebody else need root")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        theirs = session(root)
        paths = make_run(theirs.store, 6)
        Path(paths.outputs, "open").write_text("open")
        Path(paths.outputs, "closed").write_text("closed")
        Path(paths.outputs, "closed").chmod(0)
        mine = root / "mine"
        mine.mkdir()
        os.chown(mine, NOBODY, -1)

        def leave() -> None:
            reader = Own(theirs.workspace, Assets.of(root, {}))
            run = reader.store.read(paths.run_id, theirs.store.user)
            done = export(reader, [run], mine / "runs.tar", ())
            (mine / "notes").write_text("\n".join(done.notes))

        assert as_ordinary_user(leave) == "no error"
        assert (
            "1 files stay behind, which you have no right to read" in (mine / "notes").read_text()
        )
        with tarfile.open(mine / "runs.tar") as archive:
            names = {Path(member).name for member in archive.getnames()}
        assert "open" in names and "closed" not in names


def test_runs_of_somebody_else_can_be_exported(here: Own, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a folder of somebody else needs root")
    theirs = FileStore(here.workspace, "nobody")
    Path(theirs.own.root).mkdir()
    for folder in ("active", "files", "snapshots/objects"):
        Path(theirs.own.root, folder).mkdir(parents=True)
    paths = make_run(theirs, 5)
    os.chown(theirs.own.root, NOBODY, -1)
    path = tmp_path / "theirs.tar"
    done = export(here, [here.store.read(paths.run_id, "nobody")], path, ())
    assert any("without its source" in note for note in done.notes)
    # Here it is already, and stays nobody's.
    assert [run.is_new for run in take_in(here, path)] == [False]
    there = session(tmp_path / "there")
    assert [(run.is_new, run.user) for run in take_in(there, path)] == [(True, "nobody")]
    # Where its files seem to lie may be a link to what only the reader can read.
    shutil.rmtree(paths.files)
    Path(paths.files).symlink_to(tmp_path)
    with pytest.raises(StoreError, match="lie in a folder of somebody else"):
        export(here, [here.store.read(paths.run_id, "nobody")], tmp_path / "other.tar", ())
    record = there.store.read(paths.run_id)
    assert record.user == there.user and record.imported is not None
    assert (record.imported.user, record.imported.workspace) == ("nobody", str(here.workspace))


@pytest.mark.parametrize("share", [0, 0.0001, 0.02, 0.3, 0.9, 0.99999])
@pytest.mark.parametrize("packed", [False, True])
def test_what_was_cut(
    whole_file: Path, here: Own, tmp_path: Path, share: float, packed: bool
) -> None:
    data = whole_file.read_bytes()
    data = gzip.compress(data, 1) if packed else data
    path = tmp_path / "cut"
    path.write_bytes(data[: int(share * len(data))])
    refused(here, path, "cut|no export of hpcrun|damaged")


def test_a_flipped_bit_anywhere(whole_file: Path, here: Own, tmp_path: Path) -> None:
    """In headers, contents, paddings, behind the end: a bit of every part."""
    data = whole_file.read_bytes()
    chance = random.Random(7)
    places = {chance.randrange(len(data)) for _ in range(12)} | {0, 130, 600, len(data) - 1}
    with tarfile.open(whole_file) as opened:
        for member in opened:
            places |= {member.offset, member.offset + 110, member.offset_data}
            if member.size % tar.BLOCK:
                places.add(member.offset_data + member.size)  # its padding
    path = tmp_path / "flipped.tar"
    for place in sorted(places):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        refused(here, path, "runs.tar|flipped.tar")


def test_what_is_no_export(here: Own, tmp_path: Path) -> None:
    path = tmp_path / "other.tar"
    with tarfile.open(path, "w") as other:
        info = tarfile.TarInfo("/etc/passwd")
        info.size = 3
        other.addfile(info, io.BytesIO(b"abc"))
    refused(here, path, "other.tar is no export of hpcrun")
    refused(here, tmp_path / "none", "No such file")
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(1 << 24)))
    refused(here, tmp_path / "bomb.gz", "no export")


# -- the manifest ---------------------------------------------------------------------------------

MONTH = "2023-11"


def manifest_of(path: Path) -> Any:
    with tarfile.open(path) as opened:
        member = opened.extractfile(NAME)
        assert member is not None
        return json.load(member)


def signed(value: Any) -> bytes:
    """A manifest whose digest fits."""
    head = {name: value[name] for name in ("format", "hpcrun")}
    rest = {name: value[name] for name in ("runs", "members") if name in value}
    return with_digest(json.dumps(head)[:-1], json.dumps(rest)[1:] + "\n")


def run(value: Any) -> Any:
    return value["runs"][0]


def files(value: Any) -> list[Any]:
    return [m for m in value["members"] if m[0].startswith("files/") and len(m) > 2]


def put(path: str) -> Callable[[Any], object]:
    """In place of the first file's path."""
    return lambda value: files(value)[0].__setitem__(0, path)


def link(target: str) -> Callable[[Any], object]:
    return lambda value: next(m for m in value["members"] if len(m) == 2).__setitem__(1, target)


OF_RUN = f"files/{MONTH}/digits_1700000002_0123abcd"

LIES: list[tuple[Callable[[Any], object], str]] = [
    (lambda v: v.update(format=2, hpcrun="9.9"), "was written in format 2, by hpcrun 9.9"),
    (lambda v: v.update(format=0), "0 is no format"),
    (lambda v: v.update(format="1"), "'1' is no format"),
    (lambda v: v.pop("members"), "manifest of .* is damaged"),
    (lambda v: run(v).update(run_id="../../x_1700000000_0123abcd"), "is no run id"),
    (lambda v: run(v).update(run_id="x"), "is no run id"),
    (lambda v: run(v).update(run_id=7), "is no run id"),
    (lambda v: run(v).update(run_id="other_1700000002_0123abcd"), "it has no|belongs to no run"),
    (lambda v: v["runs"].append(v["runs"][0]), "stands in it twice"),
    (lambda v: run(v).update(user=None), "has another form"),
    (lambda v: run(v).update(snapshot="../../../x"), "has no digest"),
    (lambda v: run(v).update(more=1), "manifest of .* is damaged"),
    (put("../../../../x"), "leads elsewhere"),
    (put("/etc/x"), "leads elsewhere"),
    (put(f"{OF_RUN}/outputs/../../x"), "leads elsewhere"),
    (put(f"{OF_RUN}/outputs//x"), "leads elsewhere"),
    (put(f"{OF_RUN}/.bashrc"), "belongs to no run"),
    (put(f"{OF_RUN}/outputs"), "lies in another file"),
    (put(f"files/{MONTH}/other_1700000000_0123abcd/outputs/x"), "belongs to no run"),
    (put("active/digits_1700000000_0123abcd/run.json"), "belongs to no run"),
    (put("index/g99999999.h5"), "belongs to no run"),
    (put(f"{OF_RUN}/outputs/link/x"), "lies in another file, or behind a link"),
    (put(f"{OF_RUN}/outputs/{'x' * 256}"), "too long"),
    (put(f"{OF_RUN}/outputs/{'x/' * 2048}x"), "too long"),
    (put("snapshots/objects/00/" + "0" * 62), "belongs to no run"),
    (lambda v: files(v)[0].__setitem__(1, -1), "damaged"),
    (lambda v: files(v)[0].__setitem__(1, 1 << 70), "damaged"),
    (lambda v: files(v)[0].__setitem__(1, 1 << 60), "are free"),
    (lambda v: files(v)[0].__setitem__(2, "x"), "damaged"),
    (lambda v: v["members"].append(files(v)[0]), "stands in it twice"),
    (lambda v: v["members"].pop(0), "it has no runs/"),
    (link("/etc/passwd"), "leads outside"),
    (link("../../../x"), "leads outside"),
    (link("../run.json"), "leads outside"),
    (link("nowhere"), "leads to nothing of the run"),
    (link("link"), "leads to nothing of the run"),
]


@pytest.mark.parametrize("lie", LIES, ids=[words for _, words in LIES])
def test_a_manifest_that_lies(
    origin: Own, whole_file: Path, here: Own, tmp_path: Path, lie: tuple[Any, str]
) -> None:
    """The rest of the file is as the manifest tells it."""
    change, words = lie
    value = manifest_of(whole_file)
    change(value)
    refused(here, rewritten(whole_file, value, tmp_path), words)


def rewritten(whole_file: Path, value: Any, tmp_path: Path) -> Path:
    """The export with another manifest, and headers that fit it."""
    path = tmp_path / "lying.tar"
    text = signed(value)
    data = tar.header(NAME, len(text)) + tar.padded(text)
    with tarfile.open(whole_file) as opened:
        bodies = opened.getmembers()[1:]
        raw = whole_file.read_bytes()
        last = bodies[-1].offset_data + len(tar.padded(bytes(bodies[-1].size)))
        ends = [*(member.offset for member in bodies[1:]), last]
    for place, member in enumerate(value.get("members", ())):
        made = LinkMember(*member) if len(member) == 2 else Member(*member)
        try:
            data += made.header()
        except (ValueError, TypeError):
            continue
        if place < len(bodies) and isinstance(made, Member):
            start = bodies[place].offset_data
            if made.packed is not None:  # tarfile begins behind the map
                start = bodies[place].offset + 3 * tar.BLOCK
            data += raw[start : ends[place]]
    path.write_bytes(data + tar.end(len(data)))
    return path


def test_the_manifest_comes_back(whole_file: Path) -> None:
    value = manifest_of(whole_file)
    bundle = Bundle.decode(signed(value), "x")
    assert json.loads(bundle.encode()) == value
    assert Bundle.decode(bundle.encode(), "x") == bundle
    assert value["hpcrun"] == hpcrun.__version__


# -- records and sources --------------------------------------------------------------------------


def with_record(whole_file: Path, tmp_path: Path, change: Callable[[Content], bytes]) -> Path:
    """The export with another record of its first run."""
    value = manifest_of(whole_file)
    with tarfile.open(whole_file) as opened:
        opened.extractall(tmp_path / "laid", filter="data")
    bundle = Bundle.decode(signed(value), "x")
    record = tmp_path / "laid" / bundle.runs[0].record
    with open_sealed(record) as known:
        content = known.content()
    record.write_bytes(change(content))
    return repacked(bundle, tmp_path)


def repacked(bundle: Bundle, tmp_path: Path) -> Path:
    from hpcrun.store.holes import survey, whole

    members: list[Any] = []
    sources = {}
    for member in bundle.members:
        if isinstance(member, Member):
            path = tmp_path / "laid" / member.path
            with path.open("rb") as file:
                found = (survey if member.packed is not None else whole)(file.fileno())
            sources[member.path] = Source(path, found)
            member = member._replace(size=found.size, sha256=found.sha256)
        members.append(member)
    write_bundle(tmp_path / "repacked.tar", Bundle(bundle.runs, tuple(members)), sources)
    return tmp_path / "repacked.tar"


def with_request(content: Content, **more: Any) -> bytes:
    request = {**json.loads(content.texts["run.json"]), **more}
    return sealed(with_text(content, "run.json", json.dumps(request).encode()))


def with_text(content: Content, name: str, data: bytes) -> Content:
    texts = {**content.texts, name: data}
    facts, journals = content.metric_facts, content.journals
    return Content(content.run_id, texts, facts, journals, content.artifacts)


def of_newer_format(content: Content) -> bytes:
    data = sealed(content)
    head = Head.decode(data[:HEAD], Path("x"))
    return head._replace(format=2, by="9.9").encode() + data[HEAD:]


RECORDS: list[tuple[Callable[[Content], bytes], str]] = [
    (lambda c: b"nothing", "does not begin as a file of hpcrun"),
    (lambda c: sealed(c)[:-1], "bytes of"),
    (lambda c: with_request(c, run_id="other_1700000000_0123abcd"), "is that of 'other_17"),
    (lambda c: sealed(Content("other_1700000000_0123abcd", c.texts, (), ())), "is that of 'other"),
    (lambda c: with_request(c, experiment="other"), "is of experiment 'other'"),
    (lambda c: with_request(c, created="soon"), "no good created"),
    (lambda c: with_request(c, format=2, hpcrun="9.9"), "was written in format 2, by hpcrun 9.9"),
    (lambda c: sealed(with_text(c, "../../../x.jsonl", b"")), "is no name of a file"),
    (lambda c: sealed(with_text(c, "agent-1.0.jsonl", b"")), "it was NotStarted when"),
    (of_newer_format, "was written in format 2, by hpcrun 9.9"),
]


@pytest.mark.parametrize("record", RECORDS, ids=[words for _, words in RECORDS])
def test_a_record_that_lies(
    whole_file: Path, here: Own, tmp_path: Path, record: tuple[Any, str]
) -> None:
    change, words = record
    refused(here, with_record(whole_file, tmp_path, change), words)


def test_a_source_that_leads_outside(whole_file: Path, here: Own, tmp_path: Path) -> None:
    """Its manifest and its digest fit; a content is missing, or a link leads away."""
    value = manifest_of(whole_file)
    (entry,) = (m for m in value["members"] if m[0].startswith("snapshots/objects/"))
    lying = Manifest.of([Entry("a", entry[2], 9), Link("b", "../../../x")])
    lacking = Manifest.of([Entry("a", "1" * 64, 9)])
    for manifest, words in ((lying, "its link b leads outside"), (lacking, "lacks")):
        shutil.rmtree(tmp_path / "laid", ignore_errors=True)
        (tmp_path / "repacked.tar").unlink(missing_ok=True)
        with tarfile.open(whole_file) as opened:
            opened.extractall(tmp_path / "laid", filter="data")
        path = UserPaths("").manifest(manifest.digest)
        (tmp_path / "laid" / path).write_bytes(manifest.encode())
        changed = json.loads(json.dumps(value))
        for each in changed["runs"]:
            each["snapshot"] = manifest.digest
        changed["members"][-1][0] = path
        bundle = Bundle.decode(signed(changed), "x")
        refused(here, repacked(bundle, tmp_path), words)


def test_a_run_that_is_here_with_another_content(
    origin: Own, whole_file: Path, here: Own, tmp_path: Path
) -> None:
    """It stays; the others are taken in, also one of which a killed import has left the files."""
    taken = take_in(here, whole_file)
    mine = here.store.paths(taken[0].run_id)
    Path(mine.outputs, "model").write_bytes(b"other")
    for run in taken[1:]:
        here.store.stored(here.store.paths(run.run_id)).sealed_path(0).unlink()
    theirs = Path(here.store.paths(taken[2].run_id).outputs, "mine")
    theirs.write_bytes(b"precious")
    again = take_in(here, whole_file)
    assert [(run.is_new, bool(run.reason)) for run in again] == [
        (False, True), (True, False), (False, True),
    ]  # fmt: skip
    assert "with another outputs/model" in again[0].reason
    assert again[2].reason.startswith("its files are here without a record, and files/")
    theirs.unlink()
    assert [run.is_new for run in take_in(here, whole_file)] == [False, False, True]
    assert Path(mine.outputs, "model").read_bytes() == b"other"
    other = with_record(whole_file, tmp_path, lambda c: sealed(with_text(c, "script.sh", b"other")))
    assert "with another record" in take_in(here, other)[0].reason


# -- killed ---------------------------------------------------------------------------------------

KILLS = 10
IMPORTER = """\
import os, sys
from pathlib import Path
from hpcrun.assets import Assets
from hpcrun.workflow.importing import take_in
from hpcrun.workflow.session import Session

root = Path(sys.argv[1])
os.write(1, b"begun\\n")
take_in(Session(root / "history", Assets.of(root, {})), Path(sys.argv[2]))
os.write(1, b"done\\n")
"""


def test_killed_anywhere_an_import_takes_runs_whole_or_not(
    origin: Own, whole_file: Path, tmp_path: Path
) -> None:
    ids, landed = set(origin.store.run_ids()), 0
    expected = Bundle.decode(signed(manifest_of(whole_file)), "x")
    chance, between = random.Random(3), 0
    for turn in range(6 * KILLS):
        root = tmp_path / str(turn)
        here = session(root)
        words = [sys.executable, "-c", IMPORTER, str(root), str(whole_file)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(chance.uniform(0, 0.3))
            child.send_signal(signal.SIGKILL)
            acknowledged = (first + child.stdout.read()).split()
        found = set(here.store.run_ids())
        landed += acknowledged == [b"begun"]
        between += 0 < len(found) < len(ids)
        assert found <= ids
        for run_id in found:
            check_whole(here, run_id, expected)
        taken = take_in(here, whole_file)
        assert {run.run_id: run.is_new for run in taken} == {i: i not in found for i in ids}
        assert len(list_rows(here, None)) == len(ids)
        for run_id in ids:
            check_whole(here, run_id, expected)
        assert not list(Path(here.store.own.root).glob(".import-*"))
        shutil.rmtree(root)
        if landed >= KILLS:
            return
    pytest.fail(f"only {landed} kills landed while it was at work")


def check_whole(here: Own, run_id: str, bundle: Bundle) -> None:
    record = here.store.read(run_id)
    assert record.imported is not None and record.state.is_end
    for member in bundle.by_run[run_id]:
        path = Path(here.store.own.root, member.path)
        assert (
            path.is_symlink()
            if isinstance(member, LinkMember)
            else (path.stat().st_size == member.size)
        )


def test_a_killed_export_leaves_no_file_of_its_name(origin: Own, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom hpcrun.assets import Assets\n"
        "from hpcrun.workflow.exporting import export\n"
        "from hpcrun.workflow.session import Session\n"
        "session = Session(Path(sys.argv[1]), Assets.of(Path(sys.argv[1]), {}))\n"
        "records = [session.store.read(i) for i in session.store.run_ids()]\n"
        "for turn in range(1000):\n"
        "    export(session, records, Path(sys.argv[2], f'{turn}.tar'), ())\n"
        "    os.write(1, b'.')\n"
    )
    words = [sys.executable, "-c", code, str(origin.workspace), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read(3)
        time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
    whole = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert len(whole) >= 3
    assert len({path.read_bytes() for path in whole}) == 1


def test_a_file_that_changes_while_it_is_exported(origin: Own, tmp_path: Path) -> None:
    from hpcrun.store.holes import survey

    path = tmp_path / "file"
    path.write_bytes(b"a" * 100)
    with path.open("rb") as file:
        found = survey(file.fileno())
    member = Member(f"{OF_RUN}/outputs/a", 100, found.sha256)
    for data in (b"b" * 100, b"a" * 99, b"a" * 101):
        path.write_bytes(data)
        with pytest.raises(StoreError, match="changed while it was exported"):
            write_bundle(
                tmp_path / "x.tar", Bundle((), (member,)), {member.path: Source(path, found)}
            )
        assert os.listdir(tmp_path) == ["file"]


def test_formats_are_told_by_number_and_version(tmp_path: Path) -> None:
    with pytest.raises(NewerFormat) as told:
        Bundle.decode(b'{"format": 3, "hpcrun": "4.0", "runs": [], "members": []}', "a.tar")
    assert str(told.value) == (
        f"a.tar was written in format 3, by hpcrun 4.0; this hpcrun, {hpcrun.__version__},"
        " reads up to 1 (use hpcrun 4.0 or later)"
    )
    assert re.match(r"\d", hpcrun.__version__) and FileStore


def test_a_header_of_any_size_is_one_that_tar_reads() -> None:
    """Long and foreign names, sizes beyond eleven octal digits, holes."""
    names = ["a", "x" * 100, "x/" * 90 + "y", "ünı", "\udcff", "y" * 101]
    for name in names:
        for size in (0, 5, 8**11 - 1, 8**11, 1 << 50):
            for more in ({}, {"sparse_size": 1 << 40}, {"target": "t" * 120}):
                head = tar.header(name, 0 if "target" in more else size, **more)  # type: ignore[arg-type]
                assert len(head) % tar.BLOCK == 0
                body = tar.sparse_map([(0, 3)]) if "sparse_size" in more else b""
                with tarfile.open(fileobj=io.BytesIO(head + body + bytes(2048))) as opened:
                    member = opened.next()
                assert member is not None and member.name == name
                if "target" in more:
                    assert member.issym() and member.linkname == more["target"]
                else:
                    assert member.size == more.get("sparse_size", size)
