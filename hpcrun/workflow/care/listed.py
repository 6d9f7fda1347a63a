"""A user's history whose folders are listed once: what is asked of each run need not list them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from hpcrun.faults import told
from hpcrun.layout import RUN_ID, RunPaths, UserPaths, month_of, sealed_of
from hpcrun.store import FileStore
from hpcrun.store.plain import files_in, folders_in
from hpcrun.store.rows import newest_first
from hpcrun.store.stored import RETIRED, StoredRun


class RoomStore(FileStore):
    """The runs in one of a user's rooms, as if there were no other. user: whoever looks."""

    def __init__(self, workspace: Path, user: str, of: UserPaths) -> None:
        super().__init__(workspace, user)
        self.of = of

    def rooms(self, user: str | None = None) -> list[UserPaths]:
        """This one."""
        return [self.of]

    def stored(self, paths: RunPaths) -> StoredRun:
        """A run as it lies here now, whatever is wrong with workspace.json."""
        return StoredRun(paths)


class ListedStore(RoomStore):
    """These runs as they lay there when it was made. StoreError.

    seals, kept: by run id, the numbers of its sealed files and of the folders of journals that are
    kept for them. misplaced: sealed files in a month that is not theirs.
    """

    def __init__(self, workspace: Path, user: str, of: UserPaths) -> None:
        super().__init__(workspace, user, of)
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.kept: dict[str, list[int]] = defaultdict(list)
        self.misplaced: list[Path] = []
        with told(f"read {self.of.root}"):
            # In this order a run that is sealed meanwhile is seen twice, and not missed.
            folders = folders_in(self.of.active)
            for month in folders_in(self.of.runs):
                for name in files_in(f"{self.of.runs}/{month}"):
                    self._add_sealed(month, name)
        self.active = {name for name in folders if RUN_ID.match(name)}
        kept = (name[len(RETIRED) :] for name in folders if name.startswith(RETIRED))
        for run_id, _, number in (name.rpartition(".") for name in kept):
            if RUN_ID.match(run_id) and number.isascii() and number.isdigit():
                self.kept[run_id].append(int(number))

    def _add_sealed(self, month: str, name: str) -> None:
        sealed = sealed_of(name)
        if sealed is None:
            return
        run_id, number = sealed
        if month_of(run_id) == month:
            self.numbers[run_id].append(number)
        else:
            self.misplaced.append(Path(self.of.runs, month, name))

    def all_ids(self) -> list[str]:
        """Of all runs of which anything lies here, newest first."""
        return sorted({*self.active, *self.numbers, *self.kept}, key=newest_first)

    def stored(self, paths: RunPaths) -> StoredRun:
        """A run as it lay here."""
        run_id = paths.run_id
        return _Listed(paths, self.numbers.get(run_id, ()), self.kept.get(run_id, ()))


class _Listed(StoredRun):
    def __init__(self, paths: RunPaths, numbers: Sequence[int], kept: Sequence[int]) -> None:
        super().__init__(paths)
        self._numbers = sorted(numbers, reverse=True)
        self._kept = sorted(kept)

    def _seals(self) -> list[int]:
        return self._numbers

    def _retired_after(self, number: int) -> list[Path]:
        return [self.retired(n) for n in self._kept if n > number]
