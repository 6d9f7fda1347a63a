"""Headers of exports: tar reads them."""

from __future__ import annotations

import io
import tarfile

from hpcrun.store import tar


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
