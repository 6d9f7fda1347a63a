"""Counts how often the files of a folder are opened, by whichever process (Linux's inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_IN_OPEN = 0x20
_IN_ISDIR = 0x40000000
_HEAD = struct.Struct("iIII")


class Opens:
    """Watches all folders below one, from now on. A context manager."""

    def __init__(self, root: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for folder, _, _ in os.walk(root):
            if libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _IN_OPEN) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", folder)

    def count(self) -> int:
        """The opens of files since the last call; those of folders do not count."""
        return sum(1 for mask in self._masks() if not mask & _IN_ISDIR)

    def _masks(self) -> Iterator[int]:
        while True:
            try:
                data = os.read(self._descriptor, 1 << 20)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                _, mask, _, length = _HEAD.unpack_from(data, at)
                yield mask
                at += _HEAD.size + length

    def __enter__(self) -> Opens:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)
