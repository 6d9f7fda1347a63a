"""The near half of a push over SSH: only what the far side lacks is sent, by rsync.

Nothing is read twice: rsync is given links to the contents under their digests. After a cut, the
same push sends the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcrun.errors import HpcrunError, SnapshotError, StoreError
from hpcrun.manifest import Entry, Manifest, shown_size
from hpcrun.offer import Offer, Reply, answered, contents
from hpcrun.transport.rsync import FULL, UNWRITTEN, Progress, failure, lines_of, rsync, run
from hpcrun.turns import alone


@dataclass(frozen=True)
class Far:
    """A store of snapshots on another machine.

    name: what the user calls it. place: tells it from others, such as `site:/folder`. ask: one of
    the steps `offer`, `take` and `drop` with its text, to the far side's `hpcrun receive`; gives
    what that prints. ssh: the words that log in, with the host at the end.
    """

    name: str
    place: str
    ask: Callable[[str, str], str]
    login: Callable[[], Sequence[str]]


def upload(
    manifest: Manifest,
    source: Path,
    far: Far,
    cache: Path | None,
    progress: Progress | None = None,
) -> bool:
    """Brings a snapshot into a far store; False if it was there already.

    cache: the folder where is kept what was last brought there from here. SnapshotError: the source
    is no longer what was scanned. StoreError: the far store cannot be written, or is full; no part
    of a file is left there. TransportError: the connection was lost; what has arrived is kept, and
    the next push sends the rest.
    """
    root = os.path.realpath(os.fsencode(source))
    here = f"{_machine(cache)}\0{socket.gethostname()}\0{os.getuid()}\0"
    sender = hashlib.sha256(here.encode() + root)
    known = _Known.of(cache, far, sender.hexdigest())
    with known.alone():
        base = known.last()
        reply = _offered(manifest, base, sender.hexdigest()[:16], far)
        if not reply.there:
            _send(manifest, root, reply, sender.hexdigest()[:16], far, progress)
        if base is None or base.digest != manifest.digest:
            known.keep(manifest)
    return not reply.there


def _machine(cache: Path | None) -> str:
    """What tells this machine from others of its name: two of them may push at once."""
    if cache is None:
        return ""
    with contextlib.suppress(OSError):
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = cache / "machine"
        with contextlib.suppress(FileExistsError), file.open("x") as new:
            new.write(os.urandom(16).hex())
        return file.read_text()
    return ""


def _offered(manifest: Manifest, base: Manifest | None, sender: str, far: Far) -> Reply:
    while True:
        reply = Reply.decode(far.ask("offer", Offer.of(manifest, base, sender).encode()))
        if reply.known or base is None:
            return reply
        base = None


def _send(
    manifest: Manifest,
    root: bytes,
    reply: Reply,
    sender: str,
    far: Far,
    progress: Progress | None,
) -> None:
    all_contents = contents(manifest)
    lacking = [all_contents[n] for n in reply.lacks]
    try:
        if lacking:
            with _staged(lacking, root) as staging:
                words = rsync_words(staging, reply.folder, far)
                total = sum(entry.size for entry in lacking)
                code, said = run(words, total, progress, reply.meanwhile)
            if code:
                raise _failure(code, said, total, far)
        answered(far.ask("take", sender))
    except StoreError:
        with contextlib.suppress(HpcrunError):
            far.ask("drop", sender)
        raise


@contextlib.contextmanager
def _staged(lacking: Sequence[Entry], root: bytes) -> Iterator[str]:
    """A folder of links to files under their digests, for as long as they are sent.

    In memory where there is a place for it: on a busy disk, a link takes a millisecond.
    """
    in_memory = (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm")
    place = next((d for d in in_memory if d and os.access(d, os.W_OK | os.X_OK)), None)
    with tempfile.TemporaryDirectory(prefix="hpcrun-push-", dir=place) as folder:
        for entry in lacking:
            path = os.path.join(root, entry.path.encode("utf-8", "surrogateescape"))
            os.symlink(path, f"{folder}/{entry.sha256}")
        yield folder


def rsync_words(staging: str, folder: str, far: Far) -> list[str]:
    """The words that send what is staged to a folder there.

    What is in `../basis` there is started from. Nothing is skipped for its size and time: the far
    side has said what it lacks.
    """
    options = ("--copy-links", "--ignore-times", "--compare-dest=../basis")
    return [*rsync(far.login(), *options), f"{staging}/", f"far:{folder}/"]


def _failure(code: int, said: str, total: int, far: Far) -> HpcrunError:
    """What it means that rsync failed, with its own words."""
    lines = lines_of(said)
    first = next((line for line in lines if FULL.search(line)), None)
    if first is not None:
        return StoreError(
            f"{far.name} has no room for the {shown_size(total)} that it lacks of the snapshot:"
            f" {first}",
            "free space there, choose another workspace, or leave out what the run does not need",
        )
    if code == UNWRITTEN:
        told = f": {lines[0]}" if lines else ""
        return StoreError(
            f"{far.name} cannot write what it lacks of the snapshot, {shown_size(total)}{told}",
            "free space there, choose another workspace, or leave out what the run does not need",
        )
    if code in (23, 24):
        told = f": {lines[0]}" if lines else ""
        return SnapshotError(
            f"a file changed after it was scanned, or cannot be read{told}",
            "submit again, when nothing writes to the source folder",
            transient=True,
        )
    return failure(code, said, far.name, f"{shown_size(total)} of the snapshot were sent")


@dataclass(frozen=True)
class _Known:
    """What is known here of the last snapshot that was brought to a store; None: nothing is."""

    file: Path | None

    @classmethod
    def of(cls, cache: Path | None, far: Far, sender: str) -> _Known:
        if cache is None:
            return cls(None)
        name = hashlib.sha256(f"{far.place}\0{sender}".encode(errors="surrogateescape"))
        return cls(cache / f"pushed-{name.hexdigest()[:32]}")

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """One push at a time from a folder to a store; two at once may have to be tried again."""
        return alone(f"{self.file}.lock") if self.file is not None else contextlib.nullcontext()

    def last(self) -> Manifest | None:
        if self.file is None:
            return None
        try:
            return Manifest.decode(self.file.read_bytes())
        except (OSError, SnapshotError):
            return None

    def keep(self, manifest: Manifest) -> None:
        """Failing to is no error."""
        if self.file is None:
            return
        aside = self.file.with_name(f".{self.file.name}.{os.urandom(6).hex()}")
        with contextlib.suppress(OSError):
            try:
                aside.write_bytes(manifest.encode())
                aside.rename(self.file)
            finally:
                aside.unlink(missing_ok=True)
