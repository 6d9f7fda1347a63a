"""A workspace on another machine as the Python API reads it: a mirror here of the runs asked for.

The mirror is an ordinary workspace in the user's cache folder. A run is brought up to date when it
is asked for, over the one connection of the workspace, and at most once in `LOOK` seconds.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcrun.assets import Assets
from hpcrun.errors import RunNotFound, StoreError, TransportError
from hpcrun.layout import RunPaths
from hpcrun.record import RunRecord
from hpcrun.store import FileStore
from hpcrun.store.removal import remove
from hpcrun.workflow.connection import cache
from hpcrun.workflow.elsewhere import Elsewhere
from hpcrun.workflow.giving import Given
from hpcrun.workflow.line import Line
from hpcrun.workflow.mirroring import opened
from hpcrun.workflow.session import Session
from hpcrun.workflow.telling import Told

LOOK = 1.0
"""Seconds for which what was told of a run counts."""

AT_ONCE = 50
"""Runs of a list that are brought together, when one of them is asked for."""


class FarStore(FileStore):
    """Runs of another machine as they are here. refresh: brings one up to date, by user and id.

    All lie with this machine's user, and are read as their user's there.
    """

    def __init__(self, workspace: Path, user: str, refresh: Callable[[str, str], None]) -> None:
        super().__init__(workspace, user)
        self._refresh = refresh

    def paths(self, run_id: str, user: str | None = None) -> RunPaths:
        """The folders of a run here. TransportError; RunNotFound: it is not there any more."""
        self._refresh(user or "", run_id)
        return super().paths(run_id)

    def read(self, run_id: str, user: str | None = None) -> RunRecord:
        """The record of a run as it is there now."""
        record = super().read(run_id, user)
        return record._replace(user=record.imported.user) if record.imported else record

    def has(self, run_id: str, user: str) -> bool:
        """Whether a run is here."""
        return super().has(run_id, self.user)

    def expect_own(self, run_id: str, user: str, hint: str = "") -> None:
        """Nothing: who may change a run is known there."""


class FarSession(Session):
    """What the Python API works with where the run history is another machine's.

    The user is an empty text: whoever logs in there.
    """

    store: FarStore

    def __init__(self, place: Elsewhere, assets: Assets) -> None:
        root = mirror_of(place)
        super().__init__(root, assets, place.named)
        self.place = place
        self.line = Line(place)
        self.store = FarStore(root, self.user, self._refresh)
        self.user = ""
        self._mirror = Session(root, assets, place.named)
        self._told: dict[str, float] = {}
        self._over: dict[str, bool] = {}
        self._listed: Sequence[tuple[str, str]] = ()

    def is_over(self, record: RunRecord) -> bool:
        """Whether nothing more happens by itself, as it was told last."""
        return self._over.get(record.run_id, False)

    def list_together(self, runs: Sequence[tuple[str, str]]) -> None:
        """When one of these runs is asked for, those behind it will be, too."""
        self._listed = runs

    def forget(self, run_id: str) -> None:
        """After a change of ours: what was told of a run is out of date."""
        self._told.pop(run_id, None)

    def drop(self, run_id: str) -> None:
        """Removes a run from the mirror: it was deleted there by us."""
        self.forget(run_id)
        if self._mirror.store.has(run_id, self._mirror.user):
            remove(self._mirror.store.paths(run_id))

    def _refresh(self, user: str, run_id: str) -> None:
        if self._is_fresh(run_id):
            return
        wanted = (user, run_id)
        begin = self._listed.index(wanted) if wanted in self._listed else len(self._listed)
        others = [run for run in self._listed[begin + 1 :] if not self._is_fresh(run[1])]
        try:
            self._bring([wanted, *others[: AT_ONCE - 1]])
        except RunNotFound:
            if not others:
                raise
            self._listed = ()  # one of them was deleted meanwhile
            self._bring([wanted])

    def _is_fresh(self, run_id: str) -> bool:
        return time.monotonic() - self._told.get(run_id, -math.inf) < LOOK

    def _bring(self, runs: Sequence[tuple[str, str]]) -> None:
        """Brings runs, and those below them. RunNotFound; StoreError: one does not come."""
        name = self.place.login.name
        try:
            with opened(self._mirror, name, say=_nothing) as mirror:
                told = self._asked(runs, mirror.question(True))
                done = mirror.bring(told, Given(name, self._given), True)
        except TransportError as error:
            error.hint = error.hint or f"Workspace({str(self.workspace)!r}) reads what has come"
            raise
        for each in done:
            if each.reason:
                raise StoreError(f"run {each.run.run_id} does not come: {each.reason}")
            self._told[each.run.run_id] = time.monotonic()
            self._over[each.run.run_id] = each.run.ended
        if told.notes:
            raise StoreError("; ".join(told.notes))

    def _asked(self, runs: Sequence[tuple[str, str]], known: dict[str, tuple[str, str]]) -> Told:
        words = ["told", "--", *(name_of(*run) for run in runs)]
        return Told.decode(self._given(words, json.dumps(known)))

    def _given(self, words: Sequence[str], text: str) -> bytes:
        return self.line.ask(words, {"-": text})


def _nothing(text: str) -> None:
    """Another program that reads the same mirror is soon done with it."""


def name_of(user: str, run_id: str) -> str:
    """A run as it is named there."""
    return f"{user}/{run_id}" if user else run_id


def mirror_of(place: Elsewhere) -> Path:
    """The folder of the mirror of a place, in this user's cache."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", place.login.name)
    if place.folder:
        name += f"-{hashlib.sha256(place.folder.encode()).hexdigest()[:12]}"
    return cache() / "mirror" / name
