"""The far half of a push: the steps that the near half asks for, into this workspace's store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hpcrun.errors import HpcrunError, SnapshotError
from hpcrun.layout import UserPaths
from hpcrun.offer import Offer, refusal, sender_of
from hpcrun.rights import kept_to
from hpcrun.snapshot.arrivals import drop, take, welcome
from hpcrun.store import FileStore


def _offer(text: str, room: UserPaths) -> str:
    return welcome(Offer.decode(text), room).encode()


def _take(text: str, room: UserPaths) -> str:
    take(_sender(text), room)
    return "{}"


def _drop(text: str, room: UserPaths) -> str:
    drop(_sender(text), room)
    return "{}"


def _sender(text: str) -> str:
    try:
        return sender_of(text.strip())
    except ValueError as error:
        raise SnapshotError(str(error)) from error


STEPS: Mapping[str, Callable[[str, UserPaths], str]] = {
    "offer": _offer,
    "take": _take,
    "drop": _drop,
}
"""A step by its name: from its text and the user's folders to the reply, as JSON."""


def received(step: str, text: str, store: FileStore, private: bool = False) -> str:
    """Does one step; gives the reply, or what is said instead of it.

    offer: an `Offer`, answered by a `Reply`. take, drop: the sender; what was sent is taken in, or
    dropped.
    """
    try:
        room = store.prepare(private)
        with kept_to(room.root):
            return STEPS[step](text, room)
    except HpcrunError as error:
        return refusal(error)
