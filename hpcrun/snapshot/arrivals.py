"""The far half of a push over SSH: what is lacking, where it arrives, and how it is taken in.

Contents arrive in a private folder of the sender's beside the snapshots, each under its digest, and
are moved into the store once they are what their names say:

    snapshots/.incoming-<sender>/manifest.json   what is being sent
    snapshots/.incoming-<sender>/arrived/        contents, as far as they have come
    snapshots/.incoming-<sender>/basis/          what is known of them, for rsync to start from

A sender that was cut off says the same again and sends the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from typing import NamedTuple

from hpcrun.errors import SnapshotError, StoreError
from hpcrun.faults import told
from hpcrun.forms import is_digest
from hpcrun.layout import UserPaths
from hpcrun.manifest import Entry, Manifest, object_name, shown, shown_size
from hpcrun.offer import Offer, Reply, contents
from hpcrun.rights import umask_of
from hpcrun.snapshot.objects import READING, published, write_all
from hpcrun.snapshot.parallel import each
from hpcrun.snapshot.push import check_content, make_folders, publish, wanted
from hpcrun.snapshot.restore import read_manifest

PAUSE = 0.2
"""Seconds between two looks at what has arrived."""

_PART = re.compile(r"\.([0-9a-f]{64})\.\w+")
"""How rsync calls a file while it comes."""

WORTH_A_BASIS = 4096
"""Bytes of a content from which on an earlier one saves sending it as a whole."""


class Incoming(NamedTuple):
    """Where a sender's contents arrive."""

    root: str

    @classmethod
    def of(cls, paths: UserPaths, sender: str) -> Incoming:
        return cls(f"{paths.snapshots}/.incoming-{sender}")

    @property
    def manifest(self) -> str:
        return f"{self.root}/manifest.json"

    @property
    def arrived(self) -> str:
        return f"{self.root}/arrived"

    @property
    def basis(self) -> str:
        return f"{self.root}/basis"


def welcome(offer: Offer, paths: UserPaths) -> Reply:
    """What has to be sent of a snapshot, after taking in what has arrived of it before.

    SnapshotError: the offer is damaged. StoreError: the store cannot be read or written, or has no
    room for what is lacking; then nothing of it is left.
    """
    if wanted(paths.manifest(offer.digest)) is not None:
        drop(offer.sender, paths)
        return Reply(there=True)
    base = _base(offer, paths)
    if base is None and offer.base is not None:
        return Reply(known=False)
    manifest = offer.manifest(base)
    incoming = Incoming.of(paths, offer.sender)
    with told(f"prepare {incoming.root}"):
        os.makedirs(paths.snapshots, exist_ok=True)
        for folder in (incoming.root, incoming.arrived):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        shutil.rmtree(incoming.basis, ignore_errors=True)
        os.mkdir(incoming.basis, 0o700)
        _settle(incoming, paths)
        all_contents = contents(manifest)
        sizes = each(lambda entry: wanted(_object(entry.sha256, paths)), all_contents)
        lacks = [n for n, entry in enumerate(all_contents) if sizes[n] != entry.size]
        _check_room([all_contents[n] for n in lacks], offer.sender, paths)
        _find_bases([all_contents[n] for n in lacks], base, incoming, paths)
        with published(incoming.manifest) as descriptor:
            write_all(descriptor, manifest.encode())
    return Reply(folder=os.path.abspath(incoming.arrived), lacks=tuple(lacks))


def gather(sender: str, process: int, paths: UserPaths) -> None:
    """Takes in what arrives for as long as a process goes on: rsync's other half.

    OSError and StoreError end it; what is left is taken in at the end.
    """
    incoming = Incoming.of(paths, sender)
    damaged: set[str] = set()
    goes_on = True
    while goes_on:
        goes_on = os.path.exists(f"/proc/{process}")
        with contextlib.suppress(FileNotFoundError):
            names = [n for n in os.listdir(incoming.arrived) if is_digest(n)]
            new = [name for name in names if name not in damaged]
            make_folders(new, paths)
            moved = each(lambda name: _move_if_there(incoming, name, paths), new)
            damaged.update(name for name, whole in zip(new, moved, strict=True) if not whole)
        if goes_on:
            time.sleep(PAUSE)


def _move_if_there(incoming: Incoming, name: str, paths: UserPaths) -> bool:
    """As `_move`; what is gone, somebody else has moved."""
    try:
        return _move(f"{incoming.arrived}/{name}", name, paths)
    except FileNotFoundError:
        return True


