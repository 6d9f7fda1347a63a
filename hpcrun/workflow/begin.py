"""Beginning an interactive run: its record, and a snapshot of the source if one is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hpcrun
from hpcrun.manifest import Limits
from hpcrun.metrics.context import Context
from hpcrun.metrics.family import child_id
from hpcrun.metrics.interactive import interactive_context, make_record
from hpcrun.snapshot import GitFacts, push, scan
from hpcrun.store import FileStore


def begin(
    store: FileStore, experiment: str, display_name: str | None, source: Path | None
) -> Context:
    """Makes the record of an interactive run, with a snapshot of the source folder if one is
    given; gives what its process needs. SnapshotError, StoreError."""
    run_id = child_id(experiment)
    store.prepare()
    request: dict[str, Any] = {"display_name": display_name or "", "hpcrun": hpcrun.__version__}
    if source is not None:
        request |= _snapshot(store, source)
    context = interactive_context(store.paths(run_id), run_id)
    make_record(context, request)
    return context


def _snapshot(store: FileStore, source: Path) -> Mapping[str, Any]:
    with GitFacts.start(source) as git:
        manifest = scan(source, limits=Limits(), leave_out=store.workspace)
        push(manifest, source, store.own)
        properties = {"ContentSnapshotId": manifest.digest, **git.properties()}
    return {
        "properties": properties,
        "snapshot": {
            "digest": manifest.digest,
            "manifest": store.own.manifest(manifest.digest),
            "objects": store.own.objects,
        },
    }
