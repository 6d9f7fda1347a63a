"""What comes before the command: runs that must have ended, the source, the data. (Python 3.8+)

Each gives the end of the attempt, in case that the command cannot be started after it.
"""

from __future__ import annotations

import os
from signal import SIGKILL
from typing import Optional, Sequence

from hpcrun.agent import end, keeper, process, signals, staged, staging, working
from hpcrun.agent.end import End
from hpcrun.agent.lay import lay_out
from hpcrun.agent.watch import ASKING, LAST_TRY, Watch
from hpcrun.errors import HpcrunError, SnapshotError
from hpcrun.layout import OUTPUT_VARIABLE, WORK_VARIABLE

LAYING = 600.0
"""Seconds in which the other nodes must have laid the snapshot."""

TAKING_OVER = 60.0
"""Seconds in which the other nodes' keepers must be there to remove what was staged."""


def wait_for_runs(watch: Watch) -> Optional[End]:
    """Waits until the runs that this one waits for have ended, as long as that may take to show."""
    after = watch.setting.after
    if after is None:
        return None
    from hpcrun.agent import awaiting

    found = awaiting.look(after)

    def is_settled() -> bool:
        nonlocal found
        found = awaiting.look(after)
        return found.may_begin is not None or watch.stopped_by is not None

    if found.may_begin is None and watch.setting.scheduled:
        watch.until(is_settled, awaiting.LAG, awaiting.ASKING)
        if found.may_begin is None:
            found = awaiting.look(after, asks_slurm=True)
    elif found.may_begin is None:
        # Here is no queue: what waits in it takes none of its time.
        watch.limits.clear()
        watch.until(is_settled, None, awaiting.ASKING)
        watch.begin_anew()
    if found.may_begin or watch.stopped_by is not None:
        return None
    return End(1, None, "canceled", message=f"the command was not started: {found.why}")


def lay(watch: Watch) -> Optional[End]:
    """Starts the helpers, which lay the snapshot on their nodes, and lays it here."""
    try:
        watch.helpers.start()
    except OSError as error:
        watch.witness.problem(f"the helpers on other nodes cannot be started: {error.strerror}")
    if watch.stop_told:
        watch.helpers.stop()
    try:
        if watch.setting.work is None or not _lay_in_work(watch):
            lay_out(watch.setting.snapshot, watch.setting.paths, signals.stop_is_pending)
    except SnapshotError as error:
        return end.launch_failed(1, str(error))
    watch.heed_what_came()
    _take_over_what_is_staged(watch)
    return end.interrupted(watch.stopped_by) if watch.stopped_by is not None else None


def _take_over_what_is_staged(watch: Watch) -> None:
    """Waits for the other nodes' keepers: until they listen, a cancel would leave it there."""
    if watch.setting.hold is None:
        return
    helpers = watch.helpers

    def are_there() -> bool:
        told = helpers.answers().count(keeper.HERE)
        return told >= helpers.count or helpers.have_ended() or watch.stopped_by is not None

    watch.until(are_there, TAKING_OVER, ASKING)
    if watch.stopped_by is None:
        staged.take_over(watch.setting)


def _lay_in_work(watch: Watch) -> bool:
    """Lays it in the working folder; False where a node has no room: there is none any more."""
    try:
        working.make(watch.setting, signals.stop_is_pending)
        if watch.setting.work_is_shared or _others_have_laid(watch):
            return True
        watch.witness.problem("not every other node has laid the snapshot")
    except HpcrunError as error:
        watch.witness.problem(str(error))
    _work_in_the_history(watch)
    return False


def _others_have_laid(watch: Watch) -> bool:
    helpers, others = watch.helpers, len(watch.setting.nodes) - 1

    def answered() -> bool:
        ended = helpers.have_ended() or watch.stopped_by is not None
        laid = [word for word in helpers.answers() if word in (keeper.LAID, keeper.NOT_LAID)]
        return len(laid) >= others or ended

    watch.until(answered, LAYING, ASKING)
    return helpers.answers().count(keeper.LAID) == others or watch.stopped_by is not None


def _work_in_the_history(watch: Watch) -> None:
    """The job works in the run's own folder: it runs all the same."""
    files = watch.setting.paths.files
    watch.witness.problem(f"the job works in {files}, not in {watch.setting.work}")
    watch.setting = watch.setting._replace(work=None)
    os.environ[WORK_VARIABLE] = files
    os.environ[OUTPUT_VARIABLE] = watch.setting.paths.outputs
    os.environ["PYTHONPATH"] = ":".join(filter(None, (files, os.environ.get("PYTHONPATH"))))


def stage(watch: Watch, own_words: Sequence[str]) -> Optional[End]:
    """Waits until all nodes have the run's data. own_words: those that start the agent."""
    if not watch.setting.data:
        return None
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    said = b""
    try:
        child = process.start((*own_words, "stage"), "/", stdout=writing)
    except OSError as error:
        os.close(reading)
        return end.launch_failed(1, f"data cannot be staged: {error.strerror}")
    finally:
        os.close(writing)
    helpers, others = watch.helpers, len(watch.setting.nodes) - 1

    def is_over() -> bool:
        nonlocal said
        has_ended = child.has_ended()
        said += process.read_all(reading)
        heard = staging.count(helpers.answers()) >= others or helpers.have_ended()
        return (has_ended and heard) or watch.must_end

    watch.until(is_over, None, ASKING)
    watch.heed_what_came()
    if watch.must_end:
        child.send(SIGKILL)
        watch.until(child.has_ended, LAST_TRY, ASKING)
    os.close(reading)
    if watch.stopped_by is not None:
        return end.interrupted(watch.stopped_by)
    if watch.over:
        return None  # nor is the command begun
    own = said.decode("utf-8", "replace").split("\n")
    told = staging.told([*own, *helpers.answers()])
    for each in told:
        for data in each.facts:
            watch.witness.tell("data", data, sync=False)
    problems = [each.problem for each in told if each.problem]
    if len(told) <= others and not problems:
        problems = [f"{others + 1 - len(told)} nodes told nothing of their data"]
    return end.without_data(problems) if problems else None
