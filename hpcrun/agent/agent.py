"""The agent: the command's parent on the first node of a job. Standard library only (Python 3.8+).

It starts the keeper, lays the snapshot, starts the node helpers and the command, passes signals
on, tells facts, and ends with the command's own status. An error of its own is a fact or a line in
the batch log; the command is waited for all the same.
"""

from __future__ import annotations

import errno
import os
import time
from signal import SIGCHLD, SIGKILL, SIGTERM, Signals
from typing import Callable, List, Optional, Sequence

from hpcrun.agent import (
    earlier,
    end,
    evidence,
    keeper,
    past,
    preemption,
    process,
    ranks,
    requeue,
    setting,
    signals,
    spool,
    staged,
    staging,
    working,
)
from hpcrun.agent.end import End
from hpcrun.agent.helpers import Helpers
from hpcrun.agent.lay import lay_out
from hpcrun.agent.limits import LAST_CALL, MAX_DURATION, TIME_LIMIT, Limits
from hpcrun.agent.own_keeper import OwnKeeper
from hpcrun.agent.process import Process
from hpcrun.agent.setting import Setting
from hpcrun.agent.witness import Witness, say
from hpcrun.errors import HpcrunError, SnapshotError, StoreError
from hpcrun.journal import Journal
from hpcrun.layout import (
    FILES_VARIABLE,
    OUTPUT_VARIABLE,
    RESUME_VARIABLE,
    SPOOL_VARIABLE,
    WORK_VARIABLE,
)

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""A shell's statuses of a command that cannot be started."""

NO_COMMAND = "the launcher's template gives no words in `command`"

_BY_SIGNAL = 128 + SIGTERM, 128 + SIGKILL

LEFT_OVER = 1.0
"""Seconds that processes may outlive a command that ended by itself."""

ASKING = 0.05
"""Seconds between two questions where no signal tells the answer."""

LAST_TRY = 10.0
"""Seconds in which the last facts must be written, and a keeper or helper be gone."""

TAKEN_LATE = 120.0
"""Seconds after the end of its grace time by which a preempted job is gone."""

LAYING = 600.0
"""Seconds in which the other nodes must have laid the snapshot."""


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
        return NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
    while not command.has_ended():
        number = signals.wait(60)
        if number in signals.STOPPING:
            command.send(number)
    return command.shell_status


