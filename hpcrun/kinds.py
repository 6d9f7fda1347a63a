"""The kinds of facts, and what a fact of each kind holds.

Pure; standard library only (Python 3.8+).

A journal may be another user's, who can write anything there. So `hpcrun.record.decode` gives
only facts that hold what their kind needs; any other line is foreign, and is skipped and counted
like a torn one. Whoever reads facts relies on this table. Kinds that are not in it pass: they are
a later version's.
"""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, NamedTuple, Optional

from hpcrun.forms import (
    Check,
    array_of,
    is_anything,
    is_base64,
    is_count,
    is_image,
    is_int,
    is_job_id,
    is_measure,
    is_metric,
    is_metric_name,
    is_ordinal,
    is_run_id,
    is_sample,
    is_step,
    is_task,
    is_tasks,
    is_text,
    is_time,
    is_truth,
    object_of,
    one_of,
    or_none,
    tuple_of,
)
from hpcrun.state import Cause, State


class Kind(NamedTuple):
    """A kind of fact.

    about: who tells it, and what. needs: what its data must hold. may: what they may hold; what
    stands in neither is not read. more: what must be true of the data besides.
    """

    about: str
    needs: Mapping[str, Check] = {}
    may: Mapping[str, Check] = {}
    more: Optional[Callable[[Mapping[str, Any]], bool]] = None

    def wrong(self, data: Mapping[str, Any]) -> List[str]:
        """What data lack, or hold in another form; empty if `more` is all that is not true."""
        lacking = [name for name in self.needs if name not in data]
        told = [pair for pair in (*self.needs.items(), *self.may.items()) if pair[0] in data]
        return lacking + [name for name, check in told if not check(data[name])]

    def holds(self, data: Mapping[str, Any]) -> bool:
        """Whether data are what such a fact holds."""
        for name, check in self.needs.items():
            if name not in data or not check(data[name]):
                return False
        for name, check in self.may.items():
            if name in data and not check(data[name]):
                return False
        return self.more is None or self.more(data)


_are_texts = array_of(is_text)
_are_texts_by_name = object_of(is_text)
_is_cause = one_of(Cause)
_is_exit = {"exit_code": or_none(is_int), "signal": or_none(is_int)}
_is_end = {**_is_exit, "cause": _is_cause, "message": is_text, "evidence": _are_texts}

