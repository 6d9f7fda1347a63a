"""Packed environments of a workspace: where one lies, and having it packed."""

from __future__ import annotations

import hashlib
import posixpath
from pathlib import Path

from hpcrun.environments.packing import PACKS, SUFFIX, is_packed, key_of, pack
from hpcrun.errors import BuildError
from hpcrun.faults import told
from hpcrun.plan import Packing
from hpcrun.rights import kept_to
from hpcrun.saying import say_on_stderr
from hpcrun.store import FileStore
from hpcrun.turns import alone


def file_of(prefix: str, store: FileStore, private: bool, is_managed: bool) -> str:
    """The file of an environment. One that hpcrun builds never changes, and is known by its name;
    any other by all that it holds, which is looked through. BuildError: that cannot be read."""
    if is_managed:
        name = posixpath.basename(prefix)
        key = f"{name}-{hashlib.sha256(prefix.encode()).hexdigest()[:8]}"
    else:
        key = key_of(Path(prefix))
    room = store.own.private if private else store.own
    return posixpath.join(room.environments, PACKS, f"{key}{SUFFIX}")


def provide_packed(packing: Packing, store: FileStore, private: bool) -> None:
    """Has an environment packed, unless it is. BuildError, StoreError."""
    file = packing.file
    if is_packed(file):
        return
    with kept_to(store.prepare(private).root):
        with told(f"pack the environment into {file}"):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        with alone(f"{file}.lock"):
            if is_packed(file):
                return
            say_on_stderr(f"packing the environment {packing.prefix}; that is done once")
            with told(f"pack the environment {packing.prefix} into {file}", BuildError):
                packed = pack(Path(packing.prefix), file)
    sizes = f"{packed.bytes >> 20} MiB, into {packed.size >> 20} MiB"
    say_on_stderr(f"packed {packed.files} files, {sizes}")
