"""Where links lead, compared with the system's own answer."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.snapshot.links import Names, Way, leaves

FILES = ["f", "d/f", "d/e/f"]


@pytest.mark.parametrize(
    ("link", "target", "way"),
    [
        ("l", "f", Way.INSIDE),
        ("l", "./d//e/../f", Way.INSIDE),
        ("d/l", "../f", Way.INSIDE),
        ("l", ".", Way.INSIDE),
        ("d/e/l", "../..", Way.INSIDE),
        ("l", "outputs/best.pt", Way.INSIDE),
        ("l", "outputs", Way.INSIDE),
        ("l", "outputs/../..", Way.OUTSIDE),
        ("l", "..", Way.OUTSIDE),
        ("d/l", "../../f", Way.OUTSIDE),
        ("l", "/etc", Way.OUTSIDE),
        ("l", "gone", Way.NOWHERE),
        ("l", "f/", Way.NOWHERE),
        ("l", "f/x", Way.NOWHERE),
        ("d/l", "outputs/x", Way.NOWHERE),
        ("l", "l", Way.CIRCLE),
        ("l", "l/x", Way.CIRCLE),
    ],
)
def test_ways(link: str, target: str, way: Way) -> None:
    assert Names.of(FILES, {link: target}).follow(link) is way


def test_a_link_over_another() -> None:
    names = Names.of(FILES, {"a": "b/f", "b": "d/e", "c": "b/../f", "o": "p", "p": "/etc"})
    assert names.follow("a") is Way.INSIDE
    assert names.follow("c") is Way.INSIDE  # `..` goes up from d/e, not from b
    assert names.follow("o") is Way.OUTSIDE


def test_as_many_links_as_the_system_follows(tmp_path: Path) -> None:
    links = {f"l{number}": f"l{number + 1}" for number in range(40)} | {"l40": "f"}
    (tmp_path / "f").touch()
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    names = Names.of(FILES, links)
    assert names.follow("l1") is Way.INSIDE
    assert (tmp_path / "l1").exists()
    assert names.follow("l0") is Way.CIRCLE
    with pytest.raises(OSError, match="Too many levels"):
        (tmp_path / "l0").stat()


@pytest.mark.parametrize(
    ("link", "target", "expected"),
    [
        ("l", "/x", True),
        ("l", "a/../b", False),
        ("l", "../l", True),
        ("d/l", "../f", False),
        ("d/l", "../../x", True),
        ("l", "a/../../l", True),
    ],
)
def test_words_that_leave(link: str, target: str, expected: bool) -> None:
    assert leaves(link, target) is expected


targets = st.lists(st.sampled_from(["..", ".", "f", "d", "e", "l", "m", "n", "x"]), min_size=1)


@settings(max_examples=200)
@given(targets, targets, targets)
def test_the_system_agrees(one: list[str], two: list[str], three: list[str]) -> None:
    links = {"l": "/".join(one), "d/m": "/".join(two), "d/e/n": "/".join(three)}
    names = Names.of(FILES, links)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "root"
        for file in FILES:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        for link, target in links.items():
            (root / link).symlink_to(target)
        for link in links:
            way = names.follow(link)
            real = os.path.realpath(root / link)
            if way is Way.INSIDE:
                assert (root / link).exists()
                assert real == str(root) or real.startswith(f"{root}/")
            elif way is Way.NOWHERE:
                assert not (root / link).exists()
            elif way is Way.CIRCLE:
                with pytest.raises(OSError, match="Too many levels"):
                    (root / link).stat()
