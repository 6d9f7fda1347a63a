"""Whether an attempt asks for the next one, whether it may have it, and how it gets it. (3.8+)

The command asks by its exit code, or by stopping when its time was nearly over, where the run
wants that. Slurm starts the next attempt in the same job; on target local the agent itself does.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Callable, NoReturn, Optional, Sequence

from hpcrun.agent import past, signals
from hpcrun.agent.end import End
from hpcrun.agent.past import Past
from hpcrun.agent.policy import Policy
from hpcrun.agent.setting import Setting
from hpcrun.agent.witness import say
from hpcrun.layout import (
    BEGUN_VARIABLE,
    RESTART_VARIABLE,
    RESUME_VARIABLE,
    WARNED_VARIABLE,
    Attempt,
)
from hpcrun.verdict import NOT_REQUEUED

PATIENCE = 60.0
"""Seconds for scontrol's answer."""

REQUEUED = "requeued"
"""The cause of an end that another attempt follows."""


def seek(
    setting: Setting, end: End, over: bool, told: bool, spent: float, stopped: Callable[[], bool]
) -> End:
    """Has the run requeued, if its command asks for that and it may; gives the end to tell then.

    On target local `begin_again` is left to do. over: whether the command was ended for the time
    limit. told: whether its ranks were told of that limit. spent: seconds of earlier attempts.
    stopped: whether the job was told to stop meanwhile; who did that decides what becomes of it.
    """
    policy = setting.requeue
    try:
        heeded = told and policy.at_time_limit
        heeded = heeded and past.has_heeded(setting.paths.record, setting.attempt)
        statuses = past.rank_statuses(setting.paths.record, setting.attempt)
        wished = wish(policy, end, over, heeded, statuses)
        if not wished:
            return end
        left = None
        if setting.max_duration is not None:
            left = setting.max_duration - spent - (time.monotonic() - setting.begun)
        found = past.look(setting)
        why = obstacle(policy, setting.attempt, found, left, setting.stop_lead)
    except OSError as error:
        say(f"whether the run may be requeued cannot be read: {error}")
        return end
    if not why and stopped():
        return end._replace(interrupted=True)
    if not why and setting.scheduled:
        said = _ask_slurm(setting.job_id)
        why = f"Slurm says {said}" if said else ""
    if why:
        return refused(wished, why, end)
    return end._replace(cause=REQUEUED, message=wished)


def may_ask(policy: Policy, end: End, told: bool) -> bool:
    """Whether another attempt may follow, as far as that can be known before all is collected."""
    return any(wish(policy, end, told, True, ranks) for ranks in ((), (policy.exit_code,)))


def wish(policy: Policy, end: End, over: bool, heeded: bool, statuses: Sequence[int] = ()) -> str:
    """How a command asked for the next attempt, in words; empty if it did not.

    over: whether it was ended since its time was nearly over. heeded: whether it stopped by
    itself when it was told that. statuses: how its ranks ended, one after another, as far as they
    have told.
    """
    if end.interrupted or end.cause == "launch_failed":
        return ""
    code = policy.exit_code
    if code and (end.exit_code == code or (end.status and _is_asked_by(statuses, code))):
        return f"the command asked for a requeue with exit code {code}"
    if policy.at_time_limit and over:
        return "the command was ended for the time limit"
    if policy.at_time_limit and heeded and end.exit_code == 0:
        return "the command stopped for the time limit"
    return ""


def _is_asked_by(statuses: Sequence[int], code: int) -> bool:
    """Whether ranks ended with the code, and none with another, unless that was later.

    Their launcher may tell something else: srun that it killed the others, torchrun just 1. Those
    that waited for one that has gone may fail before they are killed.
    """
    fallen = [status for status in statuses if status]
    alone = all(status == code or status >= 128 for status in fallen)
    return code in fallen and (alone or fallen[0] == code)


def obstacle(
    policy: Policy, attempt: Attempt, past: Past, left: Optional[float], needed: float
) -> str:
    """Why there may be no next attempt, in words; empty if there may be one.

    left: seconds that are left of max_run_duration_seconds, None if there is no such limit.
    needed: seconds without which it makes no sense to begin.
    """
    made = attempt.restart + 1
    if made >= policy.max_attempts:
        return f"it was attempt {made}, and requeue.max_attempts is {policy.max_attempts}"
    if left is not None and left <= needed:
        return f"{max(left, 0):.0f} s are left of max_run_duration_seconds"
    if _stands_still(attempt, past):
        step = past.now.step
        steps = "no step was logged" if step is None else f"the greatest step is still {step}"
        return f"two attempts in a row made no progress: {steps}, and there is no newer checkpoint"
    return ""


def _stands_still(attempt: Attempt, past: Past) -> bool:
    """Whether neither this attempt nor the one before it brought the run further."""
    marks = [past.begins[number] for number in sorted(past.begins) if number <= attempt]
    if len(marks) < 2:
        return False
    before, begin = marks[-2:]
    return not begin.is_beyond(before) and not past.now.is_beyond(begin)


def refused(wished: str, why: str, end: End) -> End:
    """The end of a command that gets no next attempt: one that stopped early is not complete."""
    cause = "time_limit" if end.cause == "completed" else end.cause
    return end._replace(cause=cause, message=f"{wished}{NOT_REQUEUED}{why}")


def _ask_slurm(job_id: str) -> str:
    """Has Slurm requeue this job: TERM follows at once. Gives its words if it does not."""
    import subprocess  # slow to import, and seldom needed

    try:
        done = subprocess.run(
            ("scontrol", "requeue", job_id),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    said = " ".join(done.stdout.decode("utf-8", "replace").split())
    return (said or f"scontrol ended with {done.returncode}") if done.returncode else ""


def begin_again(setting: Setting) -> NoReturn:
    """Becomes the script again, as the next attempt: the same process, and so the same job.

    OSError if it cannot.
    """
    script, attempt = setting.paths.script, setting.attempt
    with open(script, "rb") as file:
        first = os.fsdecode(file.readline(4096)[2:])
    words = [*first.strip().split(maxsplit=1), script, str(attempt.submission)]
    if setting.resumes_anew and setting.resume_from is not None:
        words.append(setting.resume_from)
    env = {k: v for k, v in os.environ.items() if k not in (WARNED_VARIABLE, RESUME_VARIABLE)}
    env[RESTART_VARIABLE] = str(attempt.restart + 1)
    env[BEGUN_VARIABLE] = str(time.monotonic())
    sys.stderr.flush()
    signals.restore()
    os.execve(words[0], words, env)