KINDS: Mapping[str, Kind] = {
    # -- submission
    "submitting": Kind(
        "client: the scheduler is about to be called",
        may=dict.fromkeys(("token", "client", "pids"), is_text),
    ),
    "submitted": Kind("client: the scheduler gave a job id", may={"job_id": is_job_id}),
    "submit_failed": Kind(
        "client: the scheduler refused; no job exists", {"message": is_text}, {"hint": is_text}
    ),
    "submit_unknown": Kind("client: the scheduler did not tell whether there is a job"),
    "cancel_requested": Kind("client: a user asked to cancel", may={"by": is_text}),
    "scheduler": Kind(
        "client: the scheduler's word (`ports.JobWord`); log: the end of the batch log, where no"
        " agent reported",
        {"state": one_of(State)},
        {
            **_is_exit,
            **dict.fromkeys(("raw", "reason", "by"), is_text),
            **dict.fromkeys(("starts", "end"), is_time),
            "cause": _is_cause,
            **dict.fromkeys(("nodes", "log"), _are_texts),
        },
    ),
    # -- what people and scripts tell
    "tags": Kind(
        "any: tags set, or removed", may={"set": _are_texts_by_name, "removed": _are_texts}
    ),
    "properties": Kind("any: properties added, write-once", may={"set": _are_texts_by_name}),
    "renamed": Kind(
        "any: a text for people set", may=dict.fromkeys(("display_name", "description"), is_text)
    ),
    "child": Kind("any: a child run was made", {"run_id": is_run_id}),
    "model": Kind("any: a model was registered", {"name": is_text, "version": is_count}),
    "archived": Kind(
        "client: hidden from lists, or shown again; of an experiment: the runs until then",
        may={"archived": is_anything, "until": or_none(is_time)},
    ),
    "imported": Kind(
        "client: taken in from an export, or mirrored: whose run it was, in which workspace, how"
        " many of its files were left out",
        {"user": is_text, "workspace": is_text, "left_out": is_count},
        may={"mirror": is_truth},
    ),
    "uploaded": Kind(
        "any: files were uploaded",
        {"files": array_of(tuple_of(is_text, is_count, or_none(is_text)))},
    ),
    # -- the life of an attempt
    "started": Kind(
        "agent: it runs; age: seconds since its job began",
        may={
            **{"host": or_none(is_text), "job_id": or_none(is_job_id), "nodes": _are_texts},
            "age": is_measure,
        },
    ),
    "running": Kind("agent: the command was started"),
    "heartbeat": Kind("agent: it is alive", may={"count": is_count}),
    "signal": Kind("agent: it received a signal", may={"signal": is_int, "name": is_text}),
    "mark": Kind(
        "agent: how far the run is when the attempt begins",
        may={"step": is_step, "checkpoint": is_text},
    ),
    "resumed": Kind("agent: the checkpoint that the command begins with", may={"path": is_text}),
    "stop_requested": Kind(
        "agent: the ranks are told that their time is nearly over", may={"why": is_text}
    ),
    "stopping": Kind("rank: should_stop() has told the script to stop"),
    "finalizing": Kind(
        "agent: the command has ended, files are being collected; requeue: whether it asks for one",
        may={"requeue": is_anything},
    ),
    "rank_ended": Kind(
        "agent or node helper: a rank's exit status; memory: the kernel killed it for memory",
        {"rank": is_ordinal, "status": is_int, "host": is_text, "time": is_time},
        {"memory": is_anything},
    ),
    "out_of_memory": Kind(
        "agent or node helper: the kernel killed for memory", {"evidence": is_text}
    ),
    "drained": Kind(
        "agent, node helper or client: the history has all records of a node", {"host": is_text}
    ),
    "loss": Kind(
        "agent or node helper: records that could not be brought to the store",
        may={"count": is_count, "where": is_text},
    ),
    "uncollected": Kind(
        "agent or node helper: files that wait on a node",
        {"host": is_text, "files": is_count, "bytes": is_count, "where": is_text},
    ),
    "data": Kind(
        "agent or node helper: an input that was brought to a node, or an output from one",
        {"host": is_text, "name": is_text, "files": is_count, "bytes": is_count},
        {"output": is_truth, "complete": is_truth, "seconds": is_measure},
    ),
    "partial": Kind(
        "agent or node helper: the checkpoints that the history has only in part by now",
        {"host": is_text, "names": _are_texts},
    ),
    "problem": Kind("any: something went wrong that did not stop the run", {"message": is_text}),
    "ended": Kind("agent, interactive run: its end", may=_is_end),
    # -- what is measured
    "metric": Kind(
        "rank or agent: one value, logged or found in a metric file (`metrics.series`)",
        {"m": is_metric_name, "v": is_anything},
        {"s": is_step, "r": is_ordinal},
        is_metric,
    ),
    "artifact": Kind("rank: the bytes of an image", {"file": is_image, "content": is_base64}),
    "system": Kind(
        "agent or node helper: what a node does (`agent.system`)",
        {"host": is_text, "cpus": is_count},
        more=is_sample,
    ),
    "metric_files": Kind(
        "agent: what stood in metric files before the command began",
        {"marks": object_of(tuple_of(is_count, is_count))},
    ),
    "followed": Kind(
        "agent: a piece of a metric file, whose metrics come next (`agent.follow.recorded`)",
        {
            "file": is_text,
            **dict.fromkeys(("turn", "from", "before", "skip"), is_count),
            **dict.fromkeys(("to", "sum", "inode", "points"), is_count),
        },
        {"skipped": object_of(is_count)},
    ),
}


def _object_of_kind(kind: Kind) -> Check:
    return lambda value: isinstance(value, dict) and kind.holds(value)


_AWAITED = Kind("run.json: a run that is waited for", {"run_id": is_text})
_AFTER = Kind(
    "run.json: which runs must have ended before",
    {"runs": array_of(_object_of_kind(_AWAITED)), "condition": is_text},
)

REQUEST = Kind(
    "run.json: what was asked and resolved, before submission",
    {**dict.fromkeys(("run_id", "experiment", "user", "target"), is_text), "created": is_time},
    {
        **dict.fromkeys(("display_name", "description"), is_text),
        **dict.fromkeys(("tags", "properties"), _are_texts_by_name),
        "parent": or_none(is_run_id),
        "after": or_none(_object_of_kind(_AFTER)),
        "tasks": or_none(is_tasks),
        "task": or_none(is_task),
    },
)


def is_fact(kind: Any, data: Any) -> bool:
    """Whether data are what a fact of a kind holds."""
    if not isinstance(kind, str) or not isinstance(data, dict):
        return False
    known = KINDS.get(kind)
    return known is None or known.holds(data)
