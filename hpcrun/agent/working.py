"""The working folder of a job that does not work in the run's own. Standard library only (3.8+).

Each attempt has a new one. What earlier attempts brought from outputs/ and logs/ is seen there
through links, so that a requeued job finds its checkpoints under their names: all but those of
which only a part has come.
"""

from __future__ import annotations

import os
from typing import Callable, Collection, Dict, Iterator, Tuple

from hpcrun.agent import past, spool
from hpcrun.agent.lay import clear, lay_out
from hpcrun.agent.partial import partial_names
from hpcrun.agent.setting import Setting
from hpcrun.errors import SnapshotError, StoreError
from hpcrun.layout import COLLECTED, NODES, Attempt


def make(setting: Setting, stopped: Callable[[], bool]) -> Dict[str, int]:
    """Makes the folder and lays the snapshot there; gives what earlier attempts have brought.

    That is name → inode of the file in the history. StoreError, SnapshotError: there is no folder.
    """
    assert setting.work is not None
    try:
        os.makedirs(os.path.dirname(setting.work), exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make a folder for {setting.work}: {error.strerror}") from error
    spool.prepare(setting.work)
    try:
        return _fill(setting, setting.work, stopped)
    except SnapshotError:
        try:
            remove(setting.work)  # nobody works there
        except OSError:
            pass  # the error before is the one to tell
        raise


def _fill(setting: Setting, work: str, stopped: Callable[[], bool]) -> Dict[str, int]:
    lay_out(setting.snapshot, setting.paths, stopped, work)
    if setting.attempt == Attempt(1, 0):
        return {}
    try:
        partial = partial_names(past.facts(setting.paths.record, ""))
        return _put_back(work, setting.paths.files, setting.host, partial)
    except OSError as error:
        raise SnapshotError(f"cannot link to what is in {setting.paths.files}: {error}") from error


def remove(path: str) -> None:
    """Removes it, with all that it holds. OSError."""
    clear(os.fsencode(path))


def _put_back(work: str, files: str, host: str, partial: Collection[str]) -> Dict[str, int]:
    """partial: checkpoints that nobody should go on from."""
    old = {}
    for name, inode in _files(files, COLLECTED):
        old[name] = inode
        if not any(name.startswith(f"{folder}/") for folder in partial):
            _link(os.path.join(files, name), os.path.join(work, name))
    for folder in COLLECTED:
        own = f"{folder}/{NODES}/{host}"
        for name, _ in _files(files, (own,)):
            place = os.path.join(work, folder, name[len(own) + 1 :])
            if os.path.lexists(place):
                os.unlink(place)
            _link(os.path.join(files, name), place)
    return old


def _files(root: str, folders: Tuple[str, ...]) -> Iterator[Tuple[str, int]]:
    """(name, inode) of all below some folders, but not of what stands apart for a node."""
    for folder in folders:
        for where, within, names in os.walk(os.path.join(root, folder)):
            if folder in COLLECTED and where == os.path.join(root, folder):
                within[:] = [name for name in within if name != NODES]
            links = [name for name in within if os.path.islink(os.path.join(where, name))]
            for each in (*names, *links):
                path = os.path.join(where, each)
                yield os.path.relpath(path, root), os.lstat(path).st_ino


def _link(target: str, place: str) -> None:
    os.makedirs(os.path.dirname(place), exist_ok=True)
    os.symlink(target, place)
