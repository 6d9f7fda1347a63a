"""A source that another machine has brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hpcrun.errors import StoreError
from hpcrun.store import FileStore
from hpcrun.store.deciding import GOES_ON, decide


class Sent(NamedTuple):
    """A source folder of another machine, of which the snapshot is here, or will be.

    folder: its path there. digest: of the snapshot. properties: what git says of it. missing: what
    is not there of it, as key, message and hint.
    """

    folder: str
    digest: str
    properties: Mapping[str, str]
    missing: Sequence[tuple[str, str, str]] = ()

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Sent | None:
        """What a request tells of it; None: nothing."""
        return cls(**told) if told else None


def go_on(store: FileStore, run_id: str) -> None:
    """From here on, the submission of a run whose record is written cannot be withdrawn.

    StoreError: it has been withdrawn, or that cannot be written; there is no run.
    """
    try:
        if decide(store.own, run_id, GOES_ON) != GOES_ON:
            raise StoreError(f"run {run_id} was withdrawn by the machine that it comes from")
    except StoreError:
        store.discard(run_id)
        raise
