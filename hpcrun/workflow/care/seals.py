"""Sealed files of a run, and the journals that are kept for them."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import StoreError
from hpcrun.kinds import REQUEST
from hpcrun.record import Fact
from hpcrun.store.content import Content, Journal
from hpcrun.store.formats import NewerFormat
from hpcrun.store.hdf5 import Damaged, check, whole
from hpcrun.store.layers import kind_of
from hpcrun.store.plain import files_in, open_plain, plain_bytes
from hpcrun.store.sealed import KIND, open_sealed
from hpcrun.store.stored import StoredRun
from hpcrun.workflow.care.finding import (
    Finding,
    Grade,
    Look,
    Reseal,
    count_of,
    note,
    words_of,
    wrong,
)
from hpcrun.workflow.care.images import Images
from hpcrun.workflow.care.lines import lines


class _Sealed(NamedTuple):
    """What was read of a sealed file. damage: what is wrong with it; empty if nothing is.

    cure: what to do where it may be whole all the same.
    """

    damage: str
    cure: str = ""
    journals: Sequence[Journal] = ()
    told: Sequence[Fact] = ()
    there: frozenset[str] = frozenset()


def findings_of_seals(run: StoredRun, look: Look, images: Images) -> Iterator[Finding]:
    """What is wrong with sealed files, and with journals that are kept for one that is missing.

    images: learns of those that are sealed.
    """
    there = run.seals()
    kept = {_number(folder): folder for folder in run.retired_folders()}
    read = {number: _read(run, number, look) for number in there}
    damaged = {number: sealed.damage for number, sealed in read.items() if sealed.damage}
    good = max((number for number in there if number not in damaged), default=-1)
    if any(sealed.cure for sealed in read.values()):
        kept = {}  # whoever can read them may mend them
    wanted = sorted(n for n in {*damaged, *kept.keys() - set(there)} if n > good)
    for number in sorted(damaged):
        path = run.sealed_path(number)
        if read[number].cure:
            yield wrong(run, "sealed file", path, damaged[number], read[number].cure)
        elif run.is_whole or number < good:
            message = f"{damaged[number]}; it is not needed: newer records tell all of it"
            yield note(run, "sealed file", path, message)
        elif _kept(run, wanted, kept, look):
            message = f"{damaged[number]}; the journals that are kept for it are whole"
            yield _mendable(run, path, message, wanted)
        else:
            cure = "keep a copy of it, and of what stands beside it; a backup may have it whole"
            message = f"{damaged[number]}; no whole journals are kept beside it"
            yield wrong(run, "sealed file", path, message, cure)
    if run.is_whole:
        return
    for number in (n for n in wanted if n not in damaged):
        message = f"the sealed file {run.sealed_path(number)} that it is kept for is missing"
        if _kept(run, wanted, kept, look):
            yield _mendable(run, kept[number], message, wanted)
        else:
            cure = "keep a copy of it; a backup may have the sealed file"
            yield wrong(run, "sealed file", kept[number], message, cure)
    if good >= 0:
        images.tell(read[good].told)
        images.there.update(read[good].there)
        yield from _bad_lines(run, run.sealed_path(good), read[good].journals)


def _mendable(run: StoredRun, path: object, message: str, without: Sequence[int]) -> Finding:
    cure = "hpcrun store check --mend seals them again"
    mend = Reseal(run.paths, tuple(without))
    return Finding(Grade.WRONG, "sealed file", str(path), message, cure, mend, run.paths.run_id)


def _read(run: StoredRun, number: int, look: Look) -> _Sealed:
    path = run.sealed_path(number)
    try:
        size = path.lstat().st_size
        if look.is_too_long(size):
            return _Sealed(f"it has {size} bytes; of others' files {look.limit} are read")
        check(path, KIND)
        with open_sealed(path) as sealed, whole(path):
            if sealed.run_id != run.paths.run_id:
                return _Sealed(f"it tells of another run, {sealed.run_id}")
            if "run.json" not in sealed.texts:
                return _Sealed("it has no run.json")
            journals = map(io.BytesIO, sealed.artifacts.values())
            names = (line.artifact for journal in journals for line in lines(journal))
            there = frozenset(name for name in names if name is not None)
            return _Sealed("", "", [*sealed.journals.values()], sealed.notes(), there)
    except NewerFormat as error:
        return _Sealed(error.message, error.hint)
    except Damaged as error:
        return _Sealed(error.message.removeprefix(f"{path} is damaged: "))
    except FileNotFoundError:
        raise  # it has just gone: the run is looked at once more
    except OSError as error:
        return _Sealed(f"it cannot be read: {words_of(error)}", "try again when it can be")


def _number(folder: Path) -> int:
    return int(folder.name.rpartition(".")[2])


def _kept(run: StoredRun, wanted: Sequence[int], kept: dict[int, Path], look: Look) -> bool:
    """Whether the journals of all these seals are there, as they were sealed, and make a whole
    record together with the sealed file before them."""
    if look.limit is not None or any(number not in kept for number in wanted):
        return False  # others mend their own
    try:
        content = run.content(without=wanted)
        request = json.loads(content.texts["run.json"])
        is_request = isinstance(request, dict) and not REQUEST.wrong(request)
        return is_request and all(_as_sealed(run, number, kept, content) for number in wanted)
    except (StoreError, OSError, KeyError, ValueError, RecursionError):
        return False


def _as_sealed(run: StoredRun, number: int, kept: dict[int, Path], content: Content) -> bool:
    """Whether the journals tell what a damaged file held, as far as it can still tell what.

    content: what they tell. If it cannot, readers rely on them already; then they must not have a
    garbled line, which it may hold whole.
    """
    path = run.sealed_path(number)
    try:
        with open_sealed(path) as sealed, whole(path):
            journals, names = sealed.journals, sealed.texts.keys()
    except (StoreError, OSError):
        return not _has_garbled_line(kept[number])
    folders = [kept[n] for n in sorted(kept, reverse=True) if n <= number]
    return names <= content.texts.keys() and all(
        any(_begins_as(folder / name, journal) for folder in folders) or journal in content.journals
        for name, journal in journals.items()
    )


def _begins_as(path: Path, journal: Journal) -> bool:
    """Whether a journal begins with what was sealed of it."""
    try:
        return zlib.crc32(plain_bytes(path)[: journal.read]) == journal.crc32
    except (StoreError, OSError):
        return False


def _has_garbled_line(folder: Path) -> bool:
    for name in files_in(folder):
        if kind_of(name) is not None:
            with open_plain(folder / name) as file:
                if any(not line.is_good and not line.is_torn for line in lines(file)):
                    return True
    return False


def _bad_lines(run: StoredRun, path: Path, journals: Iterable[Journal]) -> Iterator[Finding]:
    for journal in journals:
        if journal.bad_lines:
            what = f"{count_of(journal.bad_lines, 'line')} torn or foreign"
            message = f"{what}, as {journal.name} was when it was sealed"
            yield note(run, "sealed file", path, message)
