"""The workspace, and the folders that a site tells of."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpcrun.errors import HpcrunError
from hpcrun.site import SiteConfig
from hpcrun.site.storage import Root
from hpcrun.workflow.finding import Finding
from hpcrun.workflow.honoured import FEW_INODES, LITTLE_SPACE
from hpcrun.workflow.places import expanded, objections, place_of
from hpcrun.workflow.session import Session


def workspace(session: Session) -> Iterator[Finding]:
    """Whether it can be written, locks work on it, and there is room."""
    path = session.workspace
    try:
        made = path.exists()
        if made:
            session.store.prepare()
        folder = _nearest_folder(Path(session.store.own.active))
        with _probe(folder) as probe:
            locks = _trouble_with_locks(probe)
        room = os.statvfs(folder)
    except (HpcrunError, OSError) as error:
        cure = "choose another: -w FOLDER"
        yield Finding("error", "workspace", f"{path} cannot be written: {error}", cure)
        return
    is_writable = "is writable" if made else "can be made"
    yield Finding("ok", "workspace", f"{path} {is_writable} (from {session.origin})")
    if path.is_relative_to("/tmp"):
        yield Finding(
            "warning",
            "workspace",
            f"{path} is in /tmp, which is often private to a node and emptied",
            "choose a shared folder that is not purged",
        )
    if locks is None:
        yield Finding("ok", "locks", f"work in {folder}")
    else:
        message = f"{locks} in {folder}: two of your processes may do the same work twice"
        yield Finding("warning", "locks", message, "ask for a mount with flock, or choose another")
    yield _room(room)


@contextlib.contextmanager
def _probe(folder: Path) -> Iterator[Path]:
    path = folder / f".doctor-{os.getpid()}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink()


def _trouble_with_locks(path: Path) -> str | None:
    """What is wrong with flock there; None: it keeps a second one out."""
    with path.open("wb") as first, path.open("wb") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return f"locks do not work ({error.strerror})"
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        except OSError as error:
            return f"locks do not work ({error.strerror})"
        return "a lock keeps nobody out"


def _room(room: os.statvfs_result) -> Finding:
    free = room.f_bavail * room.f_frsize
    inodes = room.f_favail if room.f_files else None
    little = free < LITTLE_SPACE or (inodes is not None and inodes < FEW_INODES)
    counted = "inodes are not counted" if inodes is None else f"{inodes:,} inodes"
    message = f"{free / 2**30:,.1f} GiB and {counted} are free"
    cure = "free space: hpcrun store gc, hpcrun store seal, hpcrun delete" if little else ""
    return Finding("warning" if little else "ok", "space", message, cure)


def _nearest_folder(path: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def folders(session: Session, site: SiteConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The site's folders as they are here, and whether the workspace lies in the right one."""
    storage, places = site.storage, dict[str, str]()
    for name, root in storage.roots.items():
        place, key = place_of(root, environ), f"storage.roots.{name}"
        if place is None:
            continue
        if "$" in place:
            message = f"{place} names a variable that is not set here"
            cure = (
                f"run `{root.env_after}` first"
                if root.env_after
                else "load the module that sets it"
            )
            yield Finding("warning", key, message, f"{cure}, or mend the file")
        elif root.scope == "shared" and not Path(place).is_dir():
            yield Finding("warning", key, f"there is no folder {place} here", "mend the site file")
        else:
            places[name] = os.path.realpath(place)
            yield _as_it_is(key, name, root, place)
    if storage.quota_command is not None:
        yield Finding("ok", "quota", f"`{storage.quota_command}` tells what is left of yours")
    here = os.path.realpath(session.workspace)
    for message, cure in objections(here, storage, places):
        yield Finding("error", "workspace", message, f"{cure}: -w FOLDER, or hpcrun init -w FOLDER")
    for message, cure in session.misplaced(site):
        yield Finding("warning", "workspace", message, cure)
    yield from _scratch(storage.scratch, environ)


def _as_it_is(key: str, name: str, root: Root, place: str) -> Finding:
    """Whether a folder can be written and locked, as the site says."""
    locks, cannot = None, None
    if root.scope == "shared":
        try:
            with _probe(Path(place)) as probe:
                locks = _trouble_with_locks(probe)
        except OSError as error:
            cannot = f"{place} cannot be written: {error.strerror}"
    if cannot is not None and (root.env is not None or "$" in (root.path or "")):
        return Finding("warning", key, cannot, "free space, or ask your cluster's staff")
    if locks is not None and root.flock:
        cure = "say so in the site file, flock: false, or ask for a mount with flock"
        return Finding("warning", key, f"{locks} in {place}", cure)
    below = () if cannot is None else ("where you write in folders below it",)
    return Finding("ok", key, ", ".join((place, *_of_root(name, root), *below)))


def _of_root(name: str, root: Root) -> Iterator[str]:
    """What is to be known of a folder before much is put there."""
    if root.size is not None or root.files is not None:
        files = f"{root.files:,} files" if root.files is not None else None
        whose = f" of each {root.quota_of}" if root.quota_of else ""
        yield f"holds {' and '.join(filter(None, (root.size, files)))}{whose}"
    if root.purge is not None:
        since = "read" if root.purge.basis == "atime" else "changed"
        logins = "" if root.purge.login_reads_count else " by jobs"
        yield f"emptied of what was not {since}{logins} for {root.purge.days} days"
    if not root.writable_on_compute:
        yield "jobs cannot write there"
    if root.counts_as_memory:
        yield "what lies there counts as memory of the job"
    if root.request is not None:
        yield f"jobs have it if they ask: resources.storage: [{name}]"
    if not root.flock:
        yield "locks do not work there"


def _scratch(scratch: str | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    if scratch is None:
        return
    place = expanded(scratch, environ)
    if "$" in place:
        message = f"{place} names a variable that is not set here: no run can work on scratch"
        yield Finding("warning", "storage.scratch", message, "load the module that sets it")
    elif not os.access(_nearest_folder(Path(place)), os.W_OK):
        message = f"{place} cannot be written: no run can work on scratch"
        yield Finding("warning", "storage.scratch", message, "mend the site file")
    else:
        yield Finding("ok", "storage.scratch", f"{place} can be written")
