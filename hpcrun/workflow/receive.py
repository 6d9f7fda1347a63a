"""The far half of a push: the steps that the near half asks for, into this workspace's store."""

from __future__ import annotations

import shlex
import sys

from hpcrun.errors import HpcrunError, SnapshotError
from hpcrun.layout import UserPaths
from hpcrun.offer import Offer, refusal, sender_of
from hpcrun.rights import kept_to
from hpcrun.snapshot.arrivals import drop, gather, take, welcome
from hpcrun.store import FileStore

STEPS = ("offer", "gather", "take", "drop")


def received(step: str, text: str, store: FileStore, private: bool = False) -> str:
    """Does one step; gives the reply as JSON, or what is said instead of it.

    offer: an `Offer`, answered by a `Reply`. take, drop: the sender; what was sent is taken in, or
    dropped. gather: the sender and the number of a process; while that goes on, what has arrived
    whole goes to the store, so that less is left to be done at the end.
    """
    try:
        room = store.prepare(private)
        with kept_to(room.root):
            if step == "offer":
                offer = Offer.decode(text)
                meanwhile = _gathering(offer.sender, store, private)
                return welcome(offer, room)._replace(meanwhile=meanwhile).encode()
            _by_sender(step, text.split(), room)
            return "{}"
    except HpcrunError as error:
        return refusal(error)


def _by_sender(step: str, words: list[str], room: UserPaths) -> None:
    try:
        sender, *process = words
        sender_of(sender)
        if step == "gather":
            gather(sender, int(process[0]), room)
        else:
            (take if step == "take" else drop)(sender, room)
    except (ValueError, IndexError) as error:
        raise SnapshotError(f"{step} of {words!r} is none: {error}") from error


def _gathering(sender: str, store: FileStore, private: bool) -> str:
    """The line that gathers what arrives; the process is the shell itself, and what it becomes."""
    words = [sys.executable, "-m", "hpcrun", "-w", str(store.workspace), "receive", "gather"]
    words.append("--private" if private else "--shared")
    return f"echo {sender} $$ | {shlex.join(words)}"
