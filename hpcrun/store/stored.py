"""A run as it lies in the store: journals, a sealed file, or a sealed file and journals beside it.

    active/<run id>/          with run.json: the whole record; nothing else need be looked at
    runs/<yyyy-mm>/…          sealed files: of those that are whole, the greatest number counts
    active/<run id>/          without run.json: what was told since then
    active/.sealed-<run id>.<n>/
                              what seal n holds, kept for some days: read where it is damaged

Whatever lies where, the answer is the same.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import JournalKind, RunPaths, journal_kind, sealed_name, sealed_of
from hpcrun.record import Fact, Numbers, Page, decode_page
from hpcrun.store.hdf5 import Damaged, whole
from hpcrun.store.plain import (
    MOST,
    MOST_TEXT,
    files_in,
    folders_in,
    open_plain,
    plain_bytes,
    read_plain,
)

if TYPE_CHECKING:
    from hpcrun.metrics import Metric
    from hpcrun.metrics.summary import Summary
    from hpcrun.store.sealed import Content, Journal, SealedRun

RETIRED = ".sealed-"

DAMAGED = ".damaged"
"""Ends the hidden name of a damaged file that another one has taken the place of."""

BLOCK = 1 << 20
"""Bytes of a journal that are read at a time, where its facts are not kept."""

_ATTEMPTS = 5
"""How often a reader begins anew because a run was sealed under its hands."""

Value = TypeVar("Value")


class Logged(NamedTuple):
    """What the journals of metrics tell: by name, in the order of names, what was logged.

    notes: what they tell besides numbers: images, metric files, samples of nodes.
    """

    metrics: dict[str, Metric]
    notes: list[Fact]
    bad_lines: int


class StoredRun:
    """One run, wherever it lies. Nothing is kept open; every method may raise StoreError."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths

    def text(self, name: str) -> bytes | None:
        """A file of the record, such as run.json; None if there is none."""
        try:
            return read_plain(Path(self.paths.record, name), MOST_TEXT)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        if not self._is_begun():
            return None
        return self._read(lambda layers: layers.text(name))

    def facts(self, kind: JournalKind) -> tuple[list[Fact], int]:
        """What its journals of a kind tell, and the count of bad lines."""
        return self._read(lambda layers: layers.facts(kind))

    def metrics(self) -> dict[str, Metric]:
        """What was logged, by name, in the order of names."""
        return self._read(lambda layers: layers.logged()).metrics

    def logged(self) -> Logged:
        """What its journals of metrics tell, read once."""
        return self._read(lambda layers: layers.logged())

    def summary(self) -> Summary:
        """How many values each metric has, and the last."""
        return self._read(lambda layers: layers.summary())

    def notes(self) -> list[Fact]:
        """What its journals of metrics tell besides numbers: images, files, samples of nodes."""
        return self._read(lambda layers: layers.notes())

    def numbers(self) -> dict[str, Numbers]:
        """What each metric came to, of those that have any number."""
        return self._read(lambda layers: layers.numbers())

    def content(self, without: Iterable[int] = ()) -> Content:
        """All that a sealed file has to hold. without: numbers of sealed files not to be read."""
        return self._read(lambda layers: layers.content(self.paths.run_id), without)

    def seals(self) -> list[int]:
        """The numbers of its sealed files, greatest first."""
        with told(f"read {self.paths.sealed}"):
            return self._seals()

    def sealed_path(self, number: int) -> Path:
        """The name of its sealed file of that number."""
        return Path(self.paths.sealed, sealed_name(self.paths.run_id, number))

    def retired(self, number: int) -> Path:
        """Where the journals go that seal `number` holds."""
        return Path(self.paths.owner.active, f"{RETIRED}{self.paths.run_id}.{number}")

    def retired_folders(self) -> list[Path]:
        """The folders whose journals are sealed, oldest first."""
        return self._retired_after(-1)

    def retired_numbers(self) -> list[int]:
        """Of the seals for which journals are kept."""
        return [int(folder.name.rpartition(".")[2]) for folder in self.retired_folders()]

    def located(self) -> str:
        """The folder or file that is its record."""
        if self.is_whole:
            return self.paths.record
        return next((str(self.sealed_path(n)) for n in self.seals()), self.paths.record)

    def _read(self, read: Callable[[Layers], Value], without: Iterable[int] = ()) -> Value:
        """Begins anew when the run was sealed meanwhile, or a sealed file turns out damaged."""
        damaged = {number: Damaged(self.sealed_path(number), "as told") for number in without}
        for _ in range(_ATTEMPTS):
            with told(f"read the record {self.paths.record}"), self._layers(damaged) as layers:
                try:
                    with layers.trusted():
                        value = read(layers)
                except FileNotFoundError:
                    continue
                except Damaged as error:
                    damaged[layers.number] = error
                    continue
                if layers.is_whole:
                    return value
        if damaged:
            raise damaged[max(damaged)]
        self.raise_missing()

    def raise_missing(self) -> NoReturn:
        """Says that nothing tells of it. StoreError, caused by a FileNotFoundError."""
        missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.paths.request)
        if not os.path.lexists(self.paths.record):
            message = f"there is no run {self.paths.run_id} any more"
            raise StoreError(message, "hpcrun list shows all") from missing
        with told(f"read {self.paths.request}"):
            raise missing

    @property
    def is_whole(self) -> bool:
        """Whether its journals tell all: it was never sealed, or is unsealed."""
        return _opens(Path(self.paths.request))

    def _is_begun(self) -> bool:
        return not self.is_whole and bool(self.seals())

    def _seals(self) -> list[int]:
        begin = self.paths.run_id + "."
        names = [name for name in files_in(self.paths.sealed) if name.startswith(begin)]
        found = [sealed_of(name) for name in names]
        numbers = sorted((f[1] for f in found if f and f[0] == self.paths.run_id), reverse=True)
        # A node may list a folder as it was a minute ago; a name it has not asked for is looked up.
        while self.sealed_path(after := numbers[0] + 1 if numbers else 0).is_file():
            numbers.insert(0, after)
        return numbers

    def _beside(self) -> list[Path]:
        """The folder of what was told since it was sealed, if something is there."""
        record = Path(self.paths.record)
        return [record] if any(_opens(record / name) for name in files_in(record)) else []

    def _layers(self, damaged: dict[int, Damaged]) -> Layers:
        """What tells of the run. damaged: by number, the sealed files not to be read; grows."""
        if self.is_whole:
            return Layers(-1, None, [Path(self.paths.record)])
        from hpcrun.store.sealed import open_sealed

        beside = self._beside()
        for number in self._seals():
            if number in damaged:
                continue
            try:
                sealed = open_sealed(self.sealed_path(number))
            except Damaged as error:
                damaged[number] = error
                continue
            folders = [*self._retired_after(number), *beside] if damaged else beside
            if not _from_whole(folders):
                return Layers(number, sealed, folders)
            sealed.close()
            return Layers(-1, None, _from_whole(folders))
        folders = [*self._retired_after(-1), *beside]
        return Layers(-1, None, _from_whole(folders) or folders)

    def _retired_after(self, number: int) -> list[Path]:
        begin = f"{RETIRED}{self.paths.run_id}."
        names = [n for n in folders_in(self.paths.owner.active) if n.startswith(begin)]
        ends = (n[len(begin) :] for n in names)
        numbers = sorted(int(end) for end in ends if end.isascii() and end.isdigit())
        return [self.retired(n) for n in numbers if n > number]


