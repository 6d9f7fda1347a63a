"""The manifest as a value: its digest, its JSON, its limits."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.errors import SnapshotError
from hpcrun.manifest import (
    Entry,
    Limits,
    Link,
    Manifest,
    check_limits,
    object_name,
    shown,
    shown_size,
)

A = "a" * 64
B = "b" * 64

# Names as they come from a file system: bytes that are not UTF-8 are surrogate escapes.
parts = (
    st.binary(min_size=1, max_size=6)
    .filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))
    .map(lambda name: name.decode("utf-8", "surrogateescape"))
)
digests = st.sampled_from([A, B, "0123456789abcdef" * 4])
entries = st.one_of(
    st.builds(Entry, parts, digests, st.integers(0, 2**40), st.booleans()),
    st.builds(Link, parts, parts),
)
manifests = st.lists(entries, max_size=8, unique_by=lambda entry: entry.path).map(Manifest.of)


@given(manifests, st.randoms(use_true_random=False))
def test_the_order_of_entries_does_not_matter(manifest: Manifest, rng: random.Random) -> None:
    shuffled = list(manifest.entries)
    rng.shuffle(shuffled)
    assert Manifest.of(shuffled) == manifest
    assert Manifest.of(shuffled).digest == manifest.digest


@given(manifests)
def test_json_gives_the_same_manifest_again(manifest: Manifest) -> None:
    data = manifest.encode()
    assert Manifest.decode(data) == manifest
    value = json.loads(data)
    assert (value["format"], value["digest"]) == (1, manifest.digest)
    assert [item["path"] for item in value["entries"]] == [e.path for e in manifest.entries]


@given(manifests, manifests)
def test_different_snapshots_have_different_digests(one: Manifest, other: Manifest) -> None:
    def identity(manifest: Manifest) -> list[tuple[object, ...]]:
        return [
            ("link", *e) if isinstance(e, Link) else (e.path, e.sha256, e.executable)
            for e in manifest.entries
        ]

    assert (one.digest == other.digest) == (identity(one) == identity(other))


@pytest.mark.parametrize(
    "changed",
    [
        [Entry("b", A, 3)],
        [Entry("a", B, 3)],
        [Entry("a", A, 3, executable=True)],
        [Link("a", "b")],
        [Link("a", A)],
        [Entry("a", A, 3), Entry("b", A, 3)],
        [],
    ],
)
def test_every_change_changes_the_digest(changed: list[Entry | Link]) -> None:
    assert Manifest.of(changed).digest != Manifest.of([Entry("a", A, 3)]).digest


def test_the_digest_is_one_for_all_versions() -> None:
    manifest = Manifest.of([Entry("train.py", A, 3, True), Link("data/now", "../train.py")])
    assert manifest.digest == ("db055b7bb10a38a8bc4dce6e6630f1e4c5e361f8faebf097226558d8a2a10dc5")


def test_the_json_is_what_the_agent_reads() -> None:
    manifest = Manifest.of([Link("l", "train.py"), Entry("train.py", A, 3)])
    assert json.loads(manifest.encode())["entries"] == [
        {"path": "l", "target": "train.py"},
        {"path": "train.py", "sha256": A, "size": 3, "executable": False},
    ]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "", "a\0b"]
)
def test_a_manifest_that_reaches_outside_is_refused(path: str) -> None:
    with pytest.raises(SnapshotError, match="damaged"):
        Manifest.decode(Manifest.of([Entry(path, A, 1)]).encode())


def test_a_manifest_that_writes_through_a_link_is_refused() -> None:
    manifest = Manifest.of([Link("a", "/etc"), Entry("a/passwd", A, 1)])
    with pytest.raises(SnapshotError, match="a/passwd cannot be laid"):
        Manifest.decode(manifest.encode())


def test_a_path_twice_is_refused() -> None:
    manifest = Manifest.of([Entry("a", A, 1), Entry("a", B, 1)])
    with pytest.raises(SnapshotError, match="twice"):
        Manifest.decode(manifest.encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"format":2,"digest":"x","entries":[]}',
        b'{"format":1,"digest":"x","entries":[]}',
        b'{"format":1,"digest":"x","entries":[{"path":1,"target":"a"}]}',
        b'{"format":1,"digest":"x","entries":[{"path":"a","sha256":"z","size":1,"executable":true}]}',
        b'{"format":1,"digest":"x","entries":[{"path":"a","sha256":"%s","size":"1","executable":true}]}'
        % A.encode(),
        b'{"format":1,"digest":"x","entries":[3]}',
        b"[" * 200_000,
    ],
)
def test_a_damaged_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        Manifest.decode(data)


@pytest.mark.parametrize("size", [-1, 2**63])
def test_a_size_that_no_file_can_have_is_refused(size: int) -> None:
    with pytest.raises(SnapshotError, match="the size or the x bit of 'a'"):
        Manifest.decode(Manifest.of([Entry("a", A, size)]).encode())


@given(manifests.filter(lambda manifest: manifest.entries), st.data())
def test_no_changed_byte_goes_unseen(manifest: Manifest, data: st.DataObject) -> None:
    encoded = bytearray(manifest.encode())
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        decoded = Manifest.decode(bytes(encoded))
    except SnapshotError:
        return
    # Sizes stand in no digest: the content's own tells.
    assert decoded.digest == manifest.digest


def test_sums_and_the_largest() -> None:
    manifest = Manifest.of([Entry("a", A, 5), Entry("b", B, 9), Entry("c", B, 9), Link("l", "a")])
    assert manifest.total_size == 23
    assert manifest.largest(2) == [Entry("b", B, 9), Entry("c", B, 9)]
    assert [e.path for e in manifest.files] == ["a", "b", "c"]
    assert manifest.links == (Link("l", "a"),)


def test_what_fits_the_limits_is_allowed() -> None:
    check_limits([("a", 5), ("b", 5)], Limits(max_bytes=10, max_files=2))


def test_too_much_is_refused_with_the_numbers_and_the_largest_files() -> None:
    sizes = [(f"data/{n:02}", 1024 * n) for n in range(12)] + [("train.py", 1)]
    with pytest.raises(SnapshotError) as caught:
        check_limits(sizes, Limits(max_bytes=2048, max_files=3))
    message = caught.value.message
    assert "66 KiB, and 2 KiB are allowed" in message
    assert "13 files, and 3 are allowed" in message
    assert [line.split()[-1] for line in message.splitlines() if line.startswith("  ")] == [
        f"data/{n:02}" for n in range(11, 1, -1)
    ]
    assert "data (12), . (1)" in message
    assert ".amlignore" in caught.value.hint
    assert "max_bytes" in caught.value.hint


def test_a_walk_that_was_given_up_says_more_than() -> None:
    with pytest.raises(SnapshotError, match="more than 2 files, and 1 are allowed"):
        check_limits([("a", 0), ("b", 0)], Limits(max_files=1), complete=False)


def test_words_for_people() -> None:
    assert [shown_size(size) for size in (0, 1023, 1024, 300 << 20, 5 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1 KiB",
        "300 MiB",
        "5 TiB",
    ]
    assert shown("src/a b.py") == "src/a b.py"
    assert shown("a\nb") == r"'a\nb'"
    assert shown(b"\xff".decode("utf-8", "surrogateescape")) == r"'\udcff'"
    assert object_name(A) == "aa/" + "a" * 62
