"""What tells of a run: a sealed file or none, and on it folders with what came after."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import JournalKind, journal_kind
from hpcrun.record import Fact, Numbers, Page, decode_page
from hpcrun.store.hdf5 import whole
from hpcrun.store.plain import MOST, MOST_TEXT, open_plain, opens, plain_bytes

if TYPE_CHECKING:
    from hpcrun.metrics import Metric
    from hpcrun.metrics.summary import Summary
    from hpcrun.store.content import Content, Journal
    from hpcrun.store.sealed import SealedRun

BLOCK = 1 << 20
"""Bytes of a journal that are read at a time, where its facts are not kept."""


class Logged(NamedTuple):
    """What the journals of metrics tell: by name, in the order of names, what was logged.

    notes: what they tell besides numbers: images, metric files, samples of nodes.
    """

    metrics: dict[str, Metric]
    notes: list[Fact]
    bad_lines: int


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
        return self._sealed is not None or any(opens(f / "run.json") for f in self._folders)

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
        from hpcrun.store.content import Content, Journal

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


def from_whole(folders: Sequence[Path]) -> Sequence[Path]:
    """The last folder that is a record of its own, and those after it; none if there is none."""
    places = [place for place, folder in enumerate(folders) if opens(folder / "run.json")]
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
