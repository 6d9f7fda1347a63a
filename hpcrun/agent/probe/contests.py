"""Two nodes that want one name in the same moment, and a reader while names are given.

Standard library only (Python 3.8+).
"""

from __future__ import annotations

import os
import time
from typing import Callable, Dict, List, NamedTuple, Tuple

from hpcrun.agent.probe.talk import Talk, error_name, until

ROUNDS = 20
APART = 0.01
"""Seconds between two rounds."""

SIZE = 16384
"""Bytes of a file that is published."""

Take = Callable[[str, str], None]
Give = Callable[[str, str], None]


def _create(name: str, aside: str) -> None:
    del aside
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _link(name: str, aside: str) -> None:
    os.link(aside, name)


def _make_folder(name: str, aside: str) -> None:
    del aside
    os.mkdir(name)


CONTESTS: Dict[str, Take] = {"create": _create, "link": _link, "mkdir": _make_folder}
"""Ways to take a name that was free; each may have one winner."""


class Outcome(NamedTuple):
    """Of so many names: how many each side won, both won, and nobody won.

    error: what failed. loser: what a loser is told, if it is not that the name is taken.
    """

    rounds: int
    first: int
    second: int
    both: int
    nobody: int
    error: str = ""
    loser: str = ""


def contend(way: str, talk: Talk, start: float, ahead: float) -> Outcome:
    """The first side's part. start: when, by its clock; ahead: the other's clock is so far ahead.

    OSError, Silence.
    """
    folder = os.path.join(talk.folder, f"contest-{way}")
    os.mkdir(folder)
    talk.send("start", start + ahead)
    won, error, told = _take_all(folder, talk.own, CONTESTS[way], start)
    others, other_error, other_told = talk.hear("won")
    both = len(set(won) & set(others))
    nobody = ROUNDS - len(set(won) | set(others))
    mine, theirs = len(won) - both, len(others) - both
    return Outcome(ROUNDS, mine, theirs, both, nobody, error or other_error, told or other_told)


def contend_too(way: str, talk: Talk, limit: float) -> None:
    """The second side's part. OSError, Silence, Passed."""
    start = talk.hear("start")
    folder = os.path.join(talk.folder, f"contest-{way}")
    until(lambda: os.path.isdir(folder), limit)
    talk.send("won", _take_all(folder, talk.own, CONTESTS[way], start))


def _take_all(folder: str, own: str, take: Take, start: float) -> Tuple[List[int], str, str]:
    """(the rounds that were won, what failed, what was said of a name that the other has)."""
    aside = os.path.join(folder, f"{own}.aside")
    won: List[int] = []
    told = ""
    try:
        with open(aside, "x", encoding="utf-8") as file:
            file.write(own)
        for number in range(ROUNDS):
            time.sleep(max(0.0, start + number * APART - time.time()))
            name = os.path.join(folder, f"name-{number}")
            try:
                take(name, aside)
                won.append(number)
            except FileExistsError:
                pass
            except OSError as error:
                # SFTP says EPERM of a name that is taken.
                if not os.path.lexists(name):
                    raise
                told = error_name(error)
    except OSError as error:
        return won, error_name(error), told
    return won, "", told


# -- names that are given to whole files, while another node reads --------------------------------


def _rename(aside: str, name: str) -> None:
    os.rename(aside, name)


def _link_and_unlink(aside: str, name: str) -> None:
    os.link(aside, name)
    os.unlink(aside)


PUBLISHING: Dict[str, Tuple[Give, bool]] = {
    "rename": (_rename, False),
    "link": (_link_and_unlink, False),
    "replace": (_rename, True),
}
"""How a file that was written aside gets its name, and whether that name is taken already."""


class Reads(NamedTuple):
    """What a reader met: whole files, parts of one, no file under a name that is taken, errors."""

    whole: int = 0
    torn: int = 0
    missing: int = 0
    errors: int = 0


def publish(way: str, talk: Talk, clock: object) -> Dict[str, object]:
    """The first side's part; gives what the second side read. OSError, Silence."""
    del clock
    give, is_replacing = PUBLISHING[way]
    folder = os.path.join(talk.folder, f"publish-{way}")
    os.mkdir(folder)
    failed = _given(give, folder, 0, 0)
    talk.send("begun", failed)
    if not failed:
        talk.hear("reading")
        for number in range(1, ROUNDS):
            failed = failed or _given(give, folder, number, 0 if is_replacing else number)
            time.sleep(APART)
    return {**talk.hear("read"), "error": failed}


def _given(give: Give, folder: str, number: int, name: int) -> str:
    """Writes a file aside and gives it its name; what failed."""
    aside = os.path.join(folder, "aside")
    try:
        with open(aside, "wb") as file:
            file.write(_letter(number) * SIZE)
            file.flush()
            os.fsync(file.fileno())
        give(aside, os.path.join(folder, f"name-{name}"))
    except OSError as error:
        return error_name(error)
    return ""


def read_published(way: str, talk: Talk, limit: float) -> None:
    """The second side's part. OSError, Silence, Passed."""
    folder = os.path.join(talk.folder, f"publish-{way}")
    reads = Reads()
    if not talk.hear("begun"):
        until(lambda: _listed(folder), limit)
        talk.send("reading")
        reads = _read_all(folder, PUBLISHING[way][1], limit)
    talk.send("read", reads._asdict())


def _read_all(folder: str, is_replacing: bool, limit: float) -> Reads:
    """Reads while names are given, until the last one is there or it is late."""
    reads, last, seen = Reads(), b"", set()
    late = time.monotonic() + limit
    while time.monotonic() < late:
        names = ["name-0"] if is_replacing else [n for n in _listed(folder) if n not in seen]
        for name in names:
            reads, content = _read(os.path.join(folder, name), reads)
            last = content or last
            seen.add(name)
        if last[:1] == _letter(ROUNDS - 1) if is_replacing else len(seen) == ROUNDS:
            break
        time.sleep(0.001)
    return reads


def _listed(folder: str) -> List[str]:
    try:
        return [name for name in os.listdir(folder) if name.startswith("name-")]
    except OSError:
        return []


def _read(path: str, reads: Reads) -> Tuple[Reads, bytes]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return reads._replace(missing=reads.missing + 1), b""
    except OSError:
        return reads._replace(errors=reads.errors + 1), b""
    if len(content) == SIZE and content == content[:1] * SIZE:
        return reads._replace(whole=reads.whole + 1), content
    return reads._replace(torn=reads.torn + 1), b""


def _letter(number: int) -> bytes:
    return bytes([65 + number])
