"""Which run this process belongs to, from its environment. Standard library only (Python 3.8+)."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import List, Mapping, Optional

from hpcrun.errors import HpcrunError
from hpcrun.layout import (
    ATTEMPT_VARIABLE,
    EXPERIMENT_VARIABLE,
    FILES_VARIABLE,
    OUTPUT_VARIABLE,
    RECORD_VARIABLE,
    RUN_ID,
    RUN_ID_VARIABLE,
    SPOOL_VARIABLE,
    Attempt,
    experiment_of,
)
from hpcrun.metrics.ranks import RankFacts

OFFLINE = "offline"
"""The experiment of a run outside any job."""


class RunEnvironmentException(HpcrunError):
    """This process runs in no job of hpcrun, and an offline run was not allowed."""


@dataclass(frozen=True)
class Context:
    """What a process knows of its run. Paths are absolute.

    record: the folder of the run's record. spool: the folder on this node from where the agent
    brings journals to the record; None: they are written to the record. files: where the job
    runs. outputs: what is kept of it. offline: there is no job.
    """

    run_id: str
    experiment: str
    attempt: Attempt
    ranks: RankFacts
    record: str
    spool: Optional[str]
    files: str
    outputs: str
    offline: bool


def missing_variables(environment: Mapping[str, str]) -> List[str]:
    """The variables without which no run is known: absent, or not in their form."""
    wrong = []
    if not RUN_ID.match(environment.get(RUN_ID_VARIABLE, "")):
        wrong.append(RUN_ID_VARIABLE)
    wrong += [name for name in (RECORD_VARIABLE, FILES_VARIABLE) if not environment.get(name)]
    try:
        Attempt.parse(environment.get(ATTEMPT_VARIABLE, ""))
    except ValueError:
        wrong.append(ATTEMPT_VARIABLE)
    return wrong


def job_context(environment: Mapping[str, str]) -> Context:
    """The context inside a job. RunEnvironmentException."""
    missing = missing_variables(environment)
    if missing:
        raise RunEnvironmentException(
            f"this process runs in no run: {', '.join(missing)} not set",
            "start the script with `hpcrun submit`, or allow an offline run",
        )
    run_id = environment[RUN_ID_VARIABLE]
    files = environment[FILES_VARIABLE]
    return Context(
        run_id=run_id,
        experiment=environment.get(EXPERIMENT_VARIABLE) or experiment_of(run_id),
        attempt=Attempt.parse(environment[ATTEMPT_VARIABLE]),
        ranks=RankFacts.of(environment),
        record=environment[RECORD_VARIABLE],
        spool=environment.get(SPOOL_VARIABLE) or None,
        files=files,
        outputs=environment.get(OUTPUT_VARIABLE) or posixpath.join(files, "outputs"),
        offline=False,
    )


def offline_context(
    environment: Mapping[str, str], folder: str, seconds: int, token: str
) -> Context:
    """The context of an offline run that begins now. token: 8 hex digits."""
    run_id = f"{OFFLINE}_{seconds}_{token}"
    return Context(
        run_id=run_id,
        experiment=OFFLINE,
        attempt=Attempt(1, 0),
        ranks=RankFacts.of(environment),
        record=posixpath.join(folder, ".hpcrun", "offline", run_id),
        spool=None,
        files=folder,
        outputs=posixpath.join(folder, "outputs"),
        offline=True,
    )
