"""Why an attempt ended: one cause with its evidence, from the facts of that attempt.

Pure; standard library only (Python 3.8+). Order of trust: the agent's exit, then the scheduler's
word, then what is inferred. Who canceled is our own fact, else the scheduler's word, else unknown.
"""

from __future__ import annotations

import re
from typing import Any, Iterable, Mapping, Optional, Sequence

from hpcrun.record import Fact, RankEnd, Verdict
from hpcrun.state import Cause, State

FactsByKind = Mapping[str, Sequence[Fact]]


def first(by_kind: FactsByKind, kind: str) -> Fact | None:
    """The first fact of a kind, if any."""
    facts = by_kind.get(kind)
    return facts[0] if facts else None


def rank_ends(by_kind: FactsByKind) -> tuple[RankEnd, ...]:
    """How each rank ended, by rank."""
    ends: dict[int, RankEnd] = {}
    for fact in by_kind.get("rank_ended", ()):
        data = fact.data
        end = RankEnd(
            data["rank"], data["status"], data.get("host", ""), data.get("time", fact.time)
        )
        ends.setdefault(end.rank, end)
    return tuple(ends[rank] for rank in sorted(ends))


def verdict_of(
    by_kind: FactsByKind,
    ended: Fact | None,
    word: Mapping[str, Any] | None,
    canceled: Fact | None,
    requeued: bool = False,
    ranks: int = 0,
) -> Verdict | None:
    """The agent's exit over the scheduler's word over what is inferred.

    requeued: whether another life of the same job followed. ranks: how many there were; 0: nobody
    knows.
    """
    failed = first(by_kind, "submit_failed")
    told = word if word is not None and State(word["state"]).is_end else None
    if ended is not None and not ended.data.get("interrupted"):
        return _verdict_of_exit(by_kind, ended, told, ranks)
    # That nobody knows the job any more says nothing against what its agent saw.
    if told is not None and (ended is None or told.get("cause") != Cause.LOST):
        if ended is not None and told.get("cause") in _NO_REASON:
            return _verdict_of_exit(by_kind, ended, told, ranks)
        return _verdict_of_word(by_kind, told, ended, canceled)
    if requeued:
        return _interrupted(by_kind, ended, Cause.REQUEUED, _requeued_sentence("", True))
    if ended is not None:
        # While the scheduler says that the job still ends, a requeue may follow.
        goes_on = word is not None and told is None
        return None if goes_on else _verdict_of_interruption(by_kind, ended, canceled)
    if failed is not None:
        message, hint = failed.data["message"], failed.data.get("hint", "")
        sentence = f"the job was not submitted: {message}"
        return Verdict(Cause.SUBMIT_FAILED, sentence, (message,), hint=hint)
    return None


_NO_REASON = (None, Cause.UNKNOWN, Cause.EXIT_CODE, Cause.SIGNAL, Cause.OUT_OF_MEMORY)
"""What the scheduler says of a job that it did not end: its agent, or the keeper, knows more."""


def _is_lost(ended: Fact) -> bool:
    """Whether the end is that of a keeper whose agent is gone: it saw no reason."""
    return bool(ended.data.get("cause") == Cause.AGENT_LOST)


def _verdict_of_exit(
    by_kind: FactsByKind, ended: Fact, told: Mapping[str, Any] | None, ranks: int = 0
) -> Verdict:
    code, signal = ended.data.get("exit_code"), ended.data.get("signal")
    cause = Cause(ended.data.get("cause", Cause.EXIT_CODE))
    if "message" in ended.data:
        said = tuple(ended.data.get("evidence", ()))
        return Verdict(cause, ended.data["message"], said, code, signal)
    memory = [f.data["evidence"] for f in by_kind.get("out_of_memory", ())]
    if told is not None and told.get("cause") == Cause.OUT_OF_MEMORY:
        memory.append(f"the scheduler: {told.get('raw', '')}")
    said = tuple(ended.data.get("evidence", ()))
    evidence = said + tuple(memory)
    ends = rank_ends(by_kind)
    rank_end = first_to_fall(ends)
    rank = rank_end.rank if rank_end else None
    # A launcher may end with 0 though one of its ranks fell.
    if cause == Cause.COMPLETED and not (memory and rank_end):
        sentence = "the command ended with exit code 0"
        if by_kind.get("stopping"):
            sentence += ", after should_stop() had told it to stop"
        if memory:
            sentence += ", although a process was killed for memory on the way"
        elif rank_end is not None:
            how = _how(rank_end.status)
            sentence += f", although rank {rank} on {rank_end.host} ended {how}"
        return Verdict(Cause.COMPLETED, sentence, evidence, code, signal)
    status = rank_end.status if rank_end is not None else code
    fall = _fall(rank_end, _exception(said) if status == RAISED else "")
    if memory:
        # Others may fall over the loss of it before its shim has told; and what falls otherwise has
        # outlived the process that was killed, maybe by far.
        seen = {f.data["rank"] for f in by_kind.get("rank_ended", ()) if f.data.get("memory")}
        killed = first_to_fall(end for end in ends if end.rank in seen) or rank_end
        if killed is not None and killed.status == _BY_KILL:
            rank, who, fall = killed.rank, f"rank {killed.rank}", ""
        else:
            who = "a process"
        sentence = f"{who} was killed because the job ran out of memory{fall}"
        return Verdict(Cause.OUT_OF_MEMORY, sentence, evidence, code, signal, rank)
    if cause == Cause.EXIT_CODE:
        # A launcher whose ranks were killed ends as a shell does: with 128 + n.
        signal = signal_of(rank_end.status if rank_end is not None else code or 0)
        cause = Cause.EXIT_CODE if signal is None else Cause.SIGNAL
    if cause == Cause.EXIT_CODE and rank_end is not None and rank_end.status in _NOT_STARTED:
        # So says the shim where the command is not there, or may not be executed.
        begin = f"hpcrun: rank {rank_end.rank} on {rank_end.host} cannot start "
        if said and said[-1].startswith(begin):
            sentence = said[-1].partition(": ")[2]
            return Verdict(Cause.LAUNCH_FAILED, sentence, evidence, code, None, rank)
    silent = _silent(ends, ranks)
    if rank_end is not None and rank_end.status == _BY_TERM and silent is not None:
        # A launcher ends the others so once one fell: it was killed together with its shim.
        rank, fall = silent, f"; rank {silent} may have fallen first: it told no end"
    sentence = _sentence_of_exit(cause, code, signal, fall)
    return Verdict(cause, sentence, evidence, code, signal, rank)


