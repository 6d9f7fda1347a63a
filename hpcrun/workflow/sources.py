"""The sources of runs that are mirrored: each snapshot comes once, whatever runs have it.

1  the far half tells manifests, each by its difference from the one before
2  contents that are not here come by rsync into `mirrors/<site>.sources/`: a cut leaves them
3  each is proved by its digest and takes its place in the store; then the manifest does
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hpcrun.errors import HpcrunError, SnapshotError, StoreError, TransportError
from hpcrun.faults import told
from hpcrun.layout import UserPaths
from hpcrun.manifest import Entry, Manifest, object_name, shown
from hpcrun.offer import Offer, answered, contents, refusal
from hpcrun.snapshot.objects import blocks, copy, published
from hpcrun.snapshot.push import publish, wanted
from hpcrun.store.bundle import object_path
from hpcrun.store.plain import open_plain
from hpcrun.transport.fetching import Files
from hpcrun.transport.rsync import Progress
from hpcrun.workflow.code import code_of
from hpcrun.workflow.session import Session

_NOBODY = 16 * "0"
"""Who sends: what is told here is not sent by its teller."""


def tell_sources(session: Session, runs: Iterable[str]) -> str:
    """The far half: the manifest of each run's source, or why there is none, a line each.

    runs: as a user names them.
    """
    lines, base = [], None
    for run in runs:
        try:
            user, run_id = session.store.find(run)
            manifest = code_of(session.workspace, session.store.read(run_id, user)).manifest
        except HpcrunError as error:
            lines.append(refusal(error))
        else:
            lines.append(Offer.of(manifest, base, _NOBODY).encode())
            base = manifest
    return "\n".join(lines)


def told_sources(digests: Sequence[str], text: str) -> list[Manifest | HpcrunError]:
    """What the far half has told of the runs that have these snapshots. TransportError: something
    else."""
    lines, base = text.splitlines(), None
    if len(lines) != len(digests):
        raise TransportError(f"of {len(digests)} sources the other side tells {len(lines)}")
    found: list[Manifest | HpcrunError] = []
    for digest, line in zip(digests, lines, strict=True):
        try:
            answered(line)
            manifest = Offer.decode(line).manifest(base)
            if manifest.digest != digest:
                raise SnapshotError(f"the other side has snapshot {manifest.digest} in its place")
        except TransportError:
            raise
        except HpcrunError as error:
            found.append(error)
        else:
            found.append(manifest)
            base = manifest
    return found


def lacking(manifests: Iterable[Manifest], own: UserPaths) -> dict[str, Entry]:
    """The contents of these snapshots that are not here: digest → a file that has it."""
    entries = {entry.sha256: entry for manifest in manifests for entry in contents(manifest)}
    return {
        sha256: entry
        for sha256, entry in entries.items()
        if wanted(f"{own.objects}/{object_name(sha256)}") != entry.size
    }


def bring_sources(
    manifests: Sequence[Manifest],
    lacks: Mapping[str, Entry],
    own: UserPaths,
    room: str,
    source: Files,
    progress: Progress | None = None,
) -> dict[str, HpcrunError]:
    """Brings snapshots into the store; gives which could not be, and why.

    lacks: their contents that are not here. room: the folder of their user there. StoreError: the
    disk here is full. TransportError: the connection was lost; what has come is kept.
    """
    place = Path(own.mirrors, f"{source.name}.sources")
    said: Sequence[str] = ()
    if lacks:
        with told(f"prepare {place}"):
            place.mkdir(parents=True, exist_ok=True)
        names = [object_path(sha256) for sha256 in sorted(lacks)]
        total = sum(entry.size for entry in lacks.values())
        said = source.fetch(room, names, place, place / ".cut", None, total, progress)
    failed: dict[str, HpcrunError] = {}
    for manifest in manifests:
        try:
            publish(manifest, own, lambda entry: _take(entry, place, own, said))
        except HpcrunError as error:
            failed[manifest.digest] = error
    shutil.rmtree(place, ignore_errors=True)
    return failed


def _take(entry: Entry, place: Path, own: UserPaths, said: Sequence[str]) -> None:
    """Brings one content into the store, unless it is there. StoreError: it is not what its name
    says, or has not come."""
    target = f"{own.objects}/{object_name(entry.sha256)}"
    if wanted(target) == entry.size:
        return
    came = place / object_path(entry.sha256)
    if not came.is_file():
        why = next((line for line in said if object_name(entry.sha256) in line), "it is not there")
        raise StoreError(f"the content of {shown(entry.path)} has not come ({why})")
    with (
        told(f"copy {shown(entry.path)} to {target}"),
        open_plain(came) as file,
        published(target) as aside,
    ):
        data = blocks(file.fileno(), StoreError, f"read {came}")
        if copy(data, aside) != entry.sha256:
            raise StoreError(f"the content of {shown(entry.path)} is damaged there")
