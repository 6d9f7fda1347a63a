"""An export may be anybody's: whatever is wrong with it is told, and nothing of it is taken in."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hpcrun
from hpcrun.errors import StoreError
from hpcrun.layout import UserPaths
from hpcrun.manifest import Entry, Link, Manifest
from hpcrun.store import tar
from hpcrun.store.bundle import NAME, Bundle, LinkMember, Member
from hpcrun.store.content import Content
from hpcrun.store.formats import NewerFormat
from hpcrun.store.hdf5 import HEAD, Head
from hpcrun.store.sealed import sealed
from hpcrun.workflow.importing import take_in
from tests.care import Own
from tests.exchanged import (
    MONTH,
    OF_RUN,
    here,
    manifest_of,
    origin,
    repacked,
    signed,
    whole_file,
    with_record,
    with_text,
)

__all__ = ["here", "origin", "whole_file"]


def tree(here: Own) -> list[str]:
    return sorted(str(path) for path in here.workspace.rglob("*"))


def refused(here: Own, path: Path, words: str) -> None:
    """One sentence, and nothing was taken."""
    before = tree(here)
    with pytest.raises(StoreError, match=words) as told:
        take_in(here, path)
    assert told.value.message.count("\n") == 0
    assert tree(here) == before


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


def run(value: Any) -> Any:
    return value["runs"][0]


def files(value: Any) -> list[Any]:
    return [m for m in value["members"] if m[0].startswith("files/") and len(m) > 2]


def put(path: str) -> Callable[[Any], object]:
    """In place of the first file's path."""
    return lambda value: files(value)[0].__setitem__(0, path)


def link(target: str) -> Callable[[Any], object]:
    return lambda value: next(m for m in value["members"] if len(m) == 2).__setitem__(1, target)


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


def with_request(content: Content, **more: Any) -> bytes:
    request = {**json.loads(content.texts["run.json"]), **more}
    return sealed(with_text(content, "run.json", json.dumps(request).encode()))


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


def test_formats_are_told_by_number_and_version(tmp_path: Path) -> None:
    with pytest.raises(NewerFormat) as told:
        Bundle.decode(b'{"format": 3, "hpcrun": "4.0", "runs": [], "members": []}', "a.tar")
    assert str(told.value) == (
        f"a.tar was written in format 3, by hpcrun 4.0; this hpcrun, {hpcrun.__version__},"
        " reads up to 1 (use hpcrun 4.0 or later)"
    )