class _File(NamedTuple):
    """A journal in a folder. skip: as many bytes are sealed already. told: so many of its bad lines
    are sealed, where the journal tells again what is."""

    path: Path
    kind: JournalKind
    skip: int = 0
    told: int = 0

    def page(self) -> Page:
        return decode_page(plain_bytes(self.path)[self.skip :], self.path.name)


class Layers(AbstractContextManager["Layers"]):
    """What tells of a run: a sealed file or none, and folders with what came after it."""

    def __init__(self, number: int, sealed: SealedRun | None, folders: Sequence[Path]) -> None:
        self.number = number
        self._sealed = sealed
        self._folders = folders

    def __exit__(self, *exception: object) -> None:
        if self._sealed is not None:
            self._sealed.close()

    def trusted(self) -> AbstractContextManager[None]:
        """Where a sealed file that tells what cannot be turns out Damaged."""
        return whole(self._sealed.path) if self._sealed is not None else nullcontext()

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the run, now that it has been read."""
        return self._sealed is not None or any(_opens(f / "run.json") for f in self._folders)

    def text(self, name: str) -> bytes | None:
        """A file of the record."""
        for folder in reversed(self._folders):
            if (folder / name).exists():
                return plain_bytes(folder / name, MOST_TEXT)
        return self._sealed.texts.get(name) if self._sealed else None

    def facts(self, kind: JournalKind) -> tuple[list[Fact], int]:
        """What the journals of a kind tell, and the count of bad lines."""
        facts: list[Fact] = []
        bad = 0
        if self._sealed is not None:
            facts = _facts_of(self._sealed, kind)
            bad = self._sealed_bad_lines(kind)
        for file in self._journals():
            if file.kind is kind:
                page = file.page()
                facts += page.facts
                bad += max(0, page.bad_lines - file.told)
        return facts, bad

    def logged(self) -> Logged:
        """What the journals of metrics tell."""
        from hpcrun.metrics import metrics_of

        if self._sealed is None or self._tell_metrics():
            facts, bad_lines = self.facts(JournalKind.METRICS)
            return Logged(metrics_of(facts), _notes(facts), bad_lines)
        metrics = {name: self._sealed.metric(name) for name in self._sealed.series}
        return Logged(metrics, self._sealed.notes(), self._sealed_bad_lines(JournalKind.METRICS))

    def summary(self) -> Summary:
        """How many values each metric has, and the last."""
        from hpcrun.metrics.summary import MetricSummary, Summary, summary_of

        if self._sealed is None:
            return summary_of(lambda: self.blocks(JournalKind.METRICS))
        if self._tell_metrics():
            logged = self.logged()
            texts = {n: (m.count, m.last_text()) for n, m in logged.metrics.items()}
        else:
            logged = Logged({}, self._sealed.notes(), self._sealed_bad_lines(JournalKind.METRICS))
            texts = {
                n: (s.length, self._sealed.last_text(n)) for n, s in self._sealed.series.items()
            }
        metrics = [MetricSummary(name, *texts[name]) for name in sorted(texts)]
        return Summary(metrics, logged.notes, logged.bad_lines)

    def blocks(self, kind: JournalKind) -> Iterator[tuple[str, bytes]]:
        """(journal's name, whole lines of it): what is not sealed, BLOCK bytes at a time."""
        for journal in self._journals():
            if journal.kind is kind:
                with open_plain(journal.path) as file:
                    file.seek(journal.skip)
                    begun = b""
                    while piece := file.read(BLOCK):
                        lines, newline, begun = (begun + piece).rpartition(b"\n")
                        yield journal.path.name, lines + newline

    def notes(self) -> list[Fact]:
        """What they tell besides numbers."""
        if self._sealed is None or self._tell_metrics():
            return _notes(self.facts(JournalKind.METRICS)[0])
        return self._sealed.notes()

    def numbers(self) -> dict[str, Numbers]:
        """What the metrics came to."""
        from hpcrun.metrics.series import numbers_of
        from hpcrun.metrics.summary import numbers_in

        if self._sealed is None:
            found = numbers_in(lambda: self.blocks(JournalKind.METRICS))
        elif self._tell_metrics():
            found = {name: numbers_of(metric) for name, metric in self.logged().metrics.items()}
        else:
            found = {name: series.numbers for name, series in self._sealed.series.items()}
        return {name: numbers for name, numbers in found.items() if numbers != (None, None, None)}

    def content(self, run_id: str) -> Content:
        """All of it."""
        from hpcrun.store.sealed import Content, Journal

        texts: dict[str, bytes] = dict(self._sealed.texts) if self._sealed else {}
        journals = dict(self._sealed.journals) if self._sealed else {}
        facts = self._sealed.metric_facts() if self._sealed else []
        artifacts: dict[str, bytes] = dict(self._sealed.artifacts) if self._sealed else {}
        new = {file.path: file for file in self._journals()}
        for path in (path for folder in self._folders for path in _files(folder)):
            data = plain_bytes(path)
            if kind_of(path.name) is None:
                texts[path.name] = data
            elif path in new:
                file = new[path]
                page = decode_page(data[file.skip :], path.name)
                known = journals.get(path.name)
                bad = max(0, page.bad_lines - file.told) + (known.bad_lines if known else 0)
                read = file.skip + page.consumed
                journals[path.name] = Journal.of(path.name, data, read, bad)
                if file.kind is JournalKind.METRICS:
                    facts += page.facts
                    continue
                kept = artifacts if file.kind is JournalKind.ARTIFACTS else texts
                kept[path.name] = kept.get(path.name, b"") + data[file.skip : read]
        return Content(run_id, texts, facts, list(journals.values()), artifacts)

    def _sealed_bad_lines(self, kind: JournalKind) -> int:
        journals = self._sealed.journals.values() if self._sealed is not None else ()
        return sum(journal.bad_lines for journal in journals if kind_of(journal.name) is kind)

    def _tell_metrics(self) -> bool:
        """Whether there are metrics besides those that are sealed."""
        return any(file.kind is JournalKind.METRICS for file in self._journals())

    def _journals(self) -> Iterator[_File]:
        """The journals in the folders that hold more than what is sealed."""
        sealed = self._sealed.journals if self._sealed else {}
        for path, kind, size in _sized(self._folders):
            known = sealed.get(path.name)
            if known is None:
                yield _File(path, kind)
            elif size != known.size:
                skip = _skip(path, known)
                yield _File(path, kind, skip, 0 if skip else known.bad_lines)


def _opens(path: Path) -> bool:
    """Whether a file is there, by opening it: what a node remembers of a name may be gone."""
    try:
        open_plain(path).close()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, StoreError):
        return True  # who reads it tells why it cannot be read
    return True


