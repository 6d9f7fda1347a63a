"""What is said of a snapshot before it is sent: what is new since one that the other side has.

Pure: no input or output. A change of one line in thousands of files is told in a few hundred bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from hpcrun.errors import HpcrunError, SnapshotError, StoreError, TransportError
from hpcrun.forms import is_digest
from hpcrun.manifest import Entry, Link, Manifest, check_paths, entry_of

_NAME = re.compile("[0-9a-f]{16}")


class Offer(NamedTuple):
    """A manifest, told by its difference from another.

    sender: 16 hex digits that name who sends: where a transfer was cut, theirs goes on. digest: of
    the manifest. base: the digest of the other manifest; None: `entries` are all. gone: paths of
    the base that this one does not have.
    """

    sender: str
    digest: str
    base: str | None
    gone: tuple[str, ...]
    entries: tuple[Entry | Link, ...]

    @classmethod
    def of(cls, manifest: Manifest, base: Manifest | None, sender: str) -> Offer:
        """What tells a manifest to one who has the base."""
        before = {entry.path: entry for entry in base.entries} if base is not None else {}
        entries = tuple(entry for entry in manifest.entries if before.get(entry.path) != entry)
        gone = before.keys() - {entry.path for entry in manifest.entries}
        told = base.digest if base is not None else None
        return cls(sender, manifest.digest, told, tuple(sorted(gone)), entries)

    def manifest(self, base: Manifest | None) -> Manifest:
        """The manifest that is told. SnapshotError: it is not what its digest says."""
        entries = {entry.path: entry for entry in base.entries} if base is not None else {}
        for path in self.gone:
            entries.pop(path, None)
        entries |= {entry.path: entry for entry in self.entries}
        manifest = Manifest.of(entries.values())
        if manifest.digest != self.digest:
            raise SnapshotError(
                f"the offer of snapshot {self.digest} is damaged: its entries make"
                f" {manifest.digest}"
            )
        check_paths(manifest.entries)
        return manifest

    def encode(self) -> str:
        """The offer as JSON in ASCII."""
        entries = [entry._asdict() for entry in self.entries]
        return json.dumps({**self._asdict(), "entries": entries}, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Offer:
        """The offer in JSON. SnapshotError if it is damaged."""
        try:
            value = json.loads(text)
            gone = tuple(map(str, value["gone"]))
            entries = tuple(map(entry_of, value["entries"]))
            base = value["base"]
            offer = cls(sender_of(value["sender"]), value["digest"], base, gone, entries)
            if not all(map(is_digest, (offer.digest, base or offer.digest))):
                raise ValueError("a digest")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SnapshotError(f"the offer of a snapshot is damaged: {error!r}") from error
        return offer


def sender_of(told: Any) -> str:
    """A sender's name. ValueError if it could not be one."""
    if not isinstance(told, str) or not _NAME.fullmatch(told):
        raise ValueError(f"no sender: {told!r}")
    return told


_ERRORS = {kind.__name__: kind for kind in (HpcrunError, SnapshotError, StoreError)}


def refusal(error: HpcrunError) -> str:
    """What is said instead of a reply: an error of the other side's, as JSON."""
    kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _ERRORS)
    told = {"kind": kind, "message": error.message, "hint": error.hint}
    return json.dumps({"error": {**told, "transient": error.transient}})


def answered(text: str) -> Any:
    """What the other side says. Raises what it says it raised; TransportError: it is no JSON."""
    try:
        value = json.loads(text)
        error = value.get("error")
        if error is not None:
            kind = _ERRORS[error["kind"]]
            raised = kind(error["message"], error["hint"], error["transient"])
    except (ValueError, KeyError, TypeError, AttributeError) as why:
        raise TransportError(f"the other side says what is no reply: {text[:80]!r}") from why
    if error is not None:
        raise raised
    return value


class Reply(NamedTuple):
    """What the other side says to an offer.

    there: it has the snapshot. known: it has the base; if not, the manifest is told anew, as a
    whole. folder: the full path where the contents go that it lacks. lacks: these, as positions in
    `contents` of the manifest. meanwhile: a line for a POSIX shell there that becomes rsync, to be
    run in the background; it takes in what has arrived.
    """

    there: bool = False
    known: bool = True
    folder: str = ""
    lacks: tuple[int, ...] = ()
    meanwhile: str = ""

    def encode(self) -> str:
        return json.dumps(self._asdict(), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Reply:
        """The reply in JSON. TransportError: it is none; and what the other side says it raised."""
        value = answered(text)
        try:
            return cls(**{**value, "lacks": tuple(map(int, value["lacks"]))})
        except (ValueError, KeyError, TypeError) as why:
            raise TransportError(f"the other side says what is no reply: {text[:80]!r}") from why


def contents(manifest: Manifest) -> list[Entry]:
    """One file for each content, in an order that both sides know."""
    once = {entry.sha256: entry for entry in reversed(manifest.files)}
    return [once[sha256] for sha256 in sorted(once)]
