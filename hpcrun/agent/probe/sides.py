"""The two sides of a probe, step by step: the first does and tells, the second looks.

Standard library only (Python 3.8+). Whatever is missing, slow or refused is part of the outcome;
the job itself ends well, within a time that is known.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from functools import partial
from typing import Any, Callable, Dict, Mapping, NamedTuple

from hpcrun.agent.probe import measures
from hpcrun.agent.probe.contests import (
    CONTESTS,
    PUBLISHING,
    contend,
    contend_too,
    publish,
    read_published,
)
from hpcrun.agent.probe.locks import LOCKS, lock, try_lock
from hpcrun.agent.probe.sights import SIGHTS, show, watch
from hpcrun.agent.probe.talk import (
    FIRST,
    SECOND,
    Passed,
    Silence,
    Talk,
    error_name,
    until,
    write_whole,
)
from hpcrun.layout import ATTEMPT_VARIABLE, FILES_VARIABLE
from hpcrun.metrics.ranks import RankFacts

OUTCOME = os.path.join("outputs", "probe.json")
"""Below the run's files: what was found out."""

LIMIT = 75.0
"""Seconds after which what one node did counts as not seen: NFS remembers a folder for 60."""

ANSWER = 60.0
"""Seconds that a message may take besides."""

LONGEST = 720.0
"""Seconds after which no further step is begun."""

PINGS = 5

Seen = Dict[str, Any]


class Clock(NamedTuple):
    """The second side's clock is ahead of the first's by so many seconds, at least and at most.

    answer: seconds in which a question is answered.
    """

    least: float
    most: float
    answer: float

    @property
    def ahead(self) -> float:
        """By about how much."""
        return (self.least + self.most) / 2


class Step(NamedTuple):
    """Something that both sides do together. place, name: where its outcome stands."""

    place: str
    name: str
    first: Callable[[Talk, Clock], Any]
    second: Callable[[Talk, float], None]


def probe(environ: Mapping[str, str], limit: float = LIMIT) -> int:
    """Takes the side of this process's rank: of one process, both; gives the exit status.

    environ: that of a task of a run. limit: seconds that a change may take to be seen. OSError.
    """
    files, facts = environ[FILES_VARIABLE], RankFacts.of(environ)
    folder = os.path.join(files, f".probe-{environ.get(ATTEMPT_VARIABLE, '1.0')}")
    patience = limit + ANSWER
    child = os.fork() if facts.world_size == 1 else -1
    if facts.rank == 1 or not child:
        second(Talk(folder, SECOND, patience), limit)
    elif facts.rank == 0:
        try:
            seen = first(Talk(folder, FIRST, patience), limit)
            write_whole(os.path.join(files, OUTCOME), json.dumps(seen, indent=1) + "\n")
        except OSError:
            if child > 0:
                os.kill(child, signal.SIGKILL)
            raise
        finally:
            until(lambda: _is_gone(folder), 10.0)
    if child > 0:
        os.waitpid(child, 0)
    return 0


def _is_gone(folder: str) -> bool:
    """Removes a folder, as far as the other side leaves it alone by now."""
    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)


def first(talk: Talk, limit: float) -> Seen:
    """The first side: all that was found out, as `workflow.honoured` reads it. OSError."""
    os.mkdir(talk.folder)
    host, mount = os.uname().nodename, measures.file_system(talk.folder)
    seen: Seen = {"hosts": [host], "file_system": [mount], "limit": limit, "errors": {}}
    talk.send("hello", [host, mount])
    for name, act in _ALONE.items():
        _note(seen, seen, name, partial(_measured, act, os.path.join(talk.folder, name)))
    try:
        _together(talk, seen)
    except Silence as silence:
        seen["silence"] = str(silence)
    except OSError as error:
        seen["silence"] = f"the first side cannot write: {error_name(error)}"
    talk.end()
    if "silence" not in seen:
        talk.wait_for_end(10.0)
    return seen


def _measured(act: Callable[[str], Any], folder: str) -> Any:
    os.mkdir(folder)
    return act(folder)


