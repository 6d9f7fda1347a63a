"""Beginning an interactive run: its record, and a snapshot of the source if one is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hpcrun
from hpcrun.layout import UserPaths
from hpcrun.manifest import Limits
from hpcrun.metrics.context import Context
from hpcrun.metrics.family import child_id
from hpcrun.metrics.interactive import interactive_context, make_record
from hpcrun.rights import kept_to
from hpcrun.snapshot import GitFacts, push, scan
from hpcrun.store import FileStore
from hpcrun.store.policy import read_policy


def begin(
    store: FileStore,
    experiment: str,
    display_name: str | None,
    source: Path | None,
    private: bool | None = None,
) -> Context:
    """Makes the record of an interactive run, with a snapshot of the source folder if one is
    given; gives what its process needs. private: default: as the workspace says. SnapshotError,
    StoreError."""
    run_id = child_id(experiment)
    room = store.prepare(read_policy(store.workspace).private if private is None else private)
    request: dict[str, Any] = {"display_name": display_name or "", "hpcrun": hpcrun.__version__}
    if source is not None:
        request |= _snapshot(store, room, source)
    context = interactive_context(room.run(run_id), run_id)
    make_record(context, request)
    return context


def _snapshot(store: FileStore, room: UserPaths, source: Path) -> Mapping[str, Any]:
    with GitFacts.start(source) as git:
        manifest = scan(source, limits=Limits(), leave_out=store.workspace)
        with kept_to(room.root):
            push(manifest, source, room)
        properties = {"ContentSnapshotId": manifest.digest, **git.properties()}
    return {
        "properties": properties,
        "snapshot": {
            "digest": manifest.digest,
            "manifest": room.manifest(manifest.digest),
            "objects": room.objects,
        },
    }