def take(sender: str, paths: UserPaths) -> str:
    """Takes in what was sent, all of it or nothing; gives the snapshot's digest.

    SnapshotError: a content has not arrived, or is not what was scanned. StoreError.
    """
    incoming = Incoming.of(paths, sender)
    with (
        told(f"read {incoming.manifest}"),
        os.fdopen(os.open(incoming.manifest, READING), "rb") as file,
    ):
        manifest = Manifest.decode(file.read())
    publish(manifest, paths, lambda entry: _take(entry, incoming, paths))
    drop(sender, paths)
    return manifest.digest


def drop(sender: str, paths: UserPaths) -> None:
    """Removes what a sender has sent and what is not taken in."""
    shutil.rmtree(Incoming.of(paths, sender).root, ignore_errors=True)


def _base(offer: Offer, paths: UserPaths) -> Manifest | None:
    """The manifest that an offer starts from; None if it starts from none, or it is not here."""
    if offer.base is None or not os.path.exists(paths.manifest(offer.base)):
        return None
    try:
        return read_manifest(paths, offer.base)
    except StoreError:
        return None  # it is damaged: told anew, as a whole


def _object(sha256: str, paths: UserPaths) -> str:
    return f"{paths.objects}/{object_name(sha256)}"


def _settle(incoming: Incoming, paths: UserPaths) -> None:
    """What has arrived whole goes to the store; the rest is a basis for itself. OSError."""
    names = os.listdir(incoming.arrived)
    make_folders(filter(is_digest, names), paths)

    def settle(name: str) -> None:
        if is_digest(name) and _move_if_there(incoming, name, paths):
            return
        # rsync may hold it open still, where the connection was cut and nobody has noticed there.
        part = _PART.fullmatch(name)
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{incoming.arrived}/{name}", f"{incoming.basis}/{part[1] if part else name}")

    each(settle, sorted(names))


def _check_room(lacking: Sequence[Entry], sender: str, paths: UserPaths) -> None:
    needed = sum(entry.size for entry in lacking)
    status = os.statvfs(paths.snapshots)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        drop(sender, paths)
        raise StoreError(
            f"the snapshot needs {shown_size(needed)} more, and {shown_size(free)} are free in"
            f" {paths.snapshots}",
            "free space there, choose another workspace, or leave out what the run does not need",
        )


def _find_bases(
    lacking: Sequence[Entry], base: Manifest | None, incoming: Incoming, paths: UserPaths
) -> None:
    """Puts what a file held in the base where rsync looks for what it can start from.

    rsync finds equal blocks wherever they are: what had arrived before comes first, if any.
    """
    before = {entry.path: entry for entry in base.files} if base is not None else {}
    for entry in lacking:
        earlier = before.get(entry.path)
        if earlier is None or min(earlier.size, entry.size) < WORTH_A_BASIS:
            continue
        # Without it all is sent: a file server may have no links, and collecting goes on.
        with contextlib.suppress(OSError):
            _add_basis(_object(earlier.sha256, paths), f"{incoming.basis}/{entry.sha256}")


def _add_basis(source: str, basis: str) -> None:
    if not os.path.exists(basis):
        os.link(source, basis)
        return
    with open(source, "rb") as more, open(basis, "ab") as file:
        shutil.copyfileobj(more, file)


def _take(entry: Entry, incoming: Incoming, paths: UserPaths) -> None:
    if wanted(_object(entry.sha256, paths)) == entry.size:
        return
    arrived = f"{incoming.arrived}/{entry.sha256}"
    with told(f"take in {shown(entry.path)}, {arrived}"):
        try:
            whole = _move(arrived, entry.sha256, paths)
        except FileNotFoundError as error:
            if wanted(_object(entry.sha256, paths)) == entry.size:
                return  # who gathers has moved it meanwhile
            raise SnapshotError(
                f"{shown(entry.path)} has not arrived", "push again", transient=True
            ) from error
        if not whole:
            os.unlink(arrived)
            check_content(entry, "")


def _move(arrived: str, sha256: str, paths: UserPaths) -> bool:
    """Moves a content into the store if it is what its name says; whether it was. OSError."""
    descriptor = os.open(arrived, READING)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            return False
        os.fchmod(descriptor, 0o444 & ~umask_of(paths.root))
        os.fsync(descriptor)
    os.rename(arrived, _object(sha256, paths))
    return True
