"""The format of an export: one tar file with runs, and with all that reading them takes.

    hpcrun-export.json                    first: the manifest, JSON
    runs/<yyyy-mm>/<run id>.h5            the record of a run, sealed
    files/<yyyy-mm>/<run id>/outputs/…    its files (also logs/, user_logs/, uploads/) and links
    snapshots/objects/<2>/<62>            contents of sources
    snapshots/<digest>.json               their manifests

so it is a piece of a user's folder. The manifest tells every member, in the order in which they
stand: `format`, `hpcrun` (the version), `sha256` (of all but its own line), `runs`, and `members`,
each an array. Of a file: its path,
its bytes, their SHA-256 (`store.holes`), 1 if it is executable, its time in nanoseconds, and, if it
has holes, the bytes of it that stand in the tar, else null. Of a link: its path, where it leads.

Whoever reads an export trusts nothing in it: the manifest is checked here, and headers are not
parsed but compared with those that its members must have.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import hpcrun
from hpcrun.errors import StoreError
from hpcrun.forms import is_count, is_digest, is_run_id, is_text
from hpcrun.layout import UserPaths, sealed_name
from hpcrun.manifest import object_name
from hpcrun.metrics.uploads import FOLDERS, UPLOADS
from hpcrun.store import tar
from hpcrun.store.formats import expect_known

NAME = "hpcrun-export.json"

FORMATS = (1,)
"""Those that are read; the last is written."""

LARGEST_MANIFEST = 256 << 20
"""Bytes; about a million files."""

KEPT = (*FOLDERS, UPLOADS)
"""The folders of a run's files that go along."""

_LONGEST_NAME = 255
_LONGEST_PATH = 4096
_LIMIT = 2**63


class Refused(StoreError):
    """An export that is not what it should be."""


class Member(NamedTuple):
    """A file of an export. size: its bytes. sha256: see `holes.Survey`. mtime: nanoseconds.

    packed: of a file with holes, the bytes of their map and of its data.
    """

    path: str
    size: int
    sha256: str
    executable: bool = False
    mtime: int = 0
    packed: int | None = None

    @property
    def stored(self) -> int:
        """The bytes of it that stand in the tar."""
        return self.size if self.packed is None else self.packed

    def header(self) -> bytes:
        """Its header."""
        sparse = self.size if self.packed is not None else None
        seconds = self.mtime // 10**9
        return tar.header(self.path, self.stored, self.executable, seconds, sparse_size=sparse)


class LinkMember(NamedTuple):
    """A symbolic link of an export. target: relative, and leads to one of the run's files."""

    path: str
    target: str

    def header(self) -> bytes:
        """Its header."""
        return tar.header(self.path, 0, target=self.target)


class RunEntry(NamedTuple):
    """A run of an export: whose it is, in which workspace; the digest of its snapshot, if that
    goes along; how many of its files do not."""

    run_id: str
    user: str
    workspace: str
    snapshot: str | None = None
    left_out: int = 0

    @property
    def record(self) -> str:
        """The path of its record."""
        paths = UserPaths("").run(self.run_id)
        return posixpath.join(paths.sealed, sealed_name(self.run_id, 0))

    @property
    def files(self) -> str:
        """The folder of its files."""
        return UserPaths("").run(self.run_id).files


def object_path(sha256: str) -> str:
    """The path of a content of a source."""
    return f"{UserPaths('').objects}/{object_name(sha256)}"


@dataclass(frozen=True)
class Bundle:
    """What an export holds. Make one from others' text with `decode`."""

    runs: tuple[RunEntry, ...]
    members: tuple[Member | LinkMember, ...]

    @property
    def files(self) -> Iterator[Member]:
        """The members that are no links."""
        return (member for member in self.members if isinstance(member, Member))

    @cached_property
    def by_run(self) -> Mapping[str, tuple[Member | LinkMember, ...]]:
        """run id → its files and links, without its record."""
        found: dict[str, list[Member | LinkMember]] = {run.run_id: [] for run in self.runs}
        for member in self.members:
            top, *parts = member.path.split("/")
            if top == "files":
                found[parts[1]].append(member)
        return {run_id: tuple(members) for run_id, members in found.items()}

    @property
    def stored(self) -> int:
        """The bytes of all members, without headers."""
        return sum(member.stored for member in self.files)

    def encode(self) -> bytes:
        """The manifest as JSON in ASCII, a run or member on a line."""
        runs = ",\n".join(_line(run._asdict()) for run in self.runs)
        members = ",\n".join(_line(_array(member)) for member in self.members)
        return with_digest(
            f'{{"format":{FORMATS[-1]},"hpcrun":"{hpcrun.__version__}"',
            f'"runs":[\n{runs}\n],\n"members":[\n{members}\n]}}\n',
        )

    @classmethod
    def decode(cls, text: bytes, named: str) -> Bundle:
        """The manifest in JSON. named: what messages call the export. NewerFormat, Refused."""
        try:
            value = json.loads(text)
            by = value.get("hpcrun")
            expect_known(named, value["format"], FORMATS, by)
            _, line, _ = text.split(b"\n", 2)
            if value["sha256"] != _digest_beside(text, line):
                raise ValueError("its digest is another")
            runs = tuple(RunEntry(**run) for run in value["runs"])
            members = tuple(map(_member, value["members"]))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(f"the manifest of {named} is damaged: {error!r}") from error
        for problem in _problems(runs, members):
            raise Refused(f"{named} is refused: {problem}")
        return cls(runs, members)