RAISED = 1
"""The status of a Python program that an exception ended."""

_NOT_STARTED = (126, 127)

_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:: |$)")

_LONGEST = 200
"""Characters of an exception that stand in a sentence."""


def _exception(said: Sequence[str]) -> str:
    """What a Python traceback ends in, whose beginning may be cut off; else nothing."""
    for number, line in enumerate(said):
        if number and said[number - 1][:2] == "  " and line[:1] not in ("", " ", "\t"):
            told = line if _EXCEPTION.match(line) else ""
            return told if len(told) <= _LONGEST else told[:_LONGEST] + "…"
    return ""


def _silent(ends: Sequence[RankEnd], ranks: int) -> int | None:
    """The first rank that told no end, if some have."""
    told = {end.rank for end in ends}
    return next((rank for rank in range(ranks) if rank not in told), None)


def _fall(rank_end: RankEnd | None, exception: str) -> str:
    """The part of a sentence on the rank that fell first, and what it raised."""
    if rank_end is None:
        return f"; {exception}" if exception else ""
    told = f": {exception}" if exception else ""
    return f"; rank {rank_end.rank} on {rank_end.host} fell first{told}"


def _sentence_of_exit(cause: Cause, code: int | None, signal: int | None, fall: str) -> str:
    if cause == Cause.SIGNAL:
        return f"the command was ended by {signal_name(signal)}{fall}"
    if cause == Cause.LAUNCH_FAILED:
        return f"the command could not be started (exit code {code})"
    if cause == Cause.AGENT_LOST:
        return "the agent was killed while the command ran"
    if cause == Cause.TIME_LIMIT:
        return "the time limit was reached"
    return f"the command ended with exit code {code}{fall}"


def _verdict_of_word(
    by_kind: FactsByKind,
    told: Mapping[str, Any],
    ended: Fact | None,
    canceled: Fact | None,
) -> Verdict:
    cause = Cause(told.get("cause") or Cause.UNKNOWN)
    raw = told.get("raw", "")
    evidence = [f"the scheduler: {raw}"] if raw else []
    evidence += [f"the agent received {f.data.get('name')}" for f in by_kind.get("signal", ())]
    memory = [f.data["evidence"] for f in by_kind.get("out_of_memory", ())]
    log = [*told.get("log", ())]
    evidence += memory + log
    if cause in (Cause.EXIT_CODE, Cause.SIGNAL, Cause.UNKNOWN) and memory:
        cause = Cause.OUT_OF_MEMORY
    if cause == Cause.COMPLETED and ended is None and not by_kind.get("started"):
        sentence = "the job completed, though the agent never reported"
        return Verdict(cause, sentence, tuple(evidence), told.get("exit_code"))
    if cause == Cause.LOST and canceled is not None:
        cause = Cause.CANCELED
    if cause == Cause.CANCELED and canceled is None and _PROLOG in "\n".join(log):
        # What may not be requeued, Slurm cancels (22.05).
        cause, raw = Cause.LAUNCH_FAILED, "the prolog of its node failed"
    if cause == Cause.CANCELED:
        return Verdict(cause, f"the run was canceled by {_who(canceled, told)}", tuple(evidence))
    if cause == Cause.EXIT_CODE and not by_kind.get("started"):
        cause = Cause.LAUNCH_FAILED
    own = [line.partition(": ")[2] for line in log if line.startswith("hpcrun: ")]
    sentences = {
        Cause.OUT_OF_MEMORY: "a process was killed because the job ran out of memory",
        Cause.TIME_LIMIT: "the time limit was reached",
        Cause.NODE_FAILURE: "a node could not be booted" if _boots(raw) else "a node failed",
        Cause.PREEMPTED: "the job was preempted",
        Cause.REQUEUED: _requeued_sentence(raw, bool(by_kind.get("started"))),
        Cause.LAUNCH_FAILED: "the job failed before user code started: " + (own or [raw])[-1],
        Cause.SIGNAL: f"the job was ended by {signal_name(told.get('signal'))}",
        Cause.EXIT_CODE: f"the job ended with exit code {told.get('exit_code')}",
        Cause.COMPLETED: "the job completed",
        Cause.LOST: f"the agent left no end, and {raw}",
    }
    sentence = sentences.get(cause, f"the job ended as {raw or 'unknown'}")
    return Verdict(cause, sentence, tuple(evidence), told.get("exit_code"), told.get("signal"))


