"""A file's pieces depend on its content alone, not on where its file system keeps holes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcrun.store.bundle import Bundle, Member, RunEntry
from hpcrun.store.holes import GRAIN, Survey, survey
from hpcrun.store.packing import Source, Unpacking, write_bundle

RUN = RunEntry("digits_1700000000_0123abcd", "alice", "/history")

PARTS = st.lists(
    st.tuples(
        st.sampled_from([b"\0", b"x"]), st.sampled_from([1, 512, GRAIN - 1, GRAIN, 2 * GRAIN])
    ),
    max_size=6,
)


def surveyed(path: Path) -> Survey:
    with path.open("rb") as file:
        return survey(file.fileno())


@settings(
    max_examples=40,
    suppress_health_check=[
        *settings.default.suppress_health_check,
        HealthCheck.function_scoped_fixture,
    ],
)
@given(PARTS)
def test_a_file_comes_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bytes, int]]
) -> None:
    folder = tmp_path_factory.mktemp("holes")
    full, sparse, record = folder / "full", folder / "sparse", folder / "record"
    content = b"".join(byte * count for byte, count in parts)
    full.write_bytes(content)
    with sparse.open("wb") as file:
        for byte, count in parts:
            file.seek(count, 1) if byte == b"\0" else file.write(byte * count)
        file.truncate(len(content))
    record.write_bytes(b"record")
    found = surveyed(full)
    assert surveyed(sparse) == found
    assert found.map or found.sha256 == hashlib.sha256(content).hexdigest()
    path = f"{RUN.files}/outputs/file"
    packed = found.stored if found.map else None
    members = (
        Member(RUN.record, 6, surveyed(record).sha256),
        Member(path, len(content), found.sha256, packed=packed),
    )
    sources = {RUN.record: Source(record, surveyed(record)), path: Source(sparse, found)}
    write_bundle(folder / "x.tar", Bundle((RUN,), members), sources)
    with Unpacking(folder / "x.tar") as export:
        export.unpack(lambda member: folder / "out" / member.path)
    assert (folder / "out" / path).read_bytes() == content
