"""The agent: the command's parent on the first node of a job. Standard library only (Python 3.8+).

It starts the keeper, lays the snapshot, starts the node helpers and the command, passes signals
on, tells facts, and ends with the command's own status. An error of its own is a fact or a line in
the batch log; the command is waited for all the same.
"""

from __future__ import annotations

import errno
import os
import time
from signal import SIGKILL, SIGTERM
from typing import Callable, List, Optional, Sequence

from hpcrun.agent import (
    beginning,
    earlier,
    end,
    evidence,
    past,
    preemption,
    process,
    requeue,
    setting,
    signals,
    spool,
    staged,
)
from hpcrun.agent.end import End
from hpcrun.agent.helpers import Helpers
from hpcrun.agent.limits import LAST_CALL, TIME_LIMIT, taken
from hpcrun.agent.process import Process
from hpcrun.agent.setting import Setting
from hpcrun.agent.watch import ASKING, LAST_TRY, Watch
from hpcrun.agent.witness import Witness, say
from hpcrun.errors import StoreError
from hpcrun.journal import Journal
from hpcrun.layout import FILES_VARIABLE, RESUME_VARIABLE, SPOOL_VARIABLE, WORK_VARIABLE

NOT_FOUND, NOT_EXECUTABLE = 127, 126

NO_COMMAND = "the launcher's template gives no words in `command`"

_BY_SIGNAL = 128 + SIGTERM, 128 + SIGKILL

TAKEN_LATE = 120.0
"""Seconds after the end of its grace time by which a preempted job is gone."""


def run(words: Sequence[str], teardown: str, node: Sequence[str]) -> int:
    """Runs a command as its parent; gives its status. node: the words that keep another node."""
    signals.listen()
    agent = None
    try:
        agent = Agent(setting.read(os.environ), words, teardown, node)
        return agent.run()
    except Exception:  # noqa: BLE001 - the top of the agent
        import traceback

        say(f"the agent failed, the command goes on without it\n{traceback.format_exc()}")
    return _run_plainly(words, agent.command if agent is not None else None)


def _run_plainly(words: Sequence[str], command: Optional[Process]) -> int:
    """Without facts, keeper or helpers."""
    os.environ.pop(SPOOL_VARIABLE, None)
    try:
        if command is None:
            folders = [os.environ.get(name, "") for name in (WORK_VARIABLE, FILES_VARIABLE)]
            folder = next(filter(os.path.isdir, folders), ".")
            command = process.start(words, folder)
    except OSError as error:
        return _shell_status(error)
    while not command.has_ended():
        number = signals.wait(60)
        if number in signals.STOPPING:
            command.send(number)
    return command.shell_status


def _shell_status(error: OSError) -> int:
    """What a shell tells of a command that cannot be started."""
    return NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE


