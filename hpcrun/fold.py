"""The join of facts into a run's record.

Pure; standard library only (Python 3.8+). A join, not a replay: it gives the same record for
every order of the facts, and when some come twice. It never compares clocks of different machines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcrun.kinds import KINDS
from hpcrun.layout import Attempt, task_ids
from hpcrun.record import (
    AttemptRecord,
    Fact,
    Imported,
    RunFile,
    RunRecord,
    Uncollected,
    Verdict,
)
from hpcrun.state import Cause, State, end_state
from hpcrun.verdict import FactsByKind, first, rank_ends, verdict_of


def fold(request: Mapping[str, Any], facts: Iterable[Fact], bad_lines: int = 0) -> RunRecord:
    """The record that a run's request (run.json) and its facts tell, in any order."""
    ordered = _distinct(facts)
    numbers = {Attempt(1, 0)} | {fact.attempt for fact in ordered if fact.kind in _OF_ATTEMPT}
    requeued = _requeued(ordered)
    numbers |= requeued.keys()
    newest = {number.submission: number for number in sorted(numbers)}
    attempts = [
        _fold_attempt(
            number,
            [f for f in ordered if f.attempt == number],
            ordered,
            request,
            requeued=number != newest[number.submission],
            queued=requeued.get(number),
        )
        for number in sorted(numbers)
    ]
    archived = last_word(ordered, "archived")
    problems = [f.data["message"] for f in ordered if f.kind == "problem"]
    imported = _imported(ordered)
    if imported is not None:
        problems += _left_behind(attempts, "mirrored" if imported.mirror else "exported")
        attempts = [attempt._replace(**_OUT_OF_REACH) for attempt in attempts]
    return RunRecord(
        run_id=request["run_id"],
        experiment=request["experiment"],
        user=request["user"],
        target=request["target"],
        created=request["created"],
        state=attempts[-1].state,
        attempts=tuple(attempts),
        display_name=_latest_text(ordered, "display_name", request.get("display_name", "")),
        description=_latest_text(ordered, "description", request.get("description", "")),
        tags=fold_tags(request.get("tags", {}), ordered),
        properties=_fold_properties(request.get("properties", {}), ordered),
        request=request,
        children=tuple(dict.fromkeys([*_tasks(request), *_children(ordered)])),
        models=tuple(f"{f.data['name']}:{f.data['version']}" for f in _latest(ordered, "model")),
        archived=archived is not None and bool(archived.data.get("archived")),
        uploads=_uploads(ordered),
        imported=imported,
        problems=tuple(problems),
        lost_records=sum(f.data.get("count", 0) for f in ordered if f.kind == "loss"),
        bad_lines=bad_lines,
    )


_OF_RUN = {"tags", "properties", "renamed", "child", "model", "archived", "imported"}
_OF_RUN |= {"uploaded", "problem"}
_OF_ATTEMPT = frozenset(KINDS) - _OF_RUN - {"metric", "followed", "system", "artifact"}

_STATE_OF_KIND = {
    "submitting": State.NOT_STARTED,
    "submitted": State.QUEUED,
    "started": State.STARTING,
    "running": State.RUNNING,
    "heartbeat": State.RUNNING,
    "rank_ended": State.RUNNING,
    "finalizing": State.FINALIZING,
    "cancel_requested": State.CANCEL_REQUESTED,
}


def _requeued(facts: Sequence[Fact]) -> dict[Attempt, float]:
    """The attempts that the agents of those before have asked for, and when."""
    return {
        fact.attempt._replace(restart=fact.attempt.restart + 1): fact.time
        for fact in facts
        if fact.kind == "ended" and fact.data.get("cause") == Cause.REQUEUED
    }


def _tasks(request: Mapping[str, Any]) -> Sequence[str]:
    """The ids of a run's independent tasks, which are there before the run has them."""
    tasks = request.get("tasks")
    return task_ids(request["run_id"], tasks["count"]) if tasks is not None else ()


def _children(facts: Sequence[Fact]) -> Sequence[str]:
    return [fact.data["run_id"] for fact in _latest(facts, "child")]


_OUT_OF_REACH: Mapping[str, Any] = {
    "undrained": (),
    "uncollected": (),
    "may_go_on": False,
    "awaits_scheduler": False,
}
"""Of an attempt whose nodes and scheduler are another workspace's."""


def _imported(facts: Sequence[Fact]) -> Imported | None:
    told = last_word(facts, "imported")
    if told is None:
        return None
    data = told.data
    mirror = data.get("mirror", False)
    return Imported(data["user"], data["workspace"], told.time, data["left_out"], mirror)


