"""Sealing: a run's journals become one file that never changes, and go when it has proved good.

    1  the next sealed file is published; from here on there are two records, both whole
       (a month that the index may have closed is marked, see `index`)
    2  active/<run id> becomes active/.sealed-<run id>.<n>: readers turn to the sealed file
    3  what a late writer told meanwhile goes back to active/<run id>
    4  some days later the journals are removed, if the sealed file still holds all they tell

Killed anywhere, a run has one whole record at least, and the next call goes on. Two processes that
seal the same run do no harm.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

from hpcrun.durable import sync_folder
from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import RUN_ID, Attempt, JournalKind, UserPaths, journal_kind
from hpcrun.record import Fact, decode_page, encode
from hpcrun.store.content import Content, same, tells
from hpcrun.store.hdf5 import Damaged, check, whole
from hpcrun.store.index import reopen
from hpcrun.store.layers import kind_of
from hpcrun.store.plain import folders_in
from hpcrun.store.publishing import publish, replace
from hpcrun.store.sealed import KIND, open_sealed, sealed
from hpcrun.store.stored import RETIRED, StoredRun

TORN = b"torn\n"
"""Stands for a line that was torn, where journals are written back."""


def seal(run: StoredRun, is_over: Callable[[], bool] = lambda: True) -> Path:
    """Seals what is known of a run; gives the sealed file.

    is_over: whether the run has ended and nobody goes on with it: asked again once its journals
    are read, and once they are out of the way. StoreError: it is not.
    """
    content = run.content()
    if "run.json" not in content.texts:
        raise StoreError(f"{run.paths.record} is no run: it has no run.json")
    _expect_end(run, is_over)
    with told(f"seal run {run.paths.run_id}"):
        number, is_new = _published(run, content)
        reopen(run.paths.owner, run.paths.run_id, time.time())
        _retire(run, number, content)
        others = set(run.seals()) - {number}
        kept = run.retired_folders() or Path(run.paths.record).exists()
        if is_new and not others and not kept:
            # Its journals went while this process made a file of them: it was deleted.
            run.sealed_path(number).unlink(missing_ok=True)
            raise StoreError(f"run {run.paths.run_id} was deleted")
    try:
        _expect_end(run, is_over)
    except StoreError:
        unseal(run)
        raise
    return run.sealed_path(number)


def _expect_end(run: StoredRun, is_over: Callable[[], bool]) -> None:
    if not is_over():
        raise StoreError(f"run {run.paths.run_id} goes on again", "seal it when it has ended")


def _published(run: StoredRun, content: Content) -> tuple[int, bool]:
    """The number of the sealed file that holds all of it, and whether this process made it."""
    Path(run.paths.sealed).mkdir(parents=True, exist_ok=True)
    # A folder of kept journals whose sealed file is missing takes its number, too.
    number = max([*run.seals(), *run.retired_numbers()], default=-1)
    data = b""
    while number < 0 or _is_unsealed(run, number) or not _holds(run.sealed_path(number), content):
        number += 1
        data = data or sealed(content)
        if publish(run.sealed_path(number), data, lambda aside: _verify(aside, content)):
            return number, True
    return number, False


def _is_unsealed(run: StoredRun, number: int) -> bool:
    """Whether the journals of that seal went away, and others were written back since."""
    return run.retired(number).exists() and run.is_whole


def _verify(path: Path, content: Content) -> None:
    """Compares a file on the disk with what was read from the journals."""
    if not _holds(path, content):
        raise StoreError(f"what was written to {path} does not read as the journals do")


def _holds(path: Path, content: Content) -> bool:
    """Whether a file is whole and tells all of it."""
    try:
        check(path, KIND)
        with open_sealed(path) as run, whole(path):
            return (
                run.run_id == content.run_id
                and dict(run.texts) == dict(content.texts)
                and dict(run.artifacts) == dict(content.artifacts)
                and sorted(run.journals.values()) == sorted(content.journals)
                and same(run.metric_facts(), content.metric_facts)
            )
    except Damaged:
        return False


def _retire(run: StoredRun, number: int, content: Content) -> None:
    record, retired = Path(run.paths.record), run.retired(number)
    try:
        record.rename(retired)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Another process was as far, or there is nothing new; what is told since then stays.
        with contextlib.suppress(OSError):
            record.rmdir()
        return
    sync_folder(record.parent)
    _give_back(run, retired, content)


def _give_back(run: StoredRun, retired: Path, content: Content) -> bool:
    """Moves the files that tell more than what is sealed to where readers look.

    False if one had to stay, since its name is taken there.
    """
    stay = False
    for path in _telling_more(retired, content):
        target = Path(run.paths.record, path.name)
        if target.exists():
            stay = True
            continue
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    return not stay


def unseal(run: StoredRun, without: Collection[int] = ()) -> None:
    """Writes the journals of a sealed run back, for who goes on with it: an agent reads them.

    without: the numbers of sealed files that are damaged: what is kept beside them is read.

    A run that is not sealed stays as it is. Its sealed files stay too, and the next one has the
    next number. Lines of journals of metrics may be written in another way, and torn ones stand at
    the end. Killed anywhere, the run reads as before, and the next call goes on.
    """
    if run.is_whole:
        return
    with told(f"unseal run {run.paths.run_id}"):
        for number in run.seals():
            with contextlib.suppress(Damaged):  # then the journals that it held are read
                if number not in without and run.retired(number).is_dir():
                    _give_back(run, run.retired(number), _known(run.sealed_path(number)))
        content = run.content(without)
        record = Path(run.paths.record)
        record.mkdir(exist_ok=True)
        texts = {**content.texts, **content.artifacts, **_journals(content)}
        request = texts.pop("run.json")
        for name, data in texts.items():
            replace(record / name, data)
        # From here on the journals are the record.
        replace(record / "run.json", request)
        sync_folder(record.parent)


def _journals(content: Content) -> dict[str, bytes]:
    """The journals of metrics: each fact once, in the order in which it was told."""
    told_by: dict[str, dict[tuple[int, str, Attempt], Fact]] = {}
    for fact in content.metric_facts:
        place = (fact.number, fact.kind, fact.attempt)
        told_by.setdefault(fact.writer, {})[place] = fact
    found = {}
    for journal in content.journals:
        if kind_of(journal.name) is JournalKind.METRICS:
            told = told_by.get(journal.name, {})
            lines = [encode(told[place]) for place in sorted(told)]
            found[journal.name] = b"".join(lines) + TORN * journal.bad_lines
    return found


def _known(path: Path) -> Content:
    """What a sealed file holds of journals and texts, without the metrics. Damaged."""
    with open_sealed(path) as run, whole(path):
        journals = tuple(run.journals.values())
        return Content(run.run_id, run.texts, (), journals, run.artifacts)


def _telling_more(folder: Path, content: Content) -> list[Path]:
    journals = {journal.name: journal for journal in content.journals}
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        data, journal = path.read_bytes(), journals.get(path.name)
        if journal is not None:
            known = zlib.crc32(data[: journal.read]) == journal.crc32
            rest = data[journal.read :] if known else data
            more = b"\n" in rest and not _are_told(path.name, rest, content)
        else:
            known_text = content.texts.get(path.name)
            more = known_text != data and (bool(data) or journal_kind(path.name) is None)
        if more:
            found.append(path)
    return found


def _are_told(name: str, lines: bytes, content: Content) -> bool:
    """Whether a seal tells all that lines of a journal of metrics do."""
    facts = decode_page(lines, name).facts if kind_of(name) is JournalKind.METRICS else ()
    return bool(facts) and tells(content.metric_facts, facts)


def retired_runs(active: Path) -> list[str]:
    """The ids of the runs whose journals wait for their removal."""
    names = [name for name in folders_in(active) if name.startswith(RETIRED)]
    ids = {name.removeprefix(RETIRED).rpartition(".")[0] for name in names}
    return sorted(run_id for run_id in ids if RUN_ID.match(run_id))


def remove_journals(run: StoredRun, before: float) -> int:
    """Removes the journals of seals older than a Unix time; gives how many folders.

    Only what the newest sealed file, read whole again, tells as well. Its own predecessors go too.
    """
    numbers = run.seals()
    folders = [(n, run.retired(n)) for n in range(max(numbers, default=-1) + 1)]
    folders = [(n, folder) for n, folder in folders if folder.is_dir()]
    if not numbers or not folders:
        return 0
    newest = run.sealed_path(numbers[0])
    with told(f"remove the journals of run {run.paths.run_id}"):
        if newest.stat().st_mtime > before:
            return 0
        try:
            check(newest, KIND)
            content = _known(newest)
        except Damaged as error:
            hint = "the journals are kept; keep a copy of them"
            raise StoreError(error.message, hint) from error
        removed = sum(
            _remove(run, folder, content if n == numbers[0] else _superseding(run, n, content))
            for n, folder in folders
        )
        for number in numbers[1:]:
            run.sealed_path(number).unlink(missing_ok=True)
    return removed


def _superseding(run: StoredRun, number: int, content: Content) -> Content:
    """What the newest sealed file tells of the folder of an older one.

    A text that has been replaced or removed since then, such as a claim or the digests of files, is
    known there as it was: it must not come back in place of the newer one. The metrics are there
    too: unsealing writes their journals in another way.
    """
    older: dict[str, bytes] = {}
    with contextlib.suppress(Damaged, FileNotFoundError):
        older.update(_known(run.sealed_path(number)).texts)
    folder = run.retired(number)
    for name in content.texts.keys() - {journal.name for journal in content.journals}:
        with contextlib.suppress(FileNotFoundError):
            older[name] = (folder / name).read_bytes()
    path = run.sealed_path(run.seals()[0])
    with open_sealed(path) as newest, whole(path):
        facts = newest.metric_facts()
    texts = {**content.texts, **older}
    return Content(content.run_id, texts, facts, content.journals, content.artifacts)


def _remove(run: StoredRun, folder: Path, content: Content) -> bool:
    """Whether this process removed it: another one may be at it as well."""
    try:
        if not _give_back(run, folder, content):
            return False
        shutil.rmtree(folder)
    except FileNotFoundError:
        return False
    return True


def remove_leftovers(own: UserPaths, before: float) -> None:
    """Removes what killed sealers wrote aside before a Unix time."""
    for path in Path(own.runs).glob("*/.*.h5.*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()
