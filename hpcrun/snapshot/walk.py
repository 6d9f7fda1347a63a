"""Walks a source folder: what belongs to its snapshot, found without opening a file.

Paths are bytes from here to the manifest: a name need not be UTF-8. They are no Path objects:
for thousands of names those cost more than the walk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field

from hpcrun.errors import SnapshotError
from hpcrun.manifest import OWN_FOLDERS, shown
from hpcrun.snapshot.ignore import Rules

ALWAYS_OUT = frozenset(
    {b".git", b".hg", b".svn", b".hpcrun", b".ipynb_checkpoints", b"__pycache__"}
)
ENVIRONMENT_MARKS = frozenset({b"pyvenv.cfg", b"conda-meta"})
"""What a Python environment holds. One below the root is left out: it cannot be moved."""

_OWN = frozenset(name.encode() for name in OWN_FOLDERS)
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


@dataclass
class Tree:
    """What a walk has found: files with their status, links with their targets.

    problems: what cannot be part of a snapshot, one sentence each. complete: False if the walk
    was given up because there are too many files.
    """

    files: list[tuple[bytes, os.stat_result]] = field(default_factory=list)
    links: dict[bytes, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    complete: bool = True

    def refuse(self, path: bytes, why: str) -> None:
        """Notes what cannot be part of a snapshot."""
        self.problems.append(f"{shown(text(path))} {why}")


def text(path: bytes) -> str:
    """A name as the manifest keeps it."""
    return path.decode("utf-8", "surrogateescape")


def walk(root: bytes, leave_out: bytes | None, most: int) -> Tree:
    """Everything below a folder that is not ignored.

    root: a real path. leave_out: a folder below it, as a path from it, that is passed over.
    most: the number of files at which the walk gives up.
    """
    tree = Tree()
    chain, nested = _root_rules(root)
    todo: list[tuple[bytes, tuple[Rules, ...]]] = [(b"", chain)]
    while todo:
        folder, chain = todo.pop()
        entries = _entries(root, folder, tree)
        names = {entry.name for entry in entries}
        if folder and not ENVIRONMENT_MARKS.isdisjoint(names):
            continue
        if nested and b".gitignore" in names:
            chain = _with_rules(root, folder, chain)
        out = ALWAYS_OUT if folder else ALWAYS_OUT | _OWN
        for path in _take(entries, folder, chain, out, tree):
            if path != leave_out:
                todo.append((path + b"/", chain))
        if len(tree.files) > most:
            tree.complete = not todo
            break
    return tree


def _take(
    entries: list[os.DirEntry[bytes]],
    folder: bytes,
    chain: tuple[Rules, ...],
    out: Collection[bytes],
    tree: Tree,
) -> list[bytes]:
    """Puts a folder's files and links into the tree; gives its folders."""
    folders = []
    for entry in entries:
        name = entry.name
        path = folder + name
        if name in out or name.endswith(b".pyc"):
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if chain and _ignored(chain, path, name, is_folder):
            continue
        if is_folder:
            folders.append(path)
        else:
            _take_leaf(entry, path, tree)
    return folders


def _take_leaf(entry: os.DirEntry[bytes], path: bytes, tree: Tree) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            tree.files.append((path, status))
        elif kind == stat.S_IFLNK:
            tree.links[path] = os.readlink(entry.path)
        elif kind != stat.S_IFDIR:
            tree.refuse(path, f"is {_KINDS.get(kind, 'no file')}")
    except FileNotFoundError:
        return  # removed while the walk was going on
    except OSError as error:
        tree.refuse(path, f"cannot be read: {error.strerror}")


def _ignored(chain: tuple[Rules, ...], path: bytes, name: bytes, folder: bool) -> bool:
    for rules in chain:
        answer = rules.ignores(path, name, folder)
        if answer is not None:
            return answer
    return False


def _entries(root: bytes, folder: bytes, tree: Tree) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            return list(entries)
    except FileNotFoundError:
        if folder:
            return []  # removed while the walk was going on
        raise
    except OSError as error:
        if not folder:
            raise
        tree.refuse(folder, f"cannot be read: {error.strerror}")
        return []


def _root_rules(root: bytes) -> tuple[tuple[Rules, ...], bool]:
    """The rules of .amlignore, which stands alone; else whether .gitignore files are followed."""
    path = os.path.join(root, b".amlignore")
    if not os.path.isfile(path):
        return (), True
    return (_parsed(path, b""),), False


def _with_rules(root: bytes, folder: bytes, chain: tuple[Rules, ...]) -> tuple[Rules, ...]:
    """The rules with those of a folder's own .gitignore before them. git follows no link to one."""
    path = os.path.join(root, folder, b".gitignore")
    if os.path.islink(path) or not os.path.isfile(path):
        return chain
    return (_parsed(path, folder), *chain)


def _parsed(path: bytes, folder: bytes) -> Rules:
    try:
        with open(path, "rb") as file:
            return Rules.parse(file.read(), folder)
    except OSError as error:
        raise SnapshotError(
            f"cannot read {shown(text(path))}: {error.strerror}",
            "it says what is left out of the snapshot; make it readable, or remove it",
        ) from error