def _left_behind(attempts: Sequence[AttemptRecord], done: str) -> list[str]:
    """What may have been left on nodes that nobody here can reach."""
    nodes = dict.fromkeys(node for attempt in attempts for node in attempt.undrained)
    return [f"records may have stayed on {', '.join(nodes)} when it was {done}"] if nodes else []


def _distinct(facts: Iterable[Fact]) -> list[Fact]:
    """Each fact once, in an order that does not depend on how they came."""
    unique = {(f.attempt, f.writer, f.number, f.kind): f for f in facts}
    return [unique[key] for key in sorted(unique)]


def _fold_attempt(
    number: Attempt,
    facts: Sequence[Fact],
    all_facts: Sequence[Fact],
    request: Mapping[str, Any],
    requeued: bool,
    queued: float | None,
) -> AttemptRecord:
    """One life. requeued: whether another followed. queued: when the one before it asked for it."""
    by_kind: dict[str, list[Fact]] = {}
    for fact in facts:
        by_kind.setdefault(fact.kind, []).append(fact)
    words = [f.data for f in by_kind.get("scheduler", ())]
    word = max(words, key=_word_rank) if words else None
    started = first(by_kind, "started")
    ended = first(by_kind, "ended")
    canceled_by = first(by_kind, "cancel_requested")
    if canceled_by is None and queued is not None and number.restart:
        # Who canceled while the one before asked for this one meant both.
        before = number._replace(restart=number.restart - 1)
        asked = [f for f in all_facts if f.kind == "cancel_requested" and f.attempt == before]
        canceled_by = asked[0] if asked else None
    told = verdict_of(by_kind, ended, word, canceled_by, requeued, _ranks(request))
    verdict = _hinted(told, request)
    state = State.NOT_STARTED if queued is None else State.QUEUED
    for kind in by_kind:
        state = max(state, _STATE_OF_KIND.get(kind, State.NOT_STARTED), key=lambda s: s.rank)
    if verdict is None and ended is not None:
        state = State.FINALIZING
    elif word is not None and not State(word["state"]).is_end:
        state = max(state, State(word["state"]), key=lambda s: s.rank)
    if verdict is not None:
        state = end_state(verdict.cause)
    submitted = first(by_kind, "submitted") or first(by_kind, "submitting")
    undrained = _undrained(by_kind, started) if verdict is not None else ()
    return AttemptRecord(
        attempt=number,
        state=state,
        job_id=_job_id(by_kind, all_facts, number),
        host=started.data.get("host") if started else None,
        nodes=tuple((started.data if started else word or {}).get("nodes", ())),
        submitted=submitted.time if submitted else queued,
        started=started.time if started else None,
        ended=_end_time(ended, word, verdict, by_kind),
        heartbeats=max([f.data.get("count", 0) for f in by_kind.get("heartbeat", ())] or [0]),
        rank_ends=rank_ends(by_kind),
        reason=(word or {}).get("reason", "") if not state.is_end else "",
        starts=(word or {}).get("starts") if not state.is_end else None,
        verdict=verdict,
        undrained=undrained,
        uncollected=_uncollected(by_kind, undrained),
        may_go_on=any(fact.data.get("requeue") for fact in by_kind.get("finalizing", ())),
        data=_data(by_kind),
        awaits_scheduler=_awaits_scheduler(by_kind, ended, word, requeued),
    )


def _ranks(request: Mapping[str, Any]) -> int:
    """How many ranks a launcher starts; 0 where nobody says it, as of an interactive run."""
    launch = request.get("launch")
    told = launch if isinstance(launch, dict) else {}
    nodes, each = told.get("nodes"), told.get("processes_per_node")
    return nodes * each if type(nodes) is int and type(each) is int else 0


def _hinted(verdict: Verdict | None, request: Mapping[str, Any]) -> Verdict | None:
    """The verdict with what to change."""
    if verdict is None or verdict.hint:
        return verdict
    from hpcrun.hints import hint_of  # training processes import this module, and judge no end

    return verdict._replace(hint=hint_of(verdict, request))


def _word_rank(word: Mapping[str, Any]) -> tuple[int, int, bool, str]:
    """Greater is later: ends over states; a cause over none, and lost below every other; of one
    state, that which says why it waits."""
    state = State(word["state"])
    cause = word.get("cause") or Cause.UNKNOWN
    return (
        state.rank,
        0 if cause == Cause.LOST else 1 if cause in (Cause.UNKNOWN, Cause.REQUEUED) else 2,
        bool(word.get("reason")),
        json.dumps(word, sort_keys=True),
    )


