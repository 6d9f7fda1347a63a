"""Gathers a source folder into a Manifest. Files that have not changed are not opened."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from hpcrun.errors import SnapshotError
from hpcrun.manifest import Limits, Link, Manifest, check_limits
from hpcrun.snapshot.content import read_entries
from hpcrun.snapshot.links import Names, Way, leaves
from hpcrun.snapshot.stat_cache import cache_file, cache_folder, load, save
from hpcrun.snapshot.walk import Tree, text, walk

DEFAULT_LIMITS = Limits()

_SHOWN_PROBLEMS = 50


def scan(
    source: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    leave_out: Path | None = None,
    cache: Path | None = None,
    fresh: bool = False,
) -> Manifest:
    """The manifest of a source folder as it is now.

    leave_out: a folder that is never part of it, the workspace. cache: the folder of what is
    known from earlier scans (default: $XDG_CACHE_HOME/hpcrun or ~/.cache/hpcrun). fresh: reads
    every file, whatever is known. SnapshotError names everything that cannot be gathered.
    """
    began = time.time_ns()
    root = _root(source)
    tree = _walked(root, leave_out, limits)
    links = _links(root, tree)
    sizes = [(text(path), status.st_size) for path, status in tree.files]
    check_limits([*sizes, *((path, 0) for path in links)], limits, tree.complete)
    folder = cache or cache_folder(os.environ)
    file = cache_file(folder, root) if folder is not None else None
    known = load(file) if file is not None else {}
    entries, settled_now = read_entries(root, tree, {} if fresh else known, began)
    if file is not None and settled_now != known:
        save(file, settled_now)
    if tree.problems:
        raise _refusal(source, tree.problems)
    return Manifest.of([*entries, *(Link(path, target) for path, target in links.items())])


def _root(source: Path) -> bytes:
    root = os.path.realpath(os.fsencode(source))
    if not os.path.isdir(root):
        raise SnapshotError(f"the source folder {source} is not there, or no folder")
    return root


def _walked(root: bytes, leave_out: Path | None, limits: Limits) -> Tree:
    below = None
    if leave_out is not None:
        workspace = os.path.realpath(os.fsencode(leave_out))
        if workspace == root:
            raise SnapshotError(
                f"the source folder is the workspace {leave_out}",
                "name the folder of your code as source_directory, or another workspace",
            )
        below = _below(root, workspace)
    try:
        return walk(root, below, 10 * limits.max_files)
    except OSError as error:
        raise SnapshotError(
            f"cannot read the source folder {text(root)}: {error.strerror}"
        ) from error


def _below(root: bytes, path: bytes) -> bytes | None:
    """A real path as seen from the root; None if it lies elsewhere."""
    above = root.rstrip(b"/") + b"/"
    return path[len(above) :] if path.startswith(above) else None


def _links(root: bytes, tree: Tree) -> dict[str, str]:
    """The links with the targets that they keep; those that cannot be kept become problems."""
    links = {text(path): text(_kept_target(root, path, tree.links[path])) for path in tree.links}
    if not links:
        return links
    names = Names.of((text(path) for path, _ in tree.files), links)
    for path, target in tree.links.items():
        way = names.follow(text(path))
        if way is not Way.INSIDE:
            tree.refuse(path, _why(way, os.path.join(root, path), text(target)))
    return links


def _kept_target(root: bytes, path: bytes, target: bytes) -> bytes:
    """The target; relative, where it goes through the outside to something inside."""
    if not leaves(text(path), text(target)):
        return target
    full = os.path.join(root, path)
    try:
        real = os.path.realpath(full)
    except OSError:
        return target  # it has just vanished, which is found out when it is copied
    if real != root and _below(root, real) is None:
        return target
    return os.path.relpath(real, os.path.dirname(full))


def _why(way: Way, path: bytes, target: str) -> str:
    if way is Way.OUTSIDE:
        return f"is a link out of the source folder, to {target!r}"
    if way is Way.CIRCLE:
        return f"is a link in a circle, to {target!r}"
    lost = "is left out of the snapshot" if os.path.exists(path) else "does not exist"
    return f"is a link to {target!r}, which {lost}"


def _refusal(source: Path, problems: Sequence[str]) -> SnapshotError:
    lines = [f"  {problem}" for problem in sorted(problems)[:_SHOWN_PROBLEMS]]
    more = len(problems) - len(lines)
    if more:
        lines.append(f"  and {more:,} more")
    count = "1 thing" if len(problems) == 1 else f"{len(problems):,} things"
    return SnapshotError(
        "\n".join([f"{count} in {source} cannot be part of a snapshot:", *lines]),
        "mend them, or name them in .amlignore or .gitignore",
    )
