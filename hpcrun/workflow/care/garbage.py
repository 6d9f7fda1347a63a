"""What no run needs: first a value that says what and how much, then taking it away.

    snapshot   a manifest that no run names, and contents that no manifest names
    leftover   what processes wrote aside that were killed, and damaged files that were replaced
    journals   journals that are sealed, once their time is over
    sdk        versions of hpcrun's part of jobs that no unsealed run uses

All of it is a user's own. What was made or touched in the last two days stays: a submission that
goes on has touched what it needs before it tells so (see `snapshot.unneeded`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import UserPaths
from hpcrun.rights import kept_to
from hpcrun.snapshot import unneeded
from hpcrun.snapshot.unneeded import COLLECTED
from hpcrun.store.plain import below, folders_in
from hpcrun.store.policy import read_policy
from hpcrun.store.sdk import sdk_name
from hpcrun.store.sealing import remove_journals
from hpcrun.store.stored import RETIRED, StoredRun
from hpcrun.workflow.care.listed import ListedStore
from hpcrun.workflow.care.walk import walk
from hpcrun.workflow.seal import KEPT
from hpcrun.workflow.session import Session

YOUNG = 2 * 86400.0
"""Seconds for which nothing that was made or touched is taken away."""


class Garbage(NamedTuple):
    """Something that no run needs: a file, or a folder with all in it.

    what: snapshot, leftover, journals or sdk.
    """

    what: str
    path: str
    files: int
    bytes: int


class Cleaning(NamedTuple):
    """What would be taken away. problems: what stays for now, and why, a line each."""

    garbage: Sequence[Garbage]
    problems: Sequence[str] = ()

    @property
    def files(self) -> int:
        """How many files."""
        return sum(each.files for each in self.garbage)

    @property
    def bytes(self) -> int:
        """How many bytes."""
        return sum(each.bytes for each in self.garbage)


class _Needs(NamedTuple):
    """snapshots: digests. sdk: names of versions. unknown: whose needs nobody can know."""

    snapshots: set[str]
    sdk: set[str]
    unknown: str = ""


def plan_cleaning(session: Session, now: float) -> Cleaning:
    """All that no run of this user's needs. Nothing is removed.

    StoreError, also where a later hpcrun may lay things out in another way.
    """
    own = session.store.own
    read_policy(session.workspace)
    with told(f"look for what no run needs in {own.root}"):
        if not Path(own.root).is_dir():
            return Cleaning(())
        garbage: list[Garbage] = []
        needs: dict[UserPaths, _Needs] = {}
        for room in session.store.rooms():
            unneeded.give_back(room)
            store = ListedStore(session.workspace, session.user, room)
            garbage += [*leftovers(room, now), *_journals(store, now)]
            needs[room] = _needs(store)
        unknown = next((each.unknown for each in needs.values() if each.unknown), "")
        if unknown:
            message = f"what {unknown} needs cannot be read: snapshots and sdk/ stay"
            return Cleaning(garbage, (f"{message}; hpcrun store check tells more",))
        # Jobs of all rooms start versions in the one sdk/; snapshots are each room's own.
        garbage += _sdk(own, set().union(*(each.sdk for each in needs.values())), now)
        problems = []
        for room, needed in needs.items():
            going = unneeded.manifests(room, needed.snapshots, now - YOUNG)
            garbage += _snapshots(going)
            try:
                named = {each.path for each in going}
                garbage += _snapshots(unneeded.contents(room, named, now - YOUNG))
            except StoreError as error:
                problems.append(f"contents of snapshots stay: {error}")
        return Cleaning(garbage, problems)


def clean_up(session: Session, cleaning: Cleaning, now: float) -> Cleaning:
    """Takes away what was planned, as far as nobody has wanted it since; gives what has gone."""
    gone, problems = [], list(cleaning.problems)
    named = [each for each in cleaning.garbage if each.what == "snapshot"]
    are_manifests = [each for each in named if each.path.endswith(".json")]
    for each in [*(e for e in cleaning.garbage if e.what != "snapshot"), *are_manifests]:
        try:
            with told(f"remove {each.path}"):
                if _take_away(session, each, now):
                    gone.append(each)
        except StoreError as error:
            problems.append(str(error))
        except RecursionError:
            problems.append(f"{each.path} is too deep: rm -r {each.path}")
    # A manifest that somebody wanted meanwhile is there again: what it names is.
    for room in session.store.rooms():
        try:
            with told(f"remove contents of {room.objects}"):
                unnamed = {each.path for each in unneeded.contents(room, (), now - YOUNG)}
                for each in named:
                    if each.path in unnamed and unneeded.take_away(each.path, now - YOUNG):
                        gone.append(each)
        except StoreError as error:
            problems.append(str(error))
    return Cleaning(gone, problems)


def _take_away(session: Session, garbage: Garbage, now: float) -> bool:
    path = Path(garbage.path)
    if garbage.what == "snapshot":
        return unneeded.take_away(garbage.path, now - YOUNG)
    if garbage.what == "journals":
        room = UserPaths(str(path.parents[1]))
        run = session.store.stored(room.run(path.name.removeprefix(RETIRED).rpartition(".")[0]))
        with kept_to(room.root):
            remove_journals(run, before=now - KEPT)
        return not path.exists()
    if garbage.what == "sdk":
        return _take_version(path, now)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return True


def _take_version(path: Path, now: float) -> bool:
    """Removes a version of hpcrun's part of jobs, unless it was touched since."""
    aside = path.with_name(f".{path.name}{COLLECTED}")
    path.rename(aside)
    if aside.stat().st_mtime >= now - YOUNG:
        aside.rename(path)
        return False
    shutil.rmtree(aside)
    return True


