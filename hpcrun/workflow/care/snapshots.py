"""Checking the snapshots that runs need: each manifest and each content once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from hpcrun.errors import StoreError
from hpcrun.layout import UserPaths
from hpcrun.manifest import Entry, object_name, shown
from hpcrun.snapshot import read_manifest
from hpcrun.snapshot.objects import content
from hpcrun.workflow.care.finding import Finding, Grade, Look

LARGEST = 64 << 20
"""Bytes of a manifest that are read: 20,000 files need a tenth of it."""


class Snapshots:
    """The snapshots of a user. tell: hears of the bytes that were read."""

    def __init__(self, own: UserPaths, look: Look, tell: Callable[[int], None]) -> None:
        self._own = own
        self._look = look
        self._tell = tell
        self._seen: set[str] = set()
        self._contents: dict[str, str] = {}

    def findings(self, digest: str, run_id: str) -> Iterator[Finding]:
        """What is wrong with a run's snapshot; what was told for another run is not told again."""
        if digest in self._seen:
            return
        self._seen.add(digest)
        path = self._own.manifest(digest)
        cure = "a submission of the same source brings it again"
        try:
            if os.lstat(path).st_size > LARGEST:
                raise StoreError(f"{path} has more than {LARGEST} bytes")
            manifest = read_manifest(self._own, digest)
        except FileNotFoundError:
            message = f"the snapshot of run {run_id} is missing"
            yield Finding(Grade.WRONG, "snapshot", path, message, cure, None, run_id)
            return
        except (StoreError, OSError) as error:
            message = f"the snapshot of run {run_id} is damaged: {error}"
            cure = f"remove it; then {cure}"
            yield Finding(Grade.WRONG, "snapshot", path, message, cure, None, run_id)
            return
        for entry in manifest.files:
            if entry.sha256 not in self._contents:
                why = self._contents[entry.sha256] = self._damage(entry)
                if why:
                    stored = f"{self._own.objects}/{object_name(entry.sha256)}"
                    message = f"{shown(entry.path)} of the snapshot of run {run_id} {why}"
                    todo = f"remove it and {path}; then {cure}"
                    yield Finding(Grade.WRONG, "snapshot", stored, message, todo, None, run_id)

    def _damage(self, entry: Entry) -> str:
        stored = f"{self._own.objects}/{object_name(entry.sha256)}"
        try:
            found = os.lstat(stored)
            if not stat.S_ISREG(found.st_mode):
                return "is no plain file"
            if found.st_size != entry.size:
                return f"has {found.st_size} bytes of {entry.size}"
            if self._look.digests and not self._look.is_too_long(entry.size):
                for block in content(entry, self._own.objects):
                    self._tell(len(block))
        except FileNotFoundError:
            return "is missing"
        except (StoreError, OSError) as error:
            return f"cannot be read: {error}"
        return ""