def with_digest(head: str, rest: str) -> bytes:
    """A manifest: its first line, the line of its digest, the rest."""
    text = f"{head},\n{rest}".encode("ascii")
    digest = f'"sha256":"{hashlib.sha256(text).hexdigest()}",\n'.encode()
    return text.replace(b"\n", b"\n" + digest, 1)


def _digest_beside(text: bytes, line: bytes) -> str:
    return hashlib.sha256(text.replace(line + b"\n", b"", 1)).hexdigest()


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _array(member: Member | LinkMember) -> list[Any]:
    if isinstance(member, LinkMember):
        return [*member]
    return [int(field) if isinstance(field, bool) else field for field in member]


def _member(value: list[Any]) -> Member | LinkMember:
    """ValueError, TypeError: it is none."""
    if len(value) == 2:
        return LinkMember(_text(value[0]), _text(value[1]))
    path, size, sha256, executable, mtime, packed = value
    numbers = (size, mtime, *([packed] if packed is not None else []))
    if not all(is_count(number) and number < _LIMIT for number in numbers):
        raise ValueError(f"numbers of {path!r}")
    if executable not in (0, 1) or not is_digest(sha256):
        raise ValueError(f"fields of {path!r}")
    return Member(_text(path), size, sha256, bool(executable), mtime, packed)


def _text(value: Any) -> str:
    if not is_text(value) or not value or "\0" in value:
        raise ValueError(f"not a name: {value!r}")
    value.encode("utf-8", "surrogateescape")
    return str(value)


def _problems(
    runs: tuple[RunEntry, ...], members: tuple[Member | LinkMember, ...]
) -> Iterator[str]:
    """What is wrong with a manifest, in words; nothing of it leads outside of what it tells."""
    yield from _wrong_runs(runs)
    yield from _wrong_paths([member.path for member in members])
    places = _Places.of(runs)
    for member in members:
        yield from places.wrong(member)
    paths = {member.path for member in members if isinstance(member, Member)}
    for needed in sorted(places.known - paths):
        yield f"it has no {needed}"


def _wrong_runs(runs: tuple[RunEntry, ...]) -> Iterator[str]:
    seen: set[object] = set()
    for run in runs:
        if not is_run_id(run.run_id) or run.run_id.startswith("."):
            yield f"{run.run_id!r} is no run id"
        elif run.run_id in seen:
            yield f"run {run.run_id} stands in it twice"
        elif not (is_text(run.user) and is_text(run.workspace) and is_count(run.left_out)):
            yield f"what it tells of run {run.run_id} has another form"
        elif run.snapshot is not None and not is_digest(run.snapshot):
            yield f"the snapshot of run {run.run_id} has no digest"
        seen.add(run.run_id)


def _wrong_paths(paths: list[str]) -> Iterator[str]:
    known, seen = set(paths), set()
    for path in paths:
        if len(path) > _LONGEST_PATH:
            yield f"the name of its member {path[:60]!r}… is too long"
        parts = path.split("/")
        above = ("/".join(parts[:length]) for length in range(1, len(parts)))
        if any(part in ("", ".", "..") for part in parts):
            yield f"its member {path!r} leads elsewhere"
        elif any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME for part in parts):
            yield f"the name of its member {path[:60]!r}… is too long"
        elif not known.isdisjoint(above):
            yield f"its member {path!r} lies in another file, or behind a link"
        elif path in seen:
            yield f"its member {path!r} stands in it twice"
        seen.add(path)


def _manifests(runs: tuple[RunEntry, ...]) -> frozenset[str]:
    return frozenset(UserPaths("").manifest(run.snapshot) for run in runs if run.snapshot)


class _Places(NamedTuple):
    """Where members may lie. known: records and snapshots. folders: of runs' files."""

    known: frozenset[str]
    folders: frozenset[str]

    @classmethod
    def of(cls, runs: tuple[RunEntry, ...]) -> _Places:
        records = frozenset(run.record for run in runs)
        return cls(records | _manifests(runs), frozenset(run.files for run in runs))

    def wrong(self, member: Member | LinkMember) -> Iterator[str]:
        """What is wrong with where a member lies, or where it leads."""
        parts = member.path.split("/")
        folder, inside = "/".join(parts[:3]), parts[3:]
        if folder in self.folders and len(inside) > 1 and inside[0] in KEPT:
            if isinstance(member, LinkMember) and not leads_inside("/".join(inside), member.target):
                yield f"its link {member.path!r} leads outside of the run: {member.target!r}"
            return
        plain = isinstance(member, Member) and member.packed is None and member
        if plain and (plain.path == object_path(plain.sha256) or plain.path in self.known):
            return
        yield f"its member {member.path!r} belongs to no run of it"


def leads_inside(name: str, target: str) -> bool:
    """Whether a link, by its words alone, leads to what goes along of a run's files."""
    if target.startswith("/"):
        return False
    parts = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)).split("/")
    return parts[0] in KEPT
