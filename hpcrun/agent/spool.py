"""The spool, a folder on a node's own disk, and bringing it to the record. (Python 3.8+)

A journal in the record is a copy of the beginning of the one in the spool, byte for byte, so it
says itself where to go on, whoever does: where the two cease to agree. A host that loses power may
leave zeros or garbage behind what was synced. Bytes are written at their own place: two who mirror
the same journal write the same.
"""

from __future__ import annotations

import operator
import os
import stat
from typing import Callable, Dict, List, Optional

from hpcrun.errors import StoreError
from hpcrun.layout import journal_kind

_BLOCK = 1 << 20


def prepare(path: str) -> None:
    """Makes the spool, readable by its owner alone. StoreError if somebody else's stands there."""
    try:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        if not is_own(path):
            raise StoreError(f"{path} is not a folder of user {os.geteuid()}")
        os.chmod(path, 0o700)
    except OSError as error:
        raise StoreError(f"cannot make the spool {path}: {error.strerror}") from error


def is_own(path: str) -> bool:
    """Whether that is a folder of this user, and no link to one. OSError."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def remove(path: str) -> None:
    """Removes the spool, which somebody else may do at the same time. OSError."""
    try:
        for name in os.listdir(path):
            _unlink(os.path.join(path, name))
        os.rmdir(path)
    except FileNotFoundError:
        pass


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def mirror(spool: str, record: str) -> int:
    """Brings all journals of a spool to the record, to the disk; gives the bytes. OSError."""
    whole = Mirror(spool, record)
    try:
        count = whole.advance()
        whole.sync()
    finally:
        whole.close()
    if whole.error is not None:
        raise whole.error
    return count


def bring(spool: str, record: str) -> int:
    """Brings a spool that was left behind, and removes it; gives the bytes. OSError."""
    if not os.path.isdir(spool):
        return 0
    try:
        count = mirror(spool, record)
    except FileNotFoundError as error:
        if not str(error.filename).startswith(spool):
            raise
        return 0  # somebody else removes it, who has brought all of it
    remove(spool)
    return count


class Mirror:
    """Follows the journals of a spool. An error of one does not keep the others back.

    error: what the last `advance` or `sync` could not do; None if all went well.
    """

    def __init__(self, spool: str, record: str) -> None:
        self.error: Optional[OSError] = None
        self._spool = spool
        self._record = record
        self._journals: Dict[str, _Journal] = {}

    def advance(self) -> int:
        """Appends what is new; gives the bytes."""
        self.error = None
        return sum([self._try(journal.advance) for journal in self._listed()])

    def sync(self) -> None:
        """Waits until the file system has what was appended."""
        for journal in self._journals.values():
            self._try(journal.sync)

    def missing(self) -> int:
        """The records that the file system of the record is not known to have."""
        return sum([self._try(journal.missing) for journal in self._listed()])

    def close(self) -> None:
        """Closes all files."""
        for journal in self._journals.values():
            self._try(journal.close)

    def _listed(self) -> List[_Journal]:
        try:
            names = [name for name in os.listdir(self._spool) if journal_kind(name) is not None]
        except FileNotFoundError:
            return []
        except OSError as error:
            self.error = error
            return []
        for name in names:
            if name not in self._journals:
                source, target = os.path.join(self._spool, name), os.path.join(self._record, name)
                self._journals[name] = _Journal(source, target)
        return [self._journals[name] for name in sorted(names)]

    def _try(self, act: Callable[[], int]) -> int:
        try:
            return act()
        except OSError as error:
            self.error = error
            return 0


class _Journal:
    """One journal of the spool and its copy. offset: bytes appended; safe: bytes synced."""

    def __init__(self, source: str, target: str) -> None:
        self._source = source
        self._target = target
        self._descriptor: Optional[int] = None
        self._begun = False
        self._offset = 0
        self._safe = 0

    def advance(self) -> int:
        if os.stat(self._source).st_size <= self._offset:
            return 0
        try:
            return self._append()
        except OSError:
            self._step_back()
            raise

    def sync(self) -> int:
        if self._descriptor is not None and self._safe != self._offset:
            try:
                os.fsync(self._descriptor)
            except OSError:
                self._step_back()
                raise
            self._safe = self._offset
        return 0

    def missing(self) -> int:
        count, last = 0, b"\n"
        with open(self._source, "rb") as source:
            source.seek(self._safe)
            for block in iter(lambda: source.read(_BLOCK), b""):
                count += block.count(b"\n")
                last = block
        return count + (not last.endswith(b"\n"))

    def close(self) -> int:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
        return 0

    def _append(self) -> int:
        descriptor = self._open()
        begin = self._offset
        source = os.open(self._source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            block = os.pread(source, _BLOCK, self._offset)
            while block:
                self._offset += os.pwrite(descriptor, block, self._offset)
                block = os.pread(source, _BLOCK, self._offset)
        finally:
            os.close(source)
        return self._offset - begin

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            size = os.fstat(self._descriptor).st_size
            self._offset = min(size, self._safe) if self._begun else self._agreed()
            self._begun = True
        return self._descriptor

    def _agreed(self) -> int:
        """The bytes at the beginning that are the same in both."""
        assert self._descriptor is not None
        place = 0
        with open(self._source, "rb") as source:
            while True:
                there = os.pread(self._descriptor, _BLOCK, place)
                here = source.read(len(there))
                if not here or here != there:
                    same = bytes(map(operator.eq, here, there))
                    return place + (same.index(0) if 0 in same else len(here))
                place += len(here)

    def _step_back(self) -> None:
        """After an error: NFS tells of a failed write as late as at the next fsync."""
        self._offset = self._safe
        try:
            self.close()
        except OSError:
            pass  # the first error is the one to tell
