"""When one node sees what another did: names, contents, lengths. Standard library only (3.8+)."""

from __future__ import annotations

import os
import time
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from hpcrun.agent.probe.talk import Talk, create, read_text, until, write_whole

NAME, OLD, NEW = "it", "old\n", "old\nnew\n"


class Sight(NamedTuple):
    """Something that the first side does in a folder, for the second to see.

    make: what is there before. ready: whether the second sees that. act: the deed; a descriptor
    that it leaves open is closed once all is over. seen: whether the second sees it.
    """

    make: Callable[[str], object]
    ready: Callable[[str], bool]
    act: Callable[[str], Optional[int]]
    seen: Callable[[str], bool]


def _nothing(path: str) -> None:
    del path


def _write_old(path: str) -> None:
    write_whole(path, OLD)


def _write_new(path: str) -> None:
    write_whole(path, NEW)


def _write_aside(path: str) -> None:
    with open(f"{path}.aside", "w", encoding="utf-8") as file:
        file.write(NEW)
        file.flush()
        os.fsync(file.fileno())


def _link(path: str) -> None:
    _write_aside(path)
    os.link(f"{path}.aside", path)


def _append(path: str, sync: bool) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, NEW[len(OLD) :].encode())
    if sync:
        os.fsync(descriptor)
    return descriptor


def _synced(path: str) -> int:
    return _append(path, True)


def _unsynced(path: str) -> int:
    return _append(path, False)


def _is_listed(path: str) -> bool:
    try:
        return os.path.basename(path) in os.listdir(os.path.dirname(path))
    except OSError:
        return False


def _is_absent(path: str) -> bool:
    return not os.path.lexists(path)


def _is_not_listed(path: str) -> bool:
    return not _is_listed(path)


def _is_old(path: str) -> bool:
    return read_text(path) == OLD


def _is_new(path: str) -> bool:
    return read_text(path) == NEW


SIGHTS: Dict[str, Sight] = {
    "created": Sight(_nothing, _is_absent, create, os.path.exists),
    "listed": Sight(_nothing, _is_not_listed, create, _is_listed),
    "renamed": Sight(_nothing, _is_absent, _write_new, _is_new),
    "linked": Sight(_nothing, _is_absent, _link, _is_new),
    "replaced": Sight(_write_old, _is_old, _write_new, _is_new),
    "synced": Sight(_write_old, _is_old, _synced, _is_new),
    "appended": Sight(_write_old, _is_old, _unsynced, _is_new),
    "removed": Sight(_write_old, _is_old, os.unlink, _is_absent),
    "unlisted": Sight(_write_old, _is_listed, os.unlink, _is_not_listed),
}
"""By what was done. The second has looked right before, so that its node remembers the old."""


def show(name: str, talk: Talk) -> Optional[Tuple[float, float]]:
    """The first side's part: (when it was done, when it was seen), each by its side's clock.

    None: it was not seen within the limit. OSError, Silence.
    """
    sight, folder = SIGHTS[name], os.path.join(talk.folder, f"sight-{name}")
    path = os.path.join(folder, NAME)
    os.mkdir(folder)
    sight.make(path)
    talk.send("made")
    talk.hear("looking")
    try:
        left = sight.act(path)
    except OSError as error:
        talk.send("done", error.strerror)
        raise
    done = time.time()
    try:
        talk.send("done")
        seen = talk.hear("seen")
    finally:
        if left is not None:
            os.close(left)
    return None if seen is None else (done, seen)


def watch(name: str, talk: Talk, limit: float) -> None:
    """The second side's part. OSError, Silence, Passed."""
    sight, path = SIGHTS[name], os.path.join(talk.folder, f"sight-{name}", NAME)
    talk.hear("made")
    until(lambda: sight.ready(path), limit)
    talk.send("looking")
    seen, when = until(lambda: sight.seen(path) or talk.heard_by_now("done"), limit)
    if talk.hear("done"):
        return  # it could not be done
    talk.send("seen", when if seen else None)
