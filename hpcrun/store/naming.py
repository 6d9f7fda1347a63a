"""Which run a name means.

    <run id>, or a beginning of it that is unique
    @last           the newest run that is no child of another
    <user>/<name>   the same among the runs of that user

Anybody can give a run of theirs the id of another's, and nothing tells which is the real one. So a
run of one's own comes first, and where several others have one, they are named and none is chosen.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from hpcrun.errors import RunNotFound, StoreError
from hpcrun.store.rows import newest_first
from hpcrun.store.wanted import EVERY

if TYPE_CHECKING:
    from hpcrun.store.files import FileStore

LAST = "@last"

AT_ONCE = 100
"""Runs that the index knows among which the last one is looked for."""

Named = tuple[str, str]
"""(user, run id)."""


def find(store: FileStore, name: str, user: str | None = None) -> Named:
    """The run that a name means. RunNotFound: none, or several. StoreError.

    user: whose it is, unless the name says so. Where a beginning is unique among this user's runs,
    others' are not looked at.
    """
    of, slash, rest = name.partition("/")
    if not (rest if slash else name):  # as of a variable of a shell that is not set
        raise RunNotFound(f"{name!r} names no run", "hpcrun list shows all")
    if of and slash:
        user, name = of, rest
    first = user or store.user
    if name == LAST:
        return first, _last(store, user)
    if store.has(name, first):
        return first, name
    matches = _beginning(name, first, store.run_ids(first))
    if len(matches) != 1 and user is None:
        others = [one for one in store.users() if one != store.user]
        owners = [one for one in others if _has(store, name, one)]
        if len(owners) > 1:
            some = _some(owners)
            hint = f"which is meant? {owners[0]}/{name}"
            raise RunNotFound(f"{len(owners)} users have a run {name}: {some}", hint)
        if owners:
            return owners[0], name
        matches += [found for one in others for found in _beginning(name, one, _ids(store, one))]
    if not matches:
        raise RunNotFound(f"no run {name!r} in {store.workspace}", "hpcrun list shows all")
    if len(matches) > 1:
        some = _some([i if one == store.user else f"{one}/{i}" for one, i in matches])
        hint = "write more of it" + (", or USER/ before it" if user is None else "")
        raise RunNotFound(f"{len(matches)} runs begin with {name!r}: {some}", hint)
    return matches[0]


def _beginning(name: str, user: str, ids: Sequence[str]) -> list[Named]:
    return [(user, run_id) for run_id in ids if run_id.startswith(name)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _has(store: FileStore, run_id: str, user: str) -> bool:
    try:
        return store.has(run_id, user)
    except StoreError:
        return False  # others may keep theirs to themselves


def _ids(store: FileStore, user: str) -> Sequence[str]:
    """The ids of another's runs, from names alone: an index is a file that they wrote."""
    try:
        with store.history(user, indexed=False) as history:
            return history.run_ids()
    except StoreError:
        return ()


def _last(store: FileStore, user: str | None) -> str:
    """The newest run that is no child. Ids tell the second, run.json tells parts of it."""
    from hpcrun.store.history import Asked

    top = Asked(EVERY._replace(children=False))
    found = store.through_history(
        user, None, lambda history: (history.beside, history.indexed(AT_ONCE, top))
    )
    ids = [each for beside, known in found for each in (beside, [run_id for run_id, _ in known])]
    newest = heapq.merge(*ids, key=newest_first)
    for _, tied in groupby(newest, key=lambda run_id: newest_first(run_id)[0]):
        created = dict(_tops(store, tied, user))
        if created:
            return max(created, key=created.__getitem__)
    raise RunNotFound(f"there is no run in {store.workspace} yet", "hpcrun submit")


def _tops(
    store: FileStore, run_ids: Iterator[str], user: str | None
) -> Iterator[tuple[str, float]]:
    """(run id, when it was made) of those that are no children."""
    for run_id in run_ids:
        try:
            request = store.request(store.paths(run_id, user))
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                continue  # it was deleted meanwhile
            raise
        if request.get("parent") is None:
            yield run_id, request["created"]
