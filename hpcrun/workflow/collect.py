"""Gathering what a run left whose agent could not: exit statuses, and records on nodes' disks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcrun.agent.bringing import bring as bring_files
from hpcrun.agent.follow.follower import Follower
from hpcrun.agent.follow.patterns import Pattern
from hpcrun.agent.outgoing import bring_left as bring_data
from hpcrun.agent.place import tidy
from hpcrun.agent.spool import bring
from hpcrun.errors import SchedulerError
from hpcrun.faults import told
from hpcrun.layout import INTERACTIVE, LOCAL, METRICS_SUFFIX, Attempt, RunPaths
from hpcrun.record import AttemptRecord, RunRecord, Verdict
from hpcrun.rights import kept_to
from hpcrun.state import Cause
from hpcrun.store.plain import read_plain
from hpcrun.store.sealing import unseal
from hpcrun.verdict import signal_of
from hpcrun.workflow.inventory import forget
from hpcrun.workflow.session import Session

EXIT = "exit-"
"""The script of a run without an agent writes the command's status into exit-<attempt>."""


def collect(session: Session, record: RunRecord) -> list[str]:
    """What was gathered, a line each. record: up to date. ForeignRun."""
    session.store.expect_own(record.run_id, record.user)
    paths = session.store.paths(record.run_id)
    with kept_to(paths.owner.root):
        return [
            *_statuses(session, record, paths),
            *_spools(session, record, paths),
            *_metric_files(session, record, paths),
        ]


def _statuses(session: Session, record: RunRecord, paths: RunPaths) -> list[str]:
    lines = []
    for file in sorted(Path(paths.record).glob(f"{EXIT}*")):
        attempt = Attempt.parse(file.name.removeprefix(EXIT))
        known = [a for a in record.attempts if a.attempt == attempt and _is_told(a.verdict)]
        text = read_plain(file).decode("utf-8", "replace").strip()
        if known or not text.isdigit():
            continue
        session.store.append(paths, attempt, "ended", end_of_status(int(text)))
        lines.append(f"attempt {attempt} ended with status {text}")
    return lines


def _is_told(verdict: Verdict | None) -> bool:
    """Whether more is known than the scheduler, which takes a command without agent for none."""
    return verdict is not None and verdict.cause is not Cause.LAUNCH_FAILED


def end_of_status(status: int) -> dict[str, object]:
    """The data of an `ended` fact, from a shell's status."""
    if (signal := signal_of(status)) is not None:
        return {"exit_code": None, "signal": signal, "cause": str(Cause.SIGNAL)}
    cause = Cause.EXIT_CODE if status else Cause.COMPLETED
    return {"exit_code": status, "signal": None, "cause": str(cause)}


def _metric_files(session: Session, record: RunRecord, paths: RunPaths) -> Iterator[str]:
    """Follows the metric files to their ends, where a killed job could not.

    On `local` the one who follows them outlives all but a kill of its own.
    """
    given = record.request["agent"].get("metric_files")
    lost = given and record.attempt.undrained and record.target != LOCAL
    if not lost or not session.is_over(record):
        return
    unseal(session.store.stored(paths))  # the journals tell what was followed
    journal = session.store.journal(paths, record.attempt.attempt, METRICS_SUFFIX)
    problems: list[str] = []
    patterns = [Pattern.of(pattern) for pattern in given]
    follower = Follower(paths.files, paths.record, patterns, journal, problems.append)
    count = 0
    with told(f"follow the metric files of {paths.files}"):
        while read := follower.look(final=True):
            count += read
        follower.sync()
        journal.close()
        if follower.error is not None:
            raise follower.error
    yield from problems
    if count:
        yield f"{count} bytes of metric files read"


