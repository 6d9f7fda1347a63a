"""What an attempt takes over from those before it. Standard library only (Python 3.8+).

Where that cannot be read it is a problem, and the attempt goes on without.
"""

from __future__ import annotations

from typing import Optional

from hpcrun.agent import past
from hpcrun.agent.checkpoints import to_resume
from hpcrun.agent.setting import Setting
from hpcrun.agent.witness import Witness
from hpcrun.layout import Attempt

FIRST = Attempt(1, 0)


def spent(setting: Setting, witness: Witness) -> float:
    """Seconds that they ran."""
    try:
        return past.spent(past.facts(setting.paths.record, "agent-"), setting.attempt)
    except OSError as error:
        witness.problem(f"how long earlier attempts ran cannot be read: {error}")
        return 0.0


def checkpoint(setting: Setting, witness: Witness) -> Optional[str]:
    """Tells how far the run is, and which checkpoint it goes on from; gives its path."""
    path = setting.resume_from
    if setting.attempt != FIRST:
        try:
            found = past.look(setting)
            witness.tell("mark", past.as_data(found.now), sync=False)
            begin = found.begins.get(setting.attempt._replace(restart=0), found.now)
            path = to_resume(found.newest, path, setting.resumes_anew, begin.checkpoint)
        except OSError as error:
            witness.problem(f"what earlier attempts left cannot be read: {error}")
    if path is not None:
        witness.tell("resumed", {"path": path}, sync=False)
    return path


def mark_metric_files(setting: Setting, witness: Witness) -> None:
    """Tells what stands in metric files before the command begins: they have written that."""
    if not setting.metric_files or setting.attempt == FIRST:
        return
    try:
        from hpcrun.agent.follow.opened import look_back

        marks = look_back(setting.paths.files, setting.metric_files)
        witness.tell("metric_files", {"marks": marks})
    except Exception as error:  # noqa: BLE001 - the command starts all the same
        witness.problem(f"what stands in the metric files cannot be told: {error!r}")
