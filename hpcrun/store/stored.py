"""A run as it lies in the store: journals, a sealed file, or a sealed file and journals beside it.

    active/<run id>/          with run.json: the whole record; nothing else need be looked at
    runs/<yyyy-mm>/…          sealed files: of those that are whole, the greatest number counts
    active/<run id>/          without run.json: what was told since then
    active/.sealed-<run id>.<n>/
                              what seal n holds, kept for some days: read where it is damaged

Whatever lies where, the answer is the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import JournalKind, RunPaths, sealed_name, sealed_of
from hpcrun.record import Fact, Numbers
from hpcrun.store.hdf5 import Damaged
from hpcrun.store.layers import Layers, Logged, from_whole
from hpcrun.store.plain import MOST_TEXT, files_in, folders_in, opens, read_plain

if TYPE_CHECKING:
    from hpcrun.metrics import Metric
    from hpcrun.metrics.summary import Summary
    from hpcrun.store.content import Content

RETIRED = ".sealed-"

DAMAGED = ".damaged"
"""Ends the hidden name of a damaged file that another one has taken the place of."""

_ATTEMPTS = 5
"""How often a reader begins anew because a run was sealed under its hands."""

Value = TypeVar("Value")


class StoredRun:
    """One run, wherever it lies. Nothing is kept open; every method may raise StoreError."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths

    def text(self, name: str) -> bytes | None:
        """A file of the record, such as run.json; None if there is none."""
        for _ in range(2):
            try:
                return read_plain(Path(self.paths.record, name), MOST_TEXT)
            except StoreError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
            if not self.is_whole:
                return self._read(lambda layers: layers.text(name)) if self.seals() else None
        return None  # who unsealed it between two looks has written all back by the second

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

    def expect_seen(self, name: str) -> None:
        """Has a journal that was just written to stand where readers look. OSError: it is gone.

        Who sealed the run meanwhile has moved it away, perhaps before the last fact stood in it.
        """
        journal = Path(self.paths.record, name)
        if opens(journal):
            return
        for folder in self.retired_folders():
            if opens(folder / name):
                journal.parent.mkdir(exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # it was brought back just now
                    (folder / name).rename(journal)
        journal.stat()

    def located(self) -> str:
        """The folder or file that is its record."""
        if self.is_whole:
            return self.paths.record
        return next((str(self.sealed_path(n)) for n in self.seals()), self.paths.record)

    def _read(self, read: Callable[[Layers], Value], without: Iterable[int] = ()) -> Value:
        """Begins anew when the run was sealed meanwhile, or a sealed file turns out damaged."""
        damaged = {number: Damaged(self.sealed_path(number), "as told") for number in without}
        for _ in range(_ATTEMPTS):
            with told(f"read the record {self.paths.record}"):
                try:
                    layers = self._layers(damaged)
                except FileNotFoundError:
                    continue
                with layers:
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
        return opens(Path(self.paths.request))

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
        return [record] if any(opens(record / name) for name in files_in(record)) else []

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
            if not from_whole(folders):
                return Layers(number, sealed, folders)
            sealed.close()
            return Layers(-1, None, from_whole(folders))
        folders = [*self._retired_after(-1), *beside]
        return Layers(-1, None, from_whole(folders) or folders)

    def _retired_after(self, number: int) -> list[Path]:
        begin = f"{RETIRED}{self.paths.run_id}."
        names = [n for n in folders_in(self.paths.owner.active) if n.startswith(begin)]
        ends = (n[len(begin) :] for n in names)
        numbers = sorted(int(end) for end in ends if end.isascii() and end.isdigit())
        return [self.retired(n) for n in numbers if n > number]