def _together(talk: Talk, seen: Seen) -> None:
    last = time.monotonic() + LONGEST
    host, mount = talk.hear("hello")
    seen["hosts"].append(host)
    seen["file_system"].append(mount)
    clock = _compare_clocks(talk)
    seen["clock"] = clock._asdict()
    for name, step in STEPS.items():
        if time.monotonic() > last:
            seen["errors"][name] = f"not begun within {LONGEST:g} s"
            continue
        talk.announce(name)
        place = seen.setdefault(step.place, {})
        _note(seen, place, step.name, partial(step.first, talk, clock), name)


def _note(seen: Seen, place: Seen, name: str, act: Callable[[], Any], full: str = "") -> None:
    """Notes what an act finds; what it fails of stands among the errors, by its full name."""
    try:
        place[name] = act()
    except OSError as error:
        seen["errors"][full or name] = error_name(error)


def second(talk: Talk, limit: float) -> None:
    """The second side, as far as it sees the first."""
    until(lambda: os.path.isdir(talk.folder), talk.patience)
    try:
        talk.send("hello", [os.uname().nodename, measures.file_system(talk.folder)])
        talk.hear("hello")
        for number in range(PINGS):
            talk.hear(f"ping-{number}")
            talk.send(f"pong-{number}", time.time())
        while True:
            _take_part(talk, STEPS[talk.follow()], limit)
    except Silence as silence:
        print(silence, file=sys.stderr)
    except OSError as error:
        print(error_name(error), file=sys.stderr)
    talk.end()


def _take_part(talk: Talk, step: Step, limit: float) -> None:
    try:
        step.second(talk, limit)
    except Passed:
        pass
    except OSError as error:
        talk.fail(error)


def _compare_clocks(talk: Talk) -> Clock:
    """From questions and answers: an answer was given between the two. OSError, Silence."""
    least, most, answer = float("-inf"), float("inf"), float("inf")
    for number in range(PINGS):
        asked = time.time()
        talk.send(f"ping-{number}")
        there = talk.hear(f"pong-{number}")
        heard = time.time()
        least, most = max(least, there - heard), min(most, there - asked)
        answer = min(answer, heard - asked)
    return Clock(min(least, most), max(least, most), answer)


# -- the steps ------------------------------------------------------------------------------------

_ALONE: Mapping[str, Callable[[str], Any]] = {
    "latency": measures.latencies,
    "space": measures.space,
    "names": measures.names,
    "holes": measures.keeps_holes,
    "times": measures.file_times,
}


def _delay(name: str, talk: Talk, clock: Clock) -> Any:
    """Seconds after which it was seen; None: not within the limit."""
    moments = show(name, talk)
    if moments is None:
        return None
    done, seen = moments
    return round(max(0.0, seen - clock.ahead - done), 4)


def _contest(way: str, talk: Talk, clock: Clock) -> Any:
    start = time.time() + 0.1 + 2 * clock.answer
    return contend(way, talk, start, clock.ahead)._asdict()


def _ask_looks(talk: Talk, clock: Clock) -> Any:
    del clock
    return talk.hear("looks")


def _look(talk: Talk, limit: float) -> None:
    del limit
    talk.send("looks", measures.looks(os.path.join(talk.folder, "latency")))


def _steps() -> Dict[str, Step]:
    steps = [Step("looks", "looks", _ask_looks, _look)]
    for name in SIGHTS:
        steps.append(Step("visible_after", name, partial(_delay, name), partial(watch, name)))
    for way in CONTESTS:
        steps.append(Step("one_winner", way, partial(_contest, way), partial(contend_too, way)))
    for way in PUBLISHING:
        steps.append(Step("whole", way, partial(publish, way), partial(read_published, way)))
    for kind in LOCKS:
        steps.append(Step("locks", kind, partial(lock, kind), partial(try_lock, kind)))
    return {f"{step.place}-{step.name}": step for step in steps}


STEPS = _steps()
