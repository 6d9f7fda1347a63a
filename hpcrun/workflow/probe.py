"""Probing the file system under the workspace: a job on two nodes, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hpcrun
from hpcrun.agent.probe.sides import LIMIT, OUTCOME
from hpcrun.config import RunConfiguration
from hpcrun.errors import HpcrunError, StoreError
from hpcrun.layout import experiment_of
from hpcrun.reading import read_value
from hpcrun.record import RunRecord
from hpcrun.state import State
from hpcrun.store.sdk import sdk_name
from hpcrun.store.settings import change_setting
from hpcrun.store.users import login_of
from hpcrun.workflow.cancel import cancel
from hpcrun.workflow.delete import delete, plan_deletion
from hpcrun.workflow.finding import Finding
from hpcrun.workflow.honoured import findings
from hpcrun.workflow.prepare import Prepared
from hpcrun.workflow.session import Session
from hpcrun.workflow.site import choose_target
from hpcrun.workflow.smallest import smallest

EXPERIMENT = "hpcrun-store-probe"
TAG = {"hpcrun": "store probe"}
"""Runs of this experiment with this tag are probes, and removed after them."""

SETTING = "seen"
"""The key of workspace.json."""

TIME = "15m"
FAILED = 2.0
"""Seconds in which what a job found out that failed may still be seen here."""

QUESTION = 10.0
"""Seconds for a command that tells a quota."""


def probe(
    session: Session, target: str | None, timeout: float, say: Callable[[str], None]
) -> tuple[dict[str, Any], list[Finding]]:
    """Submits a probe, waits for its end and removes it; (what was seen, what it means).

    timeout: seconds after which a job that has not ended is canceled. say: takes a line about how
    it goes. What was seen is written into workspace.json. HpcrunError.
    """
    remove_probes(session)
    with tempfile.TemporaryDirectory() as empty:
        record = session.submit(_prepared(session, target, Path(empty)))
    say(f"submitted run {record.run_id} as job {record.job_id} to {record.target}")
    try:
        record = _ended(session, record, time.monotonic() + timeout)
    except BaseException:
        with contextlib.suppress(HpcrunError):
            cancel(session, record)
        raise
    patience = LIMIT if record.state is State.COMPLETED else FAILED
    seen = _outcome(Path(session.store.paths(record.run_id).files, OUTCOME), patience)
    if seen is None:
        return {}, [_lost(record)]
    seen |= {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hpcrun": hpcrun.__version__,
        "target": record.target,
        "quota": _quota(session.workspace, seen["file_system"][0].get("kind", "")),
    }
    told = [*findings(seen), *_written(session, seen)]
    _remove(session, record.run_id)
    return seen, told


def remove_probes(session: Session) -> None:
    """Removes the probes of this user that have ended, with all that they left."""
    for run_id in session.store.run_ids():
        if experiment_of(run_id) == EXPERIMENT:
            _remove(session, run_id)


def _remove(session: Session, run_id: str) -> None:
    """One that goes on, or cannot be removed now, is left to the next probe."""
    try:
        record = session.store.read(run_id)
        if record.tags.items() >= TAG.items():
            delete(session, plan_deletion(session, [record]))
    except HpcrunError:
        pass


def _prepared(session: Session, target: str | None, empty: Path) -> Prepared:
    site, name = choose_target(target, session.assets)
    sdk = posixpath.join(session.store.own.sdk, sdk_name())
    # As the agent: nothing of the user's environment takes part.
    command = [sys.executable, "-I", "-S", sdk, "probe"]
    config = smallest(site, name, command, empty, nodes=2, time=TIME)
    config.experiment, config.tags = EXPERIMENT, dict(TAG)
    return session.prepare(read_value(RunConfiguration, config))


def _ended(session: Session, record: RunRecord, until: float) -> RunRecord:
    """The record once the run has ended. StoreError: it has not in time."""
    pause = 0.2
    while not session.is_over(record):
        if time.monotonic() > until:
            message = f"the probe, run {record.run_id}, is {record.state}, and time is over"
            raise StoreError(message, "it is canceled; try again with a longer --timeout")
        time.sleep(pause)
        pause = min(pause * 1.3, 10.0)
        record = session.record(record.run_id)
    return record


def _outcome(path: Path, patience: float) -> dict[str, Any] | None:
    """What the job found out. This host may see the file later than the job's end."""
    until = time.monotonic() + patience
    while True:
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        except (OSError, ValueError):
            if time.monotonic() > until:
                return None
        time.sleep(0.5)


def _lost(record: RunRecord) -> Finding:
    said = record.verdict.sentence if record.verdict is not None else "it told nothing"
    message = f"the job of run {record.run_id} found nothing out: {said}"
    cure = f"hpcrun logs {record.run_id}; the nodes may not see this workspace"
    return Finding("error", "probe", message, cure)


def _quota(workspace: Path, kind: str) -> list[str]:
    """What the quota commands that are here say of it, as lines."""
    user = login_of(os.getuid())
    asked = [["lfs", "quota", "-q", "-u", user, str(workspace)]] if kind == "lustre" else []
    asked.append(["quota", "-w"])
    return [line for words in asked for line in _said(words)]


def _said(words: list[str]) -> Iterator[str]:
    if shutil.which(words[0]) is None:
        return
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=QUESTION, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    yield from (" ".join(line.split()) for line in done.stdout.splitlines()[:20] if line.strip())


def _written(session: Session, seen: dict[str, Any]) -> Iterator[Finding]:
    try:
        change_setting(session.workspace, SETTING, seen)
    except StoreError as error:
        message = f"what was seen could not be written down: {error.message}"
        yield Finding("warning", "workspace.json", message, "its owner can probe as well")
