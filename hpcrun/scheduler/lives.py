"""The lives of a job: what the controller says of it, joined with what sacct does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hpcrun.ports import JobWord
from hpcrun.scheduler.states import Told, word_of, word_of_past
from hpcrun.scheduler.tables import Life
from hpcrun.state import Cause, State
from hpcrun.verdict import NO_RECORDS


def joined(held: Told | None, lives: Sequence[Life] | None) -> Sequence[JobWord]:
    """The controller's word with sacct's evidence; sacct's alone when the controller forgot.

    lives: None where accounting is off.
    """
    if lives is None:
        return [] if held is None else _unrecorded(held)
    newest = lives[-1] if lives and (held is None or _is_of(lives[-1], held)) else None
    # sacct lags: its newest life may be the one before. After slurmdbd was away it first tells of
    # the newest alone, COMPLETED and with no end; the others come seconds later (22.05).
    past = lives if newest is None else lives[:-1]
    restart = len(past) if held is None else held.restart
    is_all = newest is not None and newest.told.end is not None
    words = [] if restart is None else _past(past, restart, is_all)
    if newest is None:
        return words if held is None else [*words, word_of(held)]
    told = replace(newest.told, restart=restart) if held is None else held
    if told.is_end:
        told = replace(told, state=newest.told.state)
    elif held is None:
        said = f"sacct says {told.state}, and the controller does not know the job"
        return [*words, JobWord(State.NOT_RESPONDING, said, restart=restart)]
    return [*words, word_of(told, newest.steps, _canceler(told.state))]


def _unrecorded(held: Told) -> Sequence[JobWord]:
    """The controller's word alone, which says what only sacct could tell."""
    past = [JobWord(State.FAILED, NO_RECORDS, Cause.REQUEUED, n) for n in range(held.restart or 0)]
    return [*past, alone(held, NO_RECORDS)]


def alone(held: Told, why: str) -> JobWord:
    """The controller's word on a life. why: nobody tells who canceled it."""
    word = word_of(held)
    if word.cause is Cause.CANCELED and word.by is None:
        return replace(word, raw=f"{word.raw}; {why}")
    return word


def _is_of(life: Life, held: Told) -> bool:
    """Whether a life in sacct is the one that the controller tells of.

    sacct may also be ahead: it knows an end while the controller still says COMPLETING (22.05).
    """
    if held.start is not None and life.told.start == held.start:
        return True
    if life.told.base == "REQUEUED":  # it is over, though none of the states that jobs end with
        return False
    return life.told.base == held.base if held.is_end else not life.told.is_end


def _past(lives: Sequence[Life], restart: int, is_all: bool) -> list[JobWord]:
    """The words on the lives before the one of this number. lives: the last of them, as known.

    is_all: no more will be known of them; else those that may yet come are left out.
    """
    known = dict(zip(range(restart - len(lives), restart), lives, strict=True))
    return [
        word_of_past(replace(known[n].told, restart=n), known[n].steps)
        if n in known
        else JobWord(State.FAILED, "", Cause.REQUEUED, restart=n)
        for n in range(restart)
        if is_all or n in known
    ]


def _canceler(state: str) -> str | None:
    """Who canceled, in `CANCELLED by <uid>`: a user's name where this machine knows it."""
    match = re.search(r" by (\d+)", state)
    if match is None:
        return None
    import pwd

    try:
        return pwd.getpwuid(int(match.group(1))).pw_name
    except KeyError:
        return f"uid {match.group(1)}"