class Agent:
    """One attempt's agent."""

    def __init__(
        self, setting: Setting, words: Sequence[str], teardown: str, node: Sequence[str]
    ) -> None:
        self.command: Optional[Process] = None
        self._setting = setting
        self._words = words
        self._own_words = tuple(node[:-1])
        self._teardown = teardown
        self._helpers = Helpers(
            (*setting.helpers, *node) if setting.helpers else (), len(setting.nodes) - 1
        )
        paths, attempt = setting.paths, setting.attempt
        self._witness = Witness(Journal(paths.journal(f"agent-{attempt}"), attempt))
        self._keeper = OwnKeeper(self._witness.problem)
        self._log_size = 0
        self._beats = 0
        self._next_beat = time.monotonic() + setting.heartbeat
        self._limits = Limits(setting, time.monotonic() - process.age())
        self._spent = 0.0
        self._stop_told = ""
        self._kill: Optional[float] = None
        self._srun_waits = False
        self._told_to_stop = False
        self._stopped_by: Optional[int] = None
        self._over = ""
        self._end_of_grace: Optional[float] = None
        self._canceled = False

    def run(self) -> int:
        """The whole attempt; gives the status to end with."""
        self._begin()
        ended = self._allot() or self._await() or self._lay() or self._stage()
        ended = ended or self._look() or self._launch()
        if ended is None and self.command is not None:
            self._wait_for_command()
            ended = self._end_of_command(self.command)
        assert ended is not None
        self._finalize(ended)
        self._run_teardown()
        self._wait_to_be_taken()
        if not self._told_to_stop:
            over = self._over in (TIME_LIMIT, LAST_CALL)
            told = self._stop_told == TIME_LIMIT
            ended = requeue.seek(self._setting, ended, over, told, self._spent)
        ended = self._as_slurm_knows(ended)
        self._tell_end(ended)
        if self._setting.staged is not None and self._setting.scheduled:
            staged.remove(self._setting.staged, self._setting.kill_wait)
        if ended.cause == requeue.REQUEUED and not self._setting.scheduled:
            try:
                requeue.begin_again(self._setting)
            except OSError as error:
                self._witness.problem(f"the next attempt cannot begin: {error}")
        return ended.status

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
                "age": round(process.age(), 2),
            },
            sync=False,
        )
        for problem in told.problems:
            self._witness.problem(problem)
        self._prepare_spool()
        self._keeper.start(self._setting)
        self._keeper.send("begin")
        if told.warned:
            self._request_stop(TIME_LIMIT)

    def _prepare_spool(self) -> None:
        try:
            if self._setting.spool is not None:
                spool.prepare(self._setting.spool)
        except StoreError as error:
            self._witness.problem(f"{error}; records go straight to the history")
            self._setting = self._setting._replace(spool=None)
            os.environ.pop(SPOOL_VARIABLE, None)

    def _allot(self) -> Optional[End]:
        """Looks what is left of max_run_duration_seconds; gives the end, if that is nothing."""
        told = self._setting
        if told.max_duration is None:
            return None
        self._spent = earlier.spent(told, self._witness)
        if self._spent >= told.max_duration:
            return End(1, None, "time_limit", message=self._taken())
        self._limits.allot(told.max_duration - self._spent)
        return None

    def _taken(self) -> str:
        return f"the run has taken its max_run_duration_seconds ({self._setting.max_duration:g})"

    def _await(self) -> Optional[End]:
        """Looks whether the runs that this one waits for have ended; gives the end, if not well."""
        after = self._setting.after
        if after is None:
            return None
        from hpcrun.agent import awaiting

        found = awaiting.look(after)

        def is_settled() -> bool:
            nonlocal found
            found = awaiting.look(after)
            return found.may_begin is not None or self._stopped_by is not None

        if found.may_begin is None:
            scheduled = self._setting.scheduled
            self._until(is_settled, awaiting.LAG if scheduled else None, awaiting.ASKING)
            if found.may_begin is None and scheduled:
                found = awaiting.look(after, asks_slurm=True)
        if found.may_begin or self._stopped_by is not None:
            return None
        return End(1, None, "canceled", message=f"the command was not started: {found.why}")

    def _lay(self) -> Optional[End]:
        """Lays the snapshot; gives the end, if that is one."""
        try:
            self._lay_out()
        except SnapshotError as error:
            return end.launch_failed(1, str(error))
        self._heed(signals.wait(0))
        if self._stopped_by is None:
            return None
        return End(None, int(self._stopped_by), "signal", interrupted=True)

    def _lay_out(self) -> None:
        """Starts the helpers, which lay the snapshot on their nodes. SnapshotError."""
        try:
            self._helpers.start()
        except OSError as error:
            self._witness.problem(f"the helpers on other nodes cannot be started: {error.strerror}")
        if self._stop_told:
            self._helpers.stop()
        if self._setting.work is not None:
            try:
                working.make(self._setting, signals.stop_is_pending)
                if self._setting.work_is_shared or self._others_have_laid():
                    return
                self._witness.problem("not every other node has laid the snapshot")
            except HpcrunError as error:
                self._witness.problem(str(error))
            self._work_in_the_history()
        lay_out(self._setting.snapshot, self._setting.paths, signals.stop_is_pending)

    def _others_have_laid(self) -> bool:
        helpers, others = self._helpers, len(self._setting.nodes) - 1

        def answered() -> bool:
            ended = helpers.have_ended() or self._stopped_by is not None
            laid = [word for word in helpers.answers() if word in (keeper.LAID, keeper.NOT_LAID)]
            return len(laid) >= others or ended

        self._until(answered, LAYING, ASKING)
        return helpers.answers().count(keeper.LAID) == others or self._stopped_by is not None

    def _stage(self) -> Optional[End]:
        """Waits until all nodes have the run's data; gives the end, if one has not."""
        if not self._setting.data:
            return None
        reading, writing = os.pipe()
        try:
            child = process.start((*self._own_words, "stage"), "/", stdout=writing)
        except OSError as error:
            os.close(reading)
            return end.launch_failed(1, f"data cannot be staged: {error.strerror}")
        finally:
            os.close(writing)
        helpers, others = self._helpers, len(self._setting.nodes) - 1

        def is_over() -> bool:
            heard = len(staging.told(helpers.answers())) >= others or helpers.have_ended()
            return (child.has_ended() and heard) or self._stopped_by is not None

        self._until(is_over, None, ASKING)
        if self._stopped_by is not None:
            child.send(SIGKILL)
            self._until(child.has_ended, LAST_TRY, ASKING)
            os.close(reading)
            return End(None, int(self._stopped_by), "signal", interrupted=True)
        with open(reading, encoding="utf-8") as own:
            told = staging.told([*own.read().split("\n"), *helpers.answers()])
        for each in told:
            for data in each.facts:
                self._witness.tell("data", data, sync=False)
        problems = [each.problem for each in told if each.problem]
        if len(told) <= others and not problems:
            problems = [f"{others + 1 - len(told)} nodes told nothing of their data"]
        return end.without_data(problems) if problems else None

    def _work_in_the_history(self) -> None:
        """Where a node has no room, the job works in the run's own folder: it runs all the same."""
        files = self._setting.paths.files
        self._witness.problem(f"the job works in {files}, not in {self._setting.work}")
        self._setting = self._setting._replace(work=None)
        os.environ[WORK_VARIABLE] = files
        os.environ[OUTPUT_VARIABLE] = self._setting.paths.outputs
        os.environ["PYTHONPATH"] = ":".join(filter(None, (files, os.environ.get("PYTHONPATH"))))

    def _look(self) -> Optional[End]:
        """Tries the launcher before the command; gives the end, if that could not be launched."""
        if self._setting.preflight is None:
            return None
        from hpcrun.agent.preflight import trial

        trying = trial.begin(self._setting, self._words, self._own_words, self._witness)
        if trying is None:
            return None

        def is_over() -> bool:
            return trying.has_ended() or self._stopped_by is not None

        self._until(is_over, trial.PATIENCE, ASKING)
        trying.end()
        problems = trying.problems()
        if problems:
            self._ask_for_grace()
        if self._stopped_by is not None or self._end_of_grace is not None:
            return End(None, int(self._stopped_by or SIGTERM), "signal", interrupted=True)
        return end.not_launched(problems, self._last_words()) if problems else None

    def _launch(self) -> Optional[End]:
        """Starts the command; gives the end, in case that it cannot start.

        The command does not wait for the disk: what was told so far is synced once it runs.
        """
        earlier.mark_metric_files(self._setting, self._witness)
        path = earlier.checkpoint(self._setting, self._witness)
        if path is not None:
            os.environ[RESUME_VARIABLE] = path
        if not self._words:
            return end.launch_failed(NOT_FOUND, NO_COMMAND)
        self._witness.tell("running", {"command": list(self._words)}, sync=False)
        try:
            self.command = process.start(
                self._words, self._setting.folder, announce=self._keeper.pipe
            )
        except OSError as error:
            status = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
            return end.launch_failed(status, f"cannot start {self._words[0]}: {error.strerror}")
        self._keeper.announced(self.command.pid)
        self._witness.settle()
        self._limits.start(time.monotonic())
        return None

    # -- waiting ------------------------------------------------------------------------------

    def _wait_for_command(self) -> None:
        assert self.command is not None
        self._until(self.command.has_ended)
        self._limits.clear()
        self._ask_for_grace()
        self._clear_left_over()

    def _ask_for_grace(self) -> None:
        """Where Slurm has ended a step, the job may be one that it preempts."""
        if self._setting.scheduled and not self._told_to_stop:
            self._canceled = evidence.a_step_was_canceled(self._setting, self._log_size)
        if self._canceled:
            self._end_of_grace = preemption.end_of_grace(self._setting.job_id)

    def _until(
        self, done: Callable[[], bool], seconds: Optional[float] = None, asking: float = 3600.0
    ) -> bool:
        """Waits, heeding all that comes; tells whether it is done. asking: s between looks."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not done():
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            self._do_what_is_due(now)
            times = [self._next_beat, now + asking, *self._limits.times(), deadline, self._kill]
            self._heed(signals.wait(min(t for t in times if t is not None) - time.monotonic()))
        return True

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._next_beat:
            self._beats += 1
            self._next_beat = now + self._setting.heartbeat
            self._witness.tell("heartbeat", {"count": self._beats})
        due = self._limits.stop_due(now)
        if due is not None:
            self._request_stop(due)
        over = self._limits.end_due(now)
        if over is not None and not self._over:
            self._over = over
            self._end_command()
        if self._kill is not None and now >= self._kill:
            self._kill_all(now)

    def _kill_all(self, now: float) -> None:
        if self._srun_waits and self.command is not None:
            self._srun_waits = False
            self._kill = now + self._setting.kill_wait
            self.command.send(SIGTERM)
        else:
            self._kill = now + ASKING  # what was started meanwhile
            self._signal_all(SIGKILL)

    def _heed(self, number: Optional[int]) -> None:
        if number is None:
            return
        if number == SIGCHLD:
            self._mind_children()
            return
        self._told_to_stop = self._told_to_stop or number in signals.STOPPING
        running = self.command is None or not self.command.has_ended()
        if number in signals.STOPPING and running and self._stopped_by is None:
            self._stopped_by = number
            self._keeper.send("interrupted")
        self._witness.tell("signal", {"signal": int(number), "name": Signals(number).name})
        if number == signals.WARNING:
            self._request_stop(TIME_LIMIT)
        elif number in signals.STOPPING and running:
            self._stop_command(number)
            self._request_stop("interrupted")

    def _request_stop(self, why: str) -> None:
        """Tells the ranks of all nodes, once, that they should stop by themselves."""
        if why == TIME_LIMIT:
            self._limits.warn(time.monotonic())
        if not self._stop_told:
            self._stop_told = why
            self._keeper.send("stop")
            self._helpers.stop()
            self._witness.tell("stop_requested", {"why": why})

    def _stop_command(self, number: int) -> None:
        """Passes a signal on to the command, which passes it to its ranks.

        srun would kill its ranks at once (22.05 to 25.11: "forcing job termination"), which have
        had the signal from Slurm itself. Where Slurm runs the job, the KILL is left to it too: it
        knows the partition's grace time.
        """
        if self.command is None:
            return
        if not self._is_srun():
            self.command.send(number)
        if self._kill is None and not self._setting.scheduled:
            self._kill = time.monotonic() + self._setting.kill_wait

    def _is_srun(self) -> bool:
        return os.path.basename(self._words[0]) == "srun"

    def _end_command(self) -> None:
        """Ends it for a limit that the agent keeps: Slurm has told its ranks nothing.

        Under srun the keepers tell them; by a TERM of its own it kills them, on all nodes.
        """
        self._kill = time.monotonic() + self._setting.kill_wait
        if self._is_srun() and self._setting.spool is not None:
            self._srun_waits = True
            self._keeper.send("term")
            self._helpers.term()
        elif self.command is not None:
            self.command.send(SIGTERM)

    def _clear_left_over(self) -> None:
        """Ends what outlives the command, as Slurm does when a job has ended."""
        if self._stopped_by is not None or self._over:
            self._signal_all(SIGTERM)
            # Where nobody reaps, as in a container without init, the dead stay there for ever.
            limit = None if self._setting.scheduled else self._setting.kill_wait + LAST_TRY
            self._until(self._nothing_is_left, limit, ASKING)
        elif not self._setting.scheduled and not self._until(
            self._nothing_is_left, LEFT_OVER, ASKING
        ):
            self._kill = time.monotonic()
            self._until(self._nothing_is_left, LEFT_OVER, ASKING)
        self._kill = None

    def _nothing_is_left(self) -> bool:
        return not self._signal_all(0)

    def _signal_all(self, number: int) -> bool:
        group = self.command.pid if self.command is not None else None
        own = self._helpers.groups() | self._keeper.groups()
        return ranks.signal_all(self._setting, group, number, own)

    def _mind_children(self) -> None:
        failed = self._helpers.failed()
        if failed is not None:
            self._witness.problem(f"the helpers on other nodes ended with status {failed}")
        self._keeper.mind(self._setting)

    # -- ending -------------------------------------------------------------------------------

    def _end_of_command(self, command: Process) -> End:
        interrupted = self._stopped_by is not None or self._end_of_grace is not None
        ended = end.of_command(command, interrupted)
        if self._over and self._stopped_by is None:
            message = self._taken() if self._over == MAX_DURATION else ""
            return ended._replace(cause="time_limit", message=message)
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
        asks = requeue.may_ask(self._setting.requeue, ended, self._stop_told == TIME_LIMIT)
        self._witness.tell("finalizing", {"requeue": True} if asks else None)
        self._helpers.finish()
        self._let_files_come(self._helpers.have_ended)
        if not self._until(self._helpers.have_ended, self._setting.kill_wait):
            self._witness.problem("the helpers on other nodes did not end, and are killed")
            self._helpers.kill()
            self._until(self._helpers.have_ended, LAST_TRY)
        self._finish_keeper()
        if self._setting.scheduled:
            for data in evidence.memory_kills(self._setting, self._log_size):
                self._witness.tell("out_of_memory", data)

    def _let_files_come(self, ended: Callable[[], bool]) -> None:
        """Large files take their time, as long as nobody tells the job to stop."""
        if self._setting.work is not None or self._setting.stages_out:
            self._until(lambda: ended() or self._told_to_stop)

    def _finish_keeper(self) -> None:
        child = self._keeper.finish()
        if child is None:
            return
        self._let_files_come(child.has_ended)
        if self._told_to_stop:
            self._keeper.send("interrupted")
        if not self._until(child.has_ended, self._setting.kill_wait + LAST_TRY):
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
        self._until(lambda: child.has_ended() or self._told_to_stop)
        if not self._until(child.has_ended, self._setting.kill_wait):
            process.signal_group(child.pid, SIGKILL)
            self._until(child.has_ended)
        if child.shell_status:
            self._witness.problem(f"the teardown ended with status {child.shell_status}")

    def _wait_to_be_taken(self) -> None:
        """The end of a preempted job is left to Slurm, which requeues it then."""
        if self._end_of_grace is not None:
            left = self._end_of_grace + TAKEN_LATE - time.time()
            self._until(lambda: self._told_to_stop, left)

    def _as_slurm_knows(self, ended: End) -> End:
        """Where Slurm has told the ranks to stop before this process, it alone knows why."""
        by = _BY_SIGNAL if self._canceled or self._told_to_stop else _BY_SIGNAL[:1]
        mine = self._over or ended.message or ended.cause not in ("exit_code", "signal")
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
        if not self._until(self._witness.settle, LAST_TRY, 1.0):
            say(f"the end cannot be told: {self._witness.error}")

    def _last_words(self) -> List[str]:
        try:
            return evidence.last_words(self._setting, self._log_size)
        except OSError as error:
            return [f"the logs cannot be read: {error}"]
