"""What a look at a run history finds: values that can be printed, compared and acted on."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from hpcrun.errors import StoreError
from hpcrun.layout import RunPaths, UserPaths
from hpcrun.store.stored import StoredRun
from hpcrun.workflow.seal import LARGEST


class Grade(enum.StrEnum):
    """How much a finding weighs."""

    WRONG = "wrong"
    """Something is damaged, missing or open to others."""
    NOTE = "note"
    """Nothing is lost, and nothing need be done."""


class Reseal(NamedTuple):
    """A run's journals, which are kept, become its record again and are sealed once more.

    without: the numbers of the sealed files that are damaged or missing.
    """

    paths: RunPaths
    without: tuple[int, ...]


class Chmod(NamedTuple):
    """A file or folder gets other permissions."""

    mode: int


class MakeIndex(NamedTuple):
    """The index of a room is made anew; generations of these numbers go."""

    room: UserPaths
    damaged: tuple[int, ...]


class SetAside(NamedTuple):
    """A damaged file that can be made again gets a hidden name, and goes some days later."""


class RemoveEmpty(NamedTuple):
    """Folders without any file go."""


Mend = Reseal | Chmod | MakeIndex | SetAside | RemoveEmpty


class Finding(NamedTuple):
    """One thing that was found.

    subject: a word for programs, such as `journal`. path: where. message: what, with the numbers.
    cure: what to do about it, empty where nothing need be done or `mend` does it. run_id: of the
    run that it is about.
    """

    grade: Grade
    subject: str
    path: str
    message: str
    cure: str = ""
    mend: Mend | None = None
    run_id: str | None = None


class Look(NamedTuple):
    """How closely to look.

    digests: whether every file is read. limit: bytes of one file that are read at most, None for
    all: of others, who may have put anything there.
    """

    digests: bool = False
    limit: int | None = None

    def is_too_long(self, size: int) -> bool:
        """Whether a file of so many bytes is not read."""
        return self.limit is not None and size > self.limit

    @property
    def of_record(self) -> int:
        """Bytes of a record, without its metrics, that are read at most: memory holds it whole."""
        return LARGEST if self.limit is None else LARGEST // 8


def wrong(run: StoredRun, subject: str, path: object, message: str, cure: str) -> Finding:
    """Something that is wrong with a run."""
    return Finding(Grade.WRONG, subject, str(path), message, cure, run_id=run.paths.run_id)


def note(run: StoredRun, subject: str, path: object, message: str) -> Finding:
    """Something about a run that is nothing wrong."""
    return Finding(Grade.NOTE, subject, str(path), message, run_id=run.paths.run_id)


SHOWN = 3
"""Names that one finding tells."""


def count_of(number: int, what: str) -> str:
    """`1 line is`, `2 lines are`."""
    return f"{number} {what} is" if number == 1 else f"{number} {what}s are"


def some(names: Sequence[str]) -> str:
    """The first of several names."""
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")


def words_of(error: OSError | StoreError) -> str:
    """What an error says."""
    return error.message if isinstance(error, StoreError) else (error.strerror or str(error))