def _sized(folders: Sequence[Path]) -> list[tuple[Path, JournalKind, int]]:
    """The journals in folders and their sizes. StoreError: another's are too large to be read."""
    found: list[tuple[Path, JournalKind, int]] = []
    sizes: Counter[JournalKind] = Counter()
    for path in (path for folder in folders for path in _files(folder)):
        kind = kind_of(path.name)
        if kind is None:
            continue
        status = path.lstat()
        sizes[kind] += status.st_size
        if sizes[kind] > MOST and status.st_uid != os.geteuid():
            message = f"the journals in {path.parent} have more than {MOST} bytes"
            raise StoreError(message, f"of another user, {MOST} of a kind are read at most")
        found.append((path, kind, status.st_size))
    return found


def _from_whole(folders: Sequence[Path]) -> Sequence[Path]:
    """The last folder that is a record of its own, and those after it; none if there is none."""
    places = [place for place, folder in enumerate(folders) if _opens(folder / "run.json")]
    return folders[places[-1] :] if places else ()


def facts_in(folder: Path, kind: JournalKind) -> tuple[list[Fact], int]:
    """What the journals of a kind in a folder tell, and the count of bad lines. StoreError."""
    with told(f"read {folder}"):
        return Layers(-1, None, [folder] if folder.is_dir() else []).facts(kind)


def _notes(facts: Iterable[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact.kind != "metric" or "y" in fact.data]


def _facts_of(sealed: SealedRun, kind: JournalKind) -> list[Fact]:
    if kind is JournalKind.METRICS:
        return sealed.metric_facts()
    return _decoded(sealed.texts if kind is JournalKind.FACTS else sealed.artifacts)


def _decoded(texts: Mapping[str, bytes]) -> list[Fact]:
    return [
        fact
        for name, data in sorted(texts.items())
        if journal_kind(name) is not None
        for fact in decode_page(data, name).facts
    ]


def _skip(path: Path, known: Journal) -> int:
    """How much of a journal is sealed. Facts that come twice do no harm."""
    data = plain_bytes(path)
    return known.read if zlib.crc32(data[: known.read]) == known.crc32 else 0


def _files(folder: Path) -> list[Path]:
    """The files of a record, sorted by name, and what is none: reading tells."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(e.path)
            for e in entries
            if not e.name.startswith(".") and not e.is_dir(follow_symlinks=False)
        )


def kind_of(name: str) -> JournalKind | None:
    """What a journal holds, by its name; None for other files."""
    named = journal_kind(name)
    return named[1] if named is not None else None
