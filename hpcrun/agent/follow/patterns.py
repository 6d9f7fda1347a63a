"""Which files are metric files: patterns of names below ./logs and ./outputs. (Python 3.8+)

`*`, `?` and `[…]` match within a name, `**` any folders or none; a name that begins with a dot
only a pattern that does. Links are not followed.
"""

from __future__ import annotations

import os
import stat
from fnmatch import fnmatchcase
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence

FORMATS = ("tensorboard", "csv", "jsonl", "trainer_state")
FOLDERS = ("logs", "outputs")

LIMIT = 1000
"""Files that are followed, at most."""


class Pattern(NamedTuple):
    """Files, and how to read them.

    format: one of FORMATS; empty: by each file's name. prefix: what the names of their metrics
    begin with; None: the folders that wildcards stand for. step: the column or key of the step;
    empty: the usual names.
    """

    pattern: str
    format: str = ""
    prefix: Optional[str] = None
    step: str = ""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Pattern":
        """As it stands in run.json."""
        return cls(
            told["pattern"], told.get("format") or "", told.get("prefix"), told.get("step") or ""
        )


class Found(NamedTuple):
    """A metric file. path: relative to the job's folder. state: what tells that it has changed."""

    path: str
    format: str
    prefix: str
    step: str
    inode: int
    state: Sequence[int]

    @property
    def group(self) -> str:
        """Files of one group tell the same points again."""
        return group_of(self.path)


def format_of(name: str) -> str:
    """The format that a file's name tells; empty if it tells none."""
    name = name.rpartition("/")[2]
    if "tfevents" in name:
        return "tensorboard"
    if name == "trainer_state.json":
        return "trainer_state"
    suffix = name.rpartition(".")[2]
    return {"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl"}.get(suffix, "")


def group_of(path: str) -> str:
    """The path, without the checkpoint's folder of a trainer_state.json."""
    folder, _, name = path.rpartition("/")
    outer, _, inner = folder.rpartition("/")
    if name == "trainer_state.json" and inner.startswith("checkpoint-"):
        return f"{outer}/{name}"
    return path


def find(root: str, patterns: Iterable[Pattern]) -> List[Found]:
    """The metric files in a job's folder, by path; of several patterns the first counts."""
    found: Dict[str, Found] = {}
    for pattern in patterns:
        for path, wild, status in _walk(root, "", pattern.pattern.split("/"), ()):
            kind = pattern.format or format_of(path)
            if kind and path not in found:
                prefix = _prefix(wild, kind) if pattern.prefix is None else pattern.prefix
                state = (status.st_size, status.st_mtime_ns, status.st_ino)
                found[path] = Found(path, kind, prefix, pattern.step, status.st_ino, state)
    return [found[path] for path in sorted(found)]


def _prefix(wild: Sequence[str], kind: str) -> str:
    if kind == "trainer_state" and wild and wild[-1].startswith("checkpoint-"):
        wild = wild[:-1]
    return "".join(f"{name}/" for name in wild)


class _Match(NamedTuple):
    """A file that a pattern matches. wild: its folders that wildcards stand for."""

    path: str
    wild: Sequence[str]
    status: os.stat_result


def _walk(root: str, folder: str, parts: Sequence[str], wild: Sequence[str]) -> Iterator[_Match]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _walk(root, folder, rest or ("*",), wild)
        for name in _folders(root, folder):
            yield from _walk(root, _join(folder, name), parts, (*wild, name))
        return
    literal = not any(character in part for character in "*?[")
    for name in [part] if literal else _matching(root, folder, part):
        path = _join(folder, name)
        status = _status(os.path.join(root, path))
        if status is None:
            continue
        if not rest and stat.S_ISREG(status.st_mode):
            yield _Match(path, wild, status)
        elif rest and stat.S_ISDIR(status.st_mode):
            yield from _walk(root, path, rest, wild if literal else (*wild, name))


def _folders(root: str, folder: str) -> List[str]:
    entries = _entries(root, folder)
    return [
        e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)
    ]


def _matching(root: str, folder: str, part: str) -> List[str]:
    hidden = part.startswith(".")
    names = [entry.name for entry in _entries(root, folder)]
    return [n for n in names if n.startswith(".") == hidden and fnmatchcase(n, part)]


def _entries(root: str, folder: str) -> "List[os.DirEntry[str]]":
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []  # it is gone, or may not be read: nothing to follow


def _status(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