def _job_id(by_kind: FactsByKind, all_facts: Sequence[Fact], number: Attempt) -> str | None:
    """The job of this submission; a requeue keeps the id, so any restart may tell it."""
    told = {
        str(fact.data["job_id"])
        for fact in all_facts
        if fact.attempt.submission == number.submission and fact.data.get("job_id")
    }
    # The client's word names the cluster (`123;cluster`), the agent's does not.
    return min(told, key=lambda job_id: (";" not in job_id, job_id), default=None)


def _undrained(by_kind: FactsByKind, started: Fact | None) -> tuple[str, ...]:
    """The nodes that nobody says are drained. Slurm's names may be short, a host's own full."""
    nodes = started.data.get("nodes", ()) if started else ()
    drained = {fact.data["host"].split(".")[0] for fact in by_kind.get("drained", ())}
    return tuple(node for node in nodes if node.split(".")[0] not in drained)


def _data(by_kind: FactsByKind) -> tuple[Mapping[str, Any], ...]:
    told = {}
    for fact in sorted(by_kind.get("data", ()), key=lambda fact: (fact.time, fact.number)):
        told[fact.data.get("output", False), fact.data["name"], fact.data["host"]] = fact.data
    return tuple(told[key] for key in sorted(told))


def _uncollected(by_kind: FactsByKind, undrained: Sequence[str]) -> tuple[Uncollected, ...]:
    """The last word of each node that is not drained."""
    nodes = {node.split(".")[0] for node in undrained}
    told = {}
    for fact in _latest(by_kind.get("uncollected", ()), "uncollected"):
        one = Uncollected(*(fact.data[name] for name in Uncollected._fields))
        if one.host.split(".")[0] in nodes:
            told[one.host] = one
    return tuple(sorted(told.values()))


def _end_time(
    ended: Fact | None,
    word: Mapping[str, Any] | None,
    verdict: Verdict | None,
    by_kind: FactsByKind,
) -> float | None:
    if ended is not None:
        return ended.time
    if verdict is None:
        return None
    if word is not None and word.get("end"):
        return float(word["end"])
    failed = first(by_kind, "submit_failed")
    return failed.time if failed else None


def _awaits_scheduler(
    by_kind: FactsByKind, ended: Fact | None, word: Mapping[str, Any] | None, requeued: bool
) -> bool:
    if word is not None and State(word["state"]).is_end:
        return False
    if ended is not None:
        return bool(ended.data.get("interrupted"))
    return requeued or _told_to_stop(by_kind)


def _told_to_stop(by_kind: FactsByKind) -> bool:
    """Whether the end is near: what does not heed it is killed, and its agent with it."""
    signals = {fact.data.get("name") for fact in by_kind.get("signal", ())}
    return "cancel_requested" in by_kind or not signals.isdisjoint(("SIGTERM", "SIGINT"))


def _latest(facts: Sequence[Fact], kind: str) -> list[Fact]:
    """Facts of a kind, the last word last: by attempt, time, writer and number."""
    return sorted((f for f in facts if f.kind == kind), key=lambda f: (f.time, f.writer, f.number))


def last_word(facts: Sequence[Fact], kind: str) -> Fact | None:
    """The last word of a kind, if there is any."""
    return next(reversed(_latest(facts, kind)), None)


def _latest_text(facts: Sequence[Fact], key: str, default: str) -> str:
    told = [f.data[key] for f in _latest(facts, "renamed") if key in f.data]
    return str(told[-1]) if told else default


def _uploads(facts: Sequence[Fact]) -> tuple[RunFile, ...]:
    """The newest file of each name: a later attempt's stands, whatever the clocks say."""
    latest = sorted(_latest(facts, "uploaded"), key=lambda fact: fact.attempt)
    told = [RunFile(*f) for fact in latest for f in fact.data["files"]]
    return tuple(sorted({file.name: file for file in told}.values()))


def fold_tags(given: Mapping[str, str], facts: Sequence[Fact]) -> Mapping[str, str]:
    """The tags given, with those that facts set and remove."""
    tags = dict(given)
    for fact in _latest(facts, "tags"):
        for key in fact.data.get("removed", ()):
            tags.pop(key, None)
        tags.update(fact.data.get("set", {}))
    return tags


def _fold_properties(given: Mapping[str, str], facts: Sequence[Fact]) -> Mapping[str, str]:
    """Write-once: the first value of a name stays."""
    properties = dict(given)
    for fact in _latest(facts, "properties"):
        for key, value in fact.data.get("set", {}).items():
            properties.setdefault(key, value)
    return properties