def _who(canceled: Fact | None, told: Mapping[str, Any]) -> str:
    """Our own request, else the scheduler's word, else unknown; never guessed."""
    if canceled is not None:
        return str(canceled.data.get("by", UNKNOWN_USER))
    return str(told.get("by") or UNKNOWN_USER)


_PROLOG = "Error running slurm prolog"


def _boots(raw: str) -> bool:
    """Whether the scheduler's words are on a node that should have been booted for the job."""
    return raw.startswith("BOOT_FAIL")


def _requeued_sentence(raw: str, started: bool) -> str:
    """raw: the scheduler's words on this life. started: whether its agent did."""
    if raw.startswith("REQUEUED"):
        how = "by `scontrol requeue`" if started else "before user code started"
        return f"the job was requeued {how}"
    why = f"{NO_RECORDS}, so nobody says why" if raw == NO_RECORDS else _UNSAID
    return f"the job was requeued; {why}"


NOT_REQUEUED = ", and was not requeued: "
"""Stands between how a command asked for the next attempt and why it has none."""

UNKNOWN_USER = "an unknown user"
"""Who canceled, where nobody tells."""

NO_RECORDS = "accounting is off"
"""The word on what only sacct could tell, on a cluster that has none."""

SILENT = "sacct did not answer"
"""The same, while slurmdbd is away."""

_UNSAID = "the scheduler has not said why"


def _verdict_of_interruption(by_kind: FactsByKind, ended: Fact, canceled: Fact | None) -> Verdict:
    """The agent was told to stop and ended, or is lost; nobody has said yet why."""
    if _is_lost(ended) and canceled is None:
        return _verdict_of_exit(by_kind, ended, None)
    if canceled is not None:
        who = canceled.data.get("by", UNKNOWN_USER)
        return _interrupted(by_kind, ended, Cause.CANCELED, f"the run was canceled by {who}")
    sentence = f"the job was told to stop; {_UNSAID}"
    return _interrupted(by_kind, ended, Cause.UNKNOWN, sentence)


def _interrupted(by_kind: FactsByKind, ended: Fact | None, cause: Cause, sentence: str) -> Verdict:
    evidence = tuple(f"the agent received {f.data.get('name')}" for f in by_kind.get("signal", ()))
    data = ended.data if ended is not None else {}
    return Verdict(cause, sentence, evidence, data.get("exit_code"), data.get("signal"))


def first_to_fall(ends: Iterable[RankEnd]) -> Optional[RankEnd]:
    """The rank that ended first with another status than 0, by the clocks of their hosts.

    Where hosts tell times that lie too far apart their clocks disagree: then a rank that nobody
    killed comes first.
    """
    fallen = [end for end in ends if end.status != 0]
    first: dict[str, float] = {}
    for end in fallen:
        first[end.host] = min(end.time, first.get(end.host, end.time))
    apart = bool(first) and max(first.values()) - min(first.values()) > APART
    order = sorted(fallen, key=lambda end: (apart and end.status in _KILLED, end.time, end.rank))
    return order[0] if order else None


APART = 300.0
"""Seconds by which launchers have ended the others once a rank fell, whatever their grace."""

_BY_KILL = 128 + 9

_BY_TERM = 128 + 15

_KILLED = (_BY_KILL, _BY_TERM)


def _how(status: int) -> str:
    """How a rank ended, by its shell status."""
    signal = signal_of(status)
    return f"with exit code {status}" if signal is None else f"by {signal_name(signal)}"


def signal_of(status: int) -> int | None:
    """The signal that a shell's status tells (128 + n); None where it is an exit code."""
    number = status - 128
    return number if number in _SIGNALS else None


_SIGNALS = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    10: "SIGUSR1",
    11: "SIGSEGV",
    12: "SIGUSR2",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
    24: "SIGXCPU",
    25: "SIGXFSZ",
    31: "SIGSYS",
}


def signal_name(number: int | None) -> str:
    """The name of a signal on Linux, or `signal n`."""
    return _SIGNALS.get(number or 0, f"signal {number}")
