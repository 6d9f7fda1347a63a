"""Ignore files against git itself: the same trees, the same answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from hpcrun.snapshot.ignore import Rules
from hpcrun.snapshot.walk import walk

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

GIT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}

NAMES = [
    *(b"a", b"b", b"foo", b"bar", b"build", b"src", b"a.py", b"b.txt", b"x y", b"a ", b"#a", b"!b"),
    *(b"[", b"]", b"-", b"*", b"fo\\o", b"caf\xc3\xa9", b"\xff", b"n\nl"),
]
ATOMS = [
    *(b"a", b"b", b"foo", b"bar", b"build", b"src", b"x y", b"f*", b"*.py", b"*", b"?", b"**"),
    *(b"[ab]", b"[!a]", b"[^b]", b"[a-c]", b"[z-a]", b"[]-a]", b"[a-]", b"[--z]", b"[\\]]"),
    *(b"[[:alpha:]]", b"[[:digit:]-z]", b"[[:foo:]]", b"[[:]", b"[[::]]", b"[a", b"caf??"),
    *(b"\\a", b"\\*", b"\\#a", b"\\!b", b"a\\ ", b"\\", b"***", b"fo**", b"b**r", b"**a", b"/"),
]


@st.composite
def patterns(draw: st.DrawFn) -> bytes:
    """One line of an ignore file, often an odd one."""
    part = st.lists(st.sampled_from(ATOMS), min_size=1, max_size=2).map(b"".join)
    pattern = b"/".join(draw(st.lists(part, min_size=1, max_size=3)))
    before = draw(st.sampled_from([b"", b"", b"", b"!", b"/", b"!/"]))
    behind = draw(st.sampled_from([b"", b"", b"", b"/", b"/", b" ", b"\t", b"\r"]))
    return before + pattern + behind


ignore_files = st.lists(patterns(), min_size=1, max_size=6).map(b"\n".join)


@st.composite
def folders(draw: st.DrawFn, depth: int = 3) -> dict[bytes, object]:
    """A folder: names with None for a file, bytes for a link's target, a dict for a folder."""
    tree: dict[bytes, object] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True)):
        kind = draw(st.sampled_from(["file", "folder", "folder", "link"] if depth else ["file"]))
        if kind == "folder":
            tree[name] = draw(folders(depth - 1))
        else:
            tree[name] = None if kind == "file" else b"a"
    if depth == 3 or draw(st.booleans()):
        tree[b".gitignore"] = {b"rules": draw(ignore_files)}
    return tree


def make(path: Path, tree: dict[bytes, object]) -> None:
    path.mkdir()
    for name, content in tree.items():
        place = path / os.fsdecode(name)
        if isinstance(content, bytes):
            place.symlink_to(os.fsdecode(content))
        elif isinstance(content, dict) and name != b".gitignore":
            make(place, content)
        else:
            rules = content[b"rules"] if isinstance(content, dict) else b""
            place.write_bytes(rules)


@contextmanager
def laid(tree: dict[bytes, object]) -> Iterator[bytes]:
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        root = Path(folder).resolve() / "source"
        make(root, tree)
        yield os.fsencode(root)


def by_git(root: bytes) -> list[bytes]:
    """What git would add."""
    subprocess.run(["git", "init", "-q", root], check=True, env=GIT)
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    return sorted(subprocess.check_output(words, cwd=root, env=GIT).split(b"\0")[:-1])


def by_us(root: bytes) -> list[bytes]:
    tree = walk(root, None, 10**6)
    assert tree.problems == []
    return sorted([*(path for path, _ in tree.files), *tree.links])


@needs_git
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(folders())
def test_random_trees_with_random_rules(tree: dict[bytes, object]) -> None:
    with laid(tree) as root:
        expected = by_git(root)
        event("some are sent" if len(expected) > 1 else "none is sent")
        assert by_us(root) == expected


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("build\n!src/\n", ["src/main.py", ".gitignore", "top.py"]),
        ("*\n!*/\n!*.py\n", ["build/gen.py", "src/build/gen.py", "src/main.py", "top.py"]),
        ("/*\n!/src\n/src/build\n", ["src/main.py"]),
        ("src/**\n!src/main.py\n", [".gitignore", "build/gen.py", "src/main.py", "top.py"]),
        ("src/\n!src/main.py\n", [".gitignore", "build/gen.py", "top.py"]),
        ("# *\n\\#\n\n   \n!\n/\n[z-a]\n*\\\n[\n", None),
        ("\ufeffsrc\r\nbuild \n", [".gitignore", "top.py"]),
        ("**/gen.py", [".gitignore", "src/main.py", "top.py"]),
        ("s[[:alpha:]]?/", [".gitignore", "build/gen.py", "top.py"]),
    ],
)
@needs_git
def test_rules_that_people_write(rules: str, kept: list[str] | None) -> None:
    tree: dict[bytes, object] = {
        b"build": {b"gen.py": None},
        b"src": {b"build": {b"gen.py": None}, b"main.py": None},
        b"top.py": None,
        b".gitignore": {b"rules": rules.encode()},
    }
    everything = [".gitignore", "build/gen.py", "src/build/gen.py", "src/main.py", "top.py"]
    with laid(tree) as root:
        found = by_us(root)
        assert found == by_git(root)
    assert found == sorted(name.encode() for name in (everything if kept is None else kept))


@needs_git
def test_the_nearest_ignore_file_decides_and_a_link_is_none() -> None:
    tree: dict[bytes, object] = {
        b".gitignore": {b"rules": b"*.csv\n!*.log\n"},
        b"near": {
            b".gitignore": {b"rules": b"!keep.csv\n*.log\n"},
            **dict.fromkeys((b"keep.csv", b"drop.csv", b"a.log"), None),
        },
        b"linked": {b".gitignore": b"../near/.gitignore", b"keep.csv": None, b"a.log": None},
    }
    with laid(tree) as root:
        found = by_us(root)
        assert found == by_git(root)
    assert found == [
        *(b".gitignore", b"linked/.gitignore", b"linked/a.log"),
        *(b"near/.gitignore", b"near/keep.csv"),
    ]


def test_rules_say_nothing_of_what_they_do_not_name() -> None:
    rules = Rules.parse(b"data/\n!keep\n")
    assert rules.ignores(b"x/data", b"data", folder=True) is True
    assert rules.ignores(b"x/data", b"data", folder=False) is None
    assert rules.ignores(b"x/keep", b"keep", folder=False) is False
    assert Rules.parse(b"").ignores(b"a", b"a", folder=False) is None
    assert Rules.parse(b"/a", b"x/").ignores(b"x/a", b"a", folder=False) is True
