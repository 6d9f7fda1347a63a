"""Gathering what a run left whose agent could not: exit statuses, and spools on this host."""

from __future__ import annotations

from pathlib import Path

from hpcrun.agent.spool import mirror, remove
from hpcrun.layout import Attempt, RunPaths
from hpcrun.record import RunRecord
from hpcrun.state import Cause
from hpcrun.store.faults import told
from hpcrun.workflow.session import Session

EXIT = "exit-"
"""The script of a run without an agent writes the command's status into exit-<attempt>."""


def collect(session: Session, run_id: str) -> list[str]:
    """What was gathered, a line each."""
    user, _ = session.store.find(run_id)
    paths = session.store.paths(run_id, user)
    record = session.store.read(run_id, user)
    return [*_statuses(session, record, paths), *_spools(record, paths)]


def _statuses(session: Session, record: RunRecord, paths: RunPaths) -> list[str]:
    lines = []
    for file in sorted(Path(paths.record).glob(f"{EXIT}*")):
        attempt = Attempt.parse(file.name.removeprefix(EXIT))
        known = [a for a in record.attempts if a.attempt == attempt and a.verdict is not None]
        text = file.read_text(encoding="utf-8").strip()
        if known or not text.isdigit():
            continue
        session.store.append(paths, attempt, "ended", end_of_status(int(text)))
        lines.append(f"attempt {attempt} ended with status {text}")
    return lines


def end_of_status(status: int) -> dict[str, object]:
    """The data of an `ended` fact, from a shell's status."""
    if status > 128:
        return {"exit_code": None, "signal": status - 128, "cause": str(Cause.SIGNAL)}
    cause = Cause.EXIT_CODE if status else Cause.COMPLETED
    return {"exit_code": status, "signal": None, "cause": str(cause)}


def _spools(record: RunRecord, paths: RunPaths) -> list[str]:
    """Records that are still on this host's disk; they leave it once the history has them."""
    lines = []
    for attempt in record.attempts:
        spool = Path(record.request["agent"]["spool"] + f"-{attempt.attempt}")
        if record.state.is_end and spool.is_dir() and spool.owner() == record.user:
            with told(f"gather {spool}"):
                count = mirror(str(spool), paths.record)
                remove(str(spool))
            if count:
                lines.append(f"{count} bytes of attempt {attempt.attempt} gathered from {spool}")
    return lines
