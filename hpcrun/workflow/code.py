"""The source that a run worked on, as it lies in the store."""

from __future__ import annotations

import shlex
from pathlib import Path

from hpcrun.errors import StoreError
from hpcrun.forms import is_digest
from hpcrun.layout import UserPaths
from hpcrun.record import RunRecord
from hpcrun.snapshot import read_manifest
from hpcrun.snapshot.difference import Side


def digest_of(record: RunRecord) -> str | None:
    """The digest of a run's snapshot; None if it has none."""
    told = record.request.get("snapshot")
    digest = told.get("digest") if isinstance(told, dict) else None
    return digest if is_digest(digest) else None


def known_digest(record: RunRecord) -> str:
    """The digest of a run's snapshot. StoreError: it has none."""
    digest = digest_of(record)
    if digest is None:
        raise StoreError(f"run {record.run_id} has no snapshot", "start_logging() may take one")
    return digest


def code_of(workspace: Path, record: RunRecord, digest: str | None = None) -> Side:
    """A run's snapshot, or another one of the same user. StoreError: there is none."""
    if digest is not None and not is_digest(digest):
        raise StoreError(f"{digest[:80]!r} is the digest of no snapshot", "it has 64 hex digits")
    own = UserPaths.of(str(workspace), record.user)
    own = own.private if record.is_private else own
    wanted, mirror = digest or known_digest(record), record.imported
    try:
        return Side(read_manifest(own, wanted), Path(own.objects))
    except StoreError as error:
        if (
            mirror is None
            or not mirror.mirror
            or not isinstance(error.__cause__, FileNotFoundError)
        ):
            raise
        words = ["hpcrun", "sync", mirror.workspace, f"{mirror.user}/{record.run_id}"]
        raise StoreError(
            f"the source of run {record.run_id} has not come from {mirror.workspace}",
            f"`{shlex.join(words)}` brings it",
        ) from error
