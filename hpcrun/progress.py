"""How far something has come that takes long, for whoever looks; unless told, nobody does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Tell = Callable[[int, int], object]
"""Told of something as it goes on: how much is done, and how much there is."""

Show = Callable[[str, str | None], AbstractContextManager[Tell | None]]
"""Shows what goes on, while it does. The second: what is counted, such as `runs`; empty: bytes;
None: nothing is, and nobody tells anything of it."""

_show: Show | None = None


def show_by(show: Show) -> None:
    """From here on, this process shows its progress."""
    global _show
    _show = show


@contextmanager
def transfer(what: str, unit: str = "") -> Iterator[Tell | None]:
    """What is to be told while something goes on; None: nobody looks."""
    if _show is None:
        yield None
    else:
        with _show(what, unit) as tell:
            yield tell


@contextmanager
def counted(what: str, total: int, unit: str = "") -> Iterator[Callable[[int], None]]:
    """What is to be told of each part that is done, by any thread: how much it was."""
    done, turn = 0, threading.Lock()
    with transfer(what, unit) as tell:

        def add(part: int) -> None:
            nonlocal done
            if tell is not None:
                with turn:
                    done += part
                    tell(done, total)

        yield add


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """While something goes on of which nobody knows how far it has come."""
    if _show is None:
        yield
    else:
        with _show(what, None):
            yield