def _spools(session: Session, record: RunRecord, paths: RunPaths) -> Iterator[str]:
    """Brings what waits on the disks of nodes: of this one directly, of others by a small job."""
    if not session.is_over(record):
        return
    came = 0
    for attempt in record.attempts:
        spool = f"{record.request['agent']['spool']}-{attempt.attempt}"
        for node in attempt.undrained:
            try:
                count = _brought(session, record, node, spool, paths.record)
                problems, of_files = _brought_files(session, record, attempt, node, paths.files)
                of_data = _brought_data(session, record, attempt, node)
            except SchedulerError as error:
                yield f"attempt {attempt.attempt}: {node} cannot be reached: {error.message}"
                continue
            for kind, data in of_data:
                session.store.append(paths, attempt.attempt, kind, data)
                if kind == "data":
                    yield f"{data['files']} files of output {data['name']} gathered from {node}"
            session.store.append(paths, attempt.attempt, "drained", {"host": node})
            yield from problems
            if count:
                yield f"{count} bytes of attempt {attempt.attempt} gathered from {node}"
            came += of_files
            if of_files:
                forget(paths)
                yield f"{of_files} bytes of files of attempt {attempt.attempt} gathered from {node}"
    if came:
        with told(f"tidy {paths.files}"):
            for name in tidy(paths.files):
                yield f"another node has a file of this name: {name}"


def _brought(session: Session, record: RunRecord, node: str, spool: str, to: str) -> int:
    with told(f"gather {spool}"):
        Path(to).mkdir(exist_ok=True)  # of a sealed run nothing need lie there
    if _is_here(node):
        with told(f"gather {spool}"):
            return bring(spool, to)
    return int(_said_by(session, record, node, ["bring", spool, to]).split()[-1])


def _brought_files(
    session: Session, record: RunRecord, attempt: AttemptRecord, node: str, files: str
) -> tuple[list[str], int]:
    """(problems, bytes) of what a node-local or scratch working folder still held.

    What a later attempt wrote is newer, and stays under its name.
    """
    told_work = record.request.get("working_directory")
    if told_work is None:
        return [], 0
    work = f"{told_work['folder']}-{attempt.attempt}"
    first = node == attempt.nodes[0] and attempt.attempt == record.attempt.attempt
    if _is_here(node):
        problems: list[str] = []
        with told(f"gather {work}"):
            return problems, bring_files(work, files, first, problems.append)
    words = ["bring-files", work, files, "yes" if first else "no"]
    *problems, count = _said_by(session, record, node, words, minutes=60).splitlines()
    return problems, int(count)


def _brought_data(
    session: Session, record: RunRecord, attempt: AttemptRecord, node: str
) -> list[tuple[str, dict[str, Any]]]:
    """The facts on the outputs that a node still held. What a later attempt wrote is newer."""
    data = record.request.get("data")
    if data is None or not attempt.nodes:
        return []
    number = str(attempt.attempt)
    late = attempt.attempt != record.attempt.attempt
    whose = {"run_id": record.run_id, "attempt": number, "host": node, "late": late}
    asked = {
        "data": [each for each in data["all"] if each["output"]],
        "folder": f"{data['folder']}-{number}",
        "node": {**whose, "first": node == attempt.nodes[0]},
    }
    if _is_here(node):
        with told(f"gather {asked['folder']}"):
            said = bring_data(asked)
    else:
        words = ["bring-data", json.dumps(asked)]
        said = _said_by(session, record, node, words, minutes=60).splitlines()[-1]
    facts = [(kind, fact) for kind, fact in json.loads(said)]
    wrong = [fact["message"] for kind, fact in facts if kind == "problem"]
    if wrong:
        raise SchedulerError(f"not all outputs could be brought: {wrong[0]}")
    return facts


def _is_here(node: str) -> bool:
    return node.split(".")[0] == os.uname().nodename.split(".")[0]


def _said_by(
    session: Session, record: RunRecord, node: str, words: list[str], minutes: int = 5
) -> str:
    """What the agent says on a node."""
    if record.target == INTERACTIVE:
        raise SchedulerError("the run has no scheduler", "collect it there")
    words = [*record.request["agent"]["words"], *words]
    return session.scheduler(record.target).run_on(node, record.request["job"], words, minutes)