# -- what runs need -------------------------------------------------------------------------------


def _needs(store: ListedStore) -> _Needs:
    needs = _Needs(set(), {sdk_name()})
    for run_id in store.all_ids():
        run = store.stored(store.paths(run_id))
        now = StoredRun(run.paths)  # if it was sealed since they were listed
        if _add(needs, run, store.own.sdk) or _add(needs, now, store.own.sdk):
            continue
        if now.seals() or now.retired_folders() or Path(run.paths.record).exists():
            return needs._replace(unknown=f"run {run_id}")
    return needs


def _add(needs: _Needs, run: StoredRun, sdk: str) -> bool:
    """Adds what a run needs; False if that cannot be read."""
    try:
        request = json.loads(run.text("run.json") or b"")
        snapshot = request.get("snapshot")
        if snapshot is not None:
            needs.snapshots.add(snapshot["digest"])
        if run.is_whole:
            needs.sdk.update(_versions(request, sdk))
    except (StoreError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
    return True


def _versions(request: dict[str, Any], sdk: str) -> set[str]:
    """The versions of hpcrun's part of jobs that a run's job starts."""
    words = request.get("agent", {}).get("words", ())
    paths = [Path(word) for word in words if isinstance(word, str)]
    return {path.name for path in paths if path.parent.name == Path(sdk).name}


def _snapshots(found: Sequence[unneeded.Stored]) -> Iterator[Garbage]:
    return (Garbage("snapshot", each.path, 1, each.size) for each in found)


def _sdk(own: UserPaths, needed: set[str], now: float) -> Iterator[Garbage]:
    for name in folders_in(own.sdk):
        path = f"{own.sdk}/{name}"
        is_old = os.lstat(path).st_mtime < now - YOUNG
        if not name.startswith(".") and name not in needed and is_old:
            files, size, _ = _measured(path)
            yield Garbage("sdk", path, files, size)


def _journals(store: ListedStore, now: float) -> Iterator[Garbage]:
    for run_id, kept in store.kept.items():
        run = store.stored(store.paths(run_id))
        numbers = run.seals()
        with contextlib.suppress(FileNotFoundError):
            if not numbers or run.sealed_path(numbers[0]).lstat().st_mtime > now - KEPT:
                continue
        for number in kept:
            if number <= numbers[0]:
                files, size, _ = _measured(str(run.retired(number)))
                yield Garbage("journals", str(run.retired(number)), files, size)


# -- leftovers ------------------------------------------------------------------------------------

_HEX = "[0-9a-f]"
_ASIDE = (
    (".", rf"\.(import|mirror)-{_HEX}{{8}}"),
    ("active", rf"\..+\.deleted|\.given-.+|\.(?!sealed-).+\.{_HEX}{{8}}"),
    ("active/*", rf"\..+\.{_HEX}{{8}}|claim-\d+\.{_HEX}{{8}}"),
    ("runs/*", r"\..+\.h5\..+"),
    ("index", r"\.g\d{8}\.h5\..+"),
    ("snapshots", rf"\.{_HEX}{{16}}\.{_HEX}{{12}}|\.incoming-{_HEX}{{16}}|\..+\.collected"),
    ("snapshots/objects/*", rf"\.{_HEX}{{16}}\.{_HEX}{{12}}|\..+\.collected"),
    ("sdk", rf"\..+\.{_HEX}{{8}}|\..+\.collected"),
    ("models/*", rf"\.{_HEX}{{12}}"),
    ("files/*/*", r"\.collecting-.+"),
)
"""Where hpcrun writes aside, and how such names look."""

_PART = re.compile(rf"\.{_HEX}{{12}}\.part\Z")


def leftovers(own: UserPaths, now: float) -> list[Garbage]:
    """What was written aside by processes that were killed, long enough ago. OSError."""
    found: list[Garbage] = []
    for where, pattern in _ASIDE:
        for folder in _matching(own.root, where.split("/") if where != "." else ()):
            before = now - (KEPT if where in ("runs/*", ".") else YOUNG)
            found += _old_in(folder, re.compile(rf"(?:{pattern})\Z"), before)
    for where, names in below(own.files):
        for name in names:
            if _PART.match(name):
                found += _if_old(f"{where}/{name}", now - YOUNG)
    return found


def _matching(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """The folders below one that fit a pattern of names; links are not followed."""
    if not parts:
        yield folder
        return
    names = folders_in(folder) if parts[0] == "*" else [parts[0]]
    for name in names:
        path = f"{folder}/{name}"
        if not name.startswith(".") and not Path(path).is_symlink():
            yield from _matching(path, parts[1:])


def _old_in(folder: str, pattern: re.Pattern[str], before: float) -> Iterator[Garbage]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(folder)):
            if pattern.match(name):
                yield from _if_old(f"{folder}/{name}", before)


def _if_old(path: str, before: float) -> Iterator[Garbage]:
    files, size, newest = _measured(path)
    if newest and newest < before:
        yield Garbage("leftover", path, files, size)


def _measured(path: str) -> tuple[int, int, float]:
    """(files, bytes, newest time of change) of a file, or of a folder with all in it."""
    files, size, newest = 0, 0, 0.0
    for entry in walk(path):
        newest = max(newest, entry.status.st_mtime)
        if not entry.is_folder:
            files, size = files + 1, size + entry.status.st_size
    return files, size, newest