class Agent:
    """One attempt's agent."""

    def __init__(
        self, setting: Setting, words: Sequence[str], teardown: str, node: Sequence[str]
    ) -> None:
        staged.keep_hold(setting)
        self._words = words
        self._own_words = tuple(node[:-1])
        self._teardown = teardown
        paths, attempt = setting.paths, setting.attempt
        self._witness = Witness(Journal(paths.journal(f"agent-{attempt}"), attempt))
        self._helpers = Helpers(
            (*setting.helpers, *node) if setting.helpers else (), len(setting.nodes) - 1
        )
        by_srun = os.path.basename("".join(words[:1])) == "srun"
        self._watch = Watch(setting, self._witness, self._helpers, by_srun)
        self._log_size = 0
        self._spent = 0.0
        self._end_of_grace: Optional[float] = None
        self._canceled = False

    @property
    def command(self) -> Optional[Process]:
        """The command, once it was started."""
        return self._watch.command

    @property
    def _setting(self) -> Setting:
        return self._watch.setting

    def run(self) -> int:
        """The whole attempt; gives the status to end with."""
        self._begin()
        watch = self._watch
        ended = beginning.wait_for_runs(watch) or self._allot() or beginning.lay(watch)
        ended = ended or beginning.stage(watch, self._own_words) or self._look() or self._launch()
        if ended is None and self.command is not None:
            self._wait_for_command()
            ended = self._end_of_command(self.command)
        assert ended is not None
        if ended.cause == "launch_failed" and self._is_being_ended():
            ended = ended._replace(interrupted=True)
        # Nothing needs the environment any more, unless the teardown does.
        removal = None if self._teardown else staged.begin_removal(self._setting)
        self._finalize(ended)
        self._run_teardown()
        removal = removal or staged.begin_removal(self._setting)
        self._wait_to_be_taken()
        over = self._watch.over in (TIME_LIMIT, LAST_CALL)
        told = self._watch.stop_told == TIME_LIMIT
        stopped = self._is_told_to_stop
        ended = requeue.seek(self._setting, ended, over, told, self._spent, stopped)
        ended = self._as_slurm_knows(ended)
        self._tell_end(ended)
        staged.end(removal)
        if ended.cause == requeue.REQUEUED and not self._setting.scheduled:
            try:
                requeue.begin_again(self._setting)
            except OSError as error:
                self._witness.problem(f"the next attempt cannot begin: {error}")
        return ended.status

    def _is_told_to_stop(self) -> bool:
        self._watch.heed_what_came()
        return self._watch.told_to_stop

    # -- beginning ----------------------------------------------------------------------------

    def _begin(self) -> None:
        told = self._setting
        if told.umask is not None:
            os.umask(told.umask)
        self._log_size = evidence.size(told.batch_log)
        self._witness.tell(
            "started",
            {
                "host": told.host,
                "pid": os.getpid(),
                "job_id": told.job_id,
                "nodes": list(told.nodes),
                "restart": told.attempt.restart,
                "age": round(time.monotonic() - told.begun, 2),
            },
            sync=False,
        )
        for problem in told.problems:
            self._witness.problem(problem)
        self._prepare_spool()
        self._watch.keeper.start(self._setting)
        self._watch.keeper.send("begin")
        if told.warned:
            self._watch.request_stop(TIME_LIMIT)

    def _prepare_spool(self) -> None:
        try:
            if self._setting.spool is not None:
                spool.prepare(self._setting.spool)
        except StoreError as error:
            self._witness.problem(f"{error}; records go straight to the history")
            self._watch.setting = self._setting._replace(spool=None)
            os.environ.pop(SPOOL_VARIABLE, None)

    def _allot(self) -> Optional[End]:
        """Looks what is left of max_run_duration_seconds; gives the end, if that is nothing."""
        told = self._setting
        if told.max_duration is None:
            return None
        self._spent = earlier.spent(told, self._witness)
        if self._spent >= told.max_duration:
            return End(1, None, "time_limit", message=taken(told.max_duration))
        self._watch.limits.allot(told.max_duration - self._spent)
        return None

    def _look(self) -> Optional[End]:
        """Tries the launcher before the command; gives the end, if that could not be launched."""
        if self._setting.preflight is None or self._watch.must_end:
            return None
        from hpcrun.agent.preflight import trial

        trying = trial.begin(self._setting, self._words, self._own_words, self._witness)
        if trying is None:
            return None

        def is_over() -> bool:
            return trying.has_ended() or self._watch.must_end

        self._watch.until(is_over, trial.PATIENCE, ASKING)
        self._watch.heed_what_came()
        trying.end()
        if self._watch.over and self._watch.stopped_by is None:
            return None  # nor is the command begun
        if self._watch.stopped_by is not None:
            return end.interrupted(self._watch.stopped_by)
        problems = trying.problems()
        return end.not_launched(problems, self._last_words()) if problems else None

    def _launch(self) -> Optional[End]:
        """Starts the command; gives the end, in case that it cannot start.

        The command does not wait for the disk: what was told so far is synced once it runs.
        """
        if self._watch.over:
            return End(1, None, "time_limit", message=self._watch.why_over)
        earlier.mark_metric_files(self._setting, self._witness)
        path = earlier.checkpoint(self._setting, self._witness)
        if path is not None:
            os.environ[RESUME_VARIABLE] = path
        if not self._words:
            return end.launch_failed(NOT_FOUND, NO_COMMAND)
        self._watch.heed_what_came()
        if self._watch.stopped_by is not None:
            return end.interrupted(self._watch.stopped_by)
        self._witness.tell("running", {"command": list(self._words)}, sync=False)
        try:
            pipe = self._watch.keeper.pipe
            command = process.start(self._words, self._setting.folder, announce=pipe)
        except OSError as error:
            message = f"cannot start {self._words[0]}: {error.strerror}"
            return end.launch_failed(_shell_status(error), message)
        self._watch.command = command
        self._watch.keeper.announced(command.pid)
        self._witness.settle()
        self._watch.limits.start(time.monotonic())
        return None

    # -- waiting ------------------------------------------------------------------------------

    def _wait_for_command(self) -> None:
        assert self.command is not None
        self._watch.until(self.command.has_ended)
        self._watch.heed_what_came()
        self._watch.limits.clear()
        self._ask_for_grace()
        self._watch.clear_left_over()

    def _ask_for_grace(self) -> None:
        """Where Slurm has ended a step, the job may be one that it preempts."""
        if self._setting.scheduled and not self._watch.told_to_stop:
            self._canceled = evidence.a_step_was_canceled(self._setting, self._log_size)
        if self._canceled:
            self._end_of_grace = preemption.standing(self._setting.job_id).end_of_grace

    def _is_being_ended(self) -> bool:
        """Whether Slurm has begun to end the job, which this process may hear of last.

        By then steps are refused, and those on other nodes have been told to stop.
        """
        if not self._setting.scheduled:
            return False
        if self._watch.told_to_stop:
            return True
        standing = preemption.standing(self._setting.job_id)
        self._end_of_grace = standing.end_of_grace
        return standing.ends

    # -- ending -------------------------------------------------------------------------------

    def _end_of_command(self, command: Process) -> End:
        # What tells a process group to stop may meet the command before this process has a word.
        by_stop = self._watch.told_to_stop and command.shell_status == _BY_SIGNAL[0]
        stopped = by_stop or self._watch.stopped_by is not None
        interrupted = stopped or self._end_of_grace is not None
        ended = end.of_command(command, interrupted)
        if self._watch.over and self._watch.stopped_by is None:
            return ended._replace(cause="time_limit", message=self._watch.why_over)
        if ended.exit_code and not interrupted and self._has_no_rank():
            message = f"no rank began: the launcher ended with exit code {ended.exit_code}"
            return ended._replace(cause="launch_failed", message=message)
        return ended

    def _has_no_rank(self) -> bool:
        """Whether the launcher has started none. One that works without our shim tells nothing."""
        shim = os.path.join("agent", "task.sh")
        try:
            return any(shim in word for word in self._words) and evidence.no_rank_began(
                self._setting
            )
        except OSError:
            return False

    def _finalize(self, ended: End) -> None:
        """Everything has ended; what it left is brought to the history."""
        asks = requeue.may_ask(self._setting.requeue, ended, self._watch.stop_told == TIME_LIMIT)
        self._witness.tell("finalizing", {"requeue": True} if asks else None)
        self._helpers.finish()
        self._let_files_come(self._helpers.have_ended)
        if not self._watch.until(self._helpers.have_ended, self._setting.kill_wait):
            self._witness.problem("the helpers on other nodes did not end, and are killed")
            self._helpers.kill()
            self._watch.until(self._helpers.have_ended, LAST_TRY)
        self._finish_keeper()
        if self._setting.scheduled:
            for data in evidence.memory_kills(self._setting, self._log_size):
                self._witness.tell("out_of_memory", data)

    def _let_files_come(self, ended: Callable[[], bool]) -> None:
        """Large files take their time, as long as nobody tells the job to stop."""
        if self._setting.work is not None or self._setting.stages_out:
            self._watch.until(lambda: ended() or self._watch.told_to_stop)

    def _finish_keeper(self) -> None:
        child = self._watch.keeper.finish()
        if child is None:
            return
        self._let_files_come(child.has_ended)
        if self._watch.told_to_stop:
            self._watch.keeper.send("interrupted")
        if not self._watch.until(child.has_ended, self._setting.kill_wait + LAST_TRY):
            self._witness.problem(f"the keeper on {self._setting.host} is not done yet")
        elif child.signal is not None:
            self._witness.problem(f"the keeper on {self._setting.host} was killed at the end")

    def _run_teardown(self) -> None:
        """In a process of its own; where the job was told to stop, it has but the time to stop."""
        if not self._teardown:
            return
        words = ("bash", "-c", self._teardown)
        try:
            child = process.start(words, self._setting.paths.files)
        except OSError as error:
            self._witness.problem(f"the teardown cannot be started: {error.strerror}")
            return
        self._watch.until(lambda: child.has_ended() or self._watch.told_to_stop)
        if not self._watch.until(child.has_ended, self._setting.kill_wait):
            process.signal_group(child.pid, SIGKILL)
            self._watch.until(child.has_ended)
        if child.shell_status:
            self._witness.problem(f"the teardown ended with status {child.shell_status}")

    def _wait_to_be_taken(self) -> None:
        """The end of a preempted job is left to Slurm, which requeues it then."""
        if self._end_of_grace is not None:
            left = self._end_of_grace + TAKEN_LATE - time.time()
            self._watch.until(lambda: self._watch.told_to_stop, left)

    def _as_slurm_knows(self, ended: End) -> End:
        """Where Slurm has told the ranks to stop before this process, it alone knows why."""
        by = _BY_SIGNAL if self._canceled or self._watch.told_to_stop else _BY_SIGNAL[:1]
        mine = self._watch.over or ended.message or ended.cause not in ("exit_code", "signal")
        if mine or not self._setting.scheduled or ended.status not in by:
            return ended
        try:
            statuses = past.rank_statuses(self._setting.paths.record, self._setting.attempt)
        except OSError:
            return ended
        # A launcher that ends the others since one fell may end with their status.
        fell = any(status not in (0, *_BY_SIGNAL) for status in statuses)
        return ended if fell else ended._replace(interrupted=True)

    def _tell_end(self, ended: End) -> None:
        if ended.cause not in ("completed", requeue.REQUEUED) and not ended.evidence:
            ended = ended._replace(evidence=tuple(self._last_words()))
        self._witness.tell("ended", ended.data())
        if not self._watch.until(self._witness.settle, LAST_TRY, 1.0):
            say(f"the end cannot be told: {self._witness.error}")

    def _last_words(self) -> List[str]:
        try:
            return evidence.last_words(self._setting, self._log_size)
        except OSError as error:
            return [f"the logs cannot be read: {error}"]
