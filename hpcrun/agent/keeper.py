"""The keeper: brings a node's spool to the record, and outlives the agent. (Python 3.8+)

On the first node it is a fork of the agent, which talks to it through a pipe. On every other node
it is a task of its own (`node`), which Slurm also tells to stop. It hears a word a line:

    begin           somebody talks to me: from now on an end of the pipe means that he is gone
    command PID     the command was started
    interrupted     the job was told to stop
    stop            the ranks should stop by themselves
    term            they are to be sent a TERM
    finish          everything has ended: bring the rest and go
"""

from __future__ import annotations

import os
import select
import time
from signal import SIGKILL, SIGTERM
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Set, Tuple

from hpcrun.agent import beside, memory, ranks, signals, spool, staged, staging, working
from hpcrun.agent.bringing import Bringing
from hpcrun.agent.measuring import Measuring
from hpcrun.agent.outgoing import Node, Outgoing
from hpcrun.agent.process import Process
from hpcrun.agent.setting import Setting
from hpcrun.agent.spool import Mirror
from hpcrun.agent.stop import Stop
from hpcrun.agent.witness import Witness, say
from hpcrun.errors import HpcrunError, StoreError
from hpcrun.journal import Journal
from hpcrun.layout import METRICS_SUFFIX

PAUSE = 1.0
"""Seconds between two looks at the spool."""

SYNC_PAUSE = 2.0
"""Seconds between two syncs of what was brought."""

LAST_PAUSE = 0.1
"""Seconds between two looks once everything has ended."""

BACK_OFF = 30.0
"""Seconds between two attempts, at most, while the record cannot be written."""

HERE = "here"
"""A node's answer: its keeper listens, to Slurm too."""

LAID, NOT_LAID = "laid", "not laid"
"""A node's answer: whether the job can work there."""

_NOTHING: Mapping[str, int] = {}


def start(setting: Setting) -> Tuple[Process, int]:
    """Forks the agent's keeper; gives it, and the pipe it listens to."""
    listening, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_keeper(setting, listening)
    os.close(listening)
    return Process(pid), telling


def keep_node(setting: Setting, own_words: Sequence[str]) -> int:
    """Keeps another node's spool, until its agent or Slurm tells it to stop; its exit status.

    own_words: those that start the agent.
    """
    signals.listen()
    _answer(HERE)
    if setting.umask is not None:
        os.umask(setting.umask)
    problems, old = [], _NOTHING
    if setting.spool is not None:
        try:
            spool.prepare(setting.spool)
        except StoreError as error:
            problems.append(str(error))
            setting = setting._replace(spool=None)
    if setting.work_is_shared:
        setting = setting._replace(work=None)
    elif setting.work is not None:
        try:
            old = working.make(setting, signals.stop_is_pending)
            _answer(LAID)
        except HpcrunError as error:
            problems.append(f"the job cannot work on {setting.host}: {error}")
            setting = setting._replace(work=None)
            _answer(NOT_LAID)
    words = Words(0)
    if setting.data:

        def is_over() -> bool:
            words.wait(LAST_PAUSE)
            return words.are_over or signals.stop_is_pending()

        _answer(*staging.bring(setting, own_words, is_over))
    keeper = Keeper(setting, words, bound=False, old=old)
    for problem in problems:
        keeper.tell("problem", message=problem)
    return 0 if keeper.keep() else 1


def _answer(*lines: str) -> None:
    """Tells the agent, through the launcher's standard output."""
    rest = "".join(f"{line}\n" for line in lines).encode()
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except OSError:
        pass  # nobody waits for it


def _be_keeper(setting: Setting, listening: int) -> NoReturn:
    """The fork's part. It holds nothing open that others wait for the end of."""
    status = 1
    try:
        os.setsid()
        signals.ignore()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(listening, 3)
        _close_from(4)
        status = 0 if Keeper(setting, Words(3), bound=True).keep() else 1
    except Exception:  # noqa: BLE001 - the top of a process
        import traceback

        say(f"the keeper failed\n{traceback.format_exc()}")
    finally:
        os._exit(status)


def _close_from(first: int) -> None:
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor >= first:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the one that listed them


class Words:
    """What is heard on a pipe."""

    def __init__(self, descriptor: int) -> None:
        self.command: Optional[int] = None
        self.ended = False
        self._descriptor = descriptor
        self._heard: Set[str] = set()
        self._rest = b""

    def __contains__(self, word: str) -> bool:
        return word in self._heard

    @property
    def are_over(self) -> bool:
        """Whether the one who talks has come to the end."""
        return "finish" in self or (self.ended and "begin" in self)

    def wait(self, seconds: float) -> None:
        """Listens until something was said, at most so long."""
        if self.ended:
            time.sleep(seconds)
        elif select.select([self._descriptor], (), (), seconds)[0]:
            said = os.read(self._descriptor, 4096)
            self.ended = not said
            *lines, self._rest = (self._rest + said).split(b"\n")
            for line in lines:
                self._hear(line.decode("ascii", "replace"))

    def _hear(self, line: str) -> None:
        word, _, number = line.partition(" ")
        self._heard.add(word)
        if word == "command":
            self.command = int(number)


class Keeper:
    """Keeps the spool of one node. bound: it belongs to an agent on this node. old: see `Place`."""

    def __init__(
        self, setting: Setting, words: Words, bound: bool, old: Mapping[str, int] = _NOTHING
    ) -> None:
        self._setting = setting
        self._words = words
        self._bound = bound
        writer = f"node-{setting.host}-{setting.attempt}"
        self._witness = Witness(Journal(setting.paths.journal(writer), setting.attempt))
        self._mirror = Mirror(setting.spool, setting.paths.record) if setting.spool else None
        self._exits = ranks.Exits(setting.spool) if setting.spool else None
        self._stop = Stop(setting.spool, setting.stop_signal)
        self._kills = memory.MemoryKills(memory.job_group(), setting.host)
        metrics = os.path.join(setting.paths.record, writer + METRICS_SUFFIX)
        journal = Journal(metrics, setting.attempt)
        self._measuring = Measuring(setting, journal, bound, self._tell_problem)
        self._bringing = Bringing(setting, old, self._witness.tell)
        node = Node(setting.run_id, str(setting.attempt), setting.host, setting.is_first)
        others = setting.nodes[1:] if node.first else ()
        self._outgoing = Outgoing(
            setting.data, setting.data_folder, node, others, self._witness.tell
        )
        self._told_problem = self._termed = False
        self._pause = PAUSE
        self._next_try = self._next_sync = 0.0

    def keep(self) -> bool:
        """Runs until all has ended; tells whether the record holds everything."""
        told = self._setting
        if told.scheduled and told.spool is not None:
            staged.begin_sweep(os.path.dirname(told.spool), told.staged)
        while not self._is_over():
            self._words.wait(PAUSE)
            self.look()
        lost = self._bound and "finish" not in self._words
        if lost:
            self._agent_lost()
        # The agent does it on its own node, as long as there is one.
        removal = staged.begin_removal(told) if lost or not self._bound else None
        done = self._finish()
        staged.end(removal)
        return done

    def look(self) -> None:
        """Takes note of what has ended, and brings what is new."""
        now = time.monotonic()
        self._pass_stop()
        self._take_note()
        sync = now >= self._next_sync
        if sync:
            self._next_sync = now + SYNC_PAUSE
            self._witness.settle()
        if self._mirror is not None and now >= self._next_try:
            self._mirror.advance()
            if sync and self._mirror.error is None:
                self._mirror.sync()
            self._mind(self._mirror.error, now)
        # Only then is what stands in metric files told apart from what an earlier attempt left.
        if self._words.command is not None or not self._bound:
            self._bringing.look(self._is_interrupted())
            self._measuring.look(now)
        if sync:
            self._measuring.sync()

    def _pass_stop(self) -> None:
        if "term" in self._words and not self._termed:
            self._termed = True
            ranks.signal_all(self._setting, None, SIGTERM)
        if "stop" in self._words:
            try:
                self._stop.tell()
            except OSError:
                pass  # the spool's disk fails; the next look may do better
            self._outgoing.stop_is_near()

    def tell(self, kind: str, **data: object) -> None:
        """Tells a fact at once."""
        self._witness.tell(kind, data)

    def _tell_problem(self, message: str) -> None:
        self.tell("problem", message=message)

    def _take_note(self) -> None:
        for data in self._new_exits():
            self._witness.tell("rank_ended", data, sync=False)
            if ranks.MEMORY in data:
                self._witness.tell("out_of_memory", memory.of_rank(data["rank"], data["host"]))
        for data in self._kills.new():
            if data["step"] not in beside.steps(self._setting.spool):
                self._witness.tell("out_of_memory", data)

    def _new_exits(self) -> List[Dict[str, Any]]:
        try:
            return self._exits.new() if self._exits is not None else []
        except OSError:
            return []  # the spool's disk fails; the next look may do better

    def _mind(self, error: Optional[OSError], now: float) -> None:
        """A record that cannot be written is tried again, ever more rarely."""
        if error is None:
            self._pause = PAUSE
            return
        self._next_try = now + self._pause
        self._pause = min(self._pause * 2, BACK_OFF)
        if not self._told_problem:
            self._told_problem = True
            self.tell("problem", message=f"records wait on {self._setting.host}: {error}")

    def _is_over(self) -> bool:
        if self._words.are_over or (self._bound and self._words.ended):
            return True
        # Slurm's TERM reaches this task and the ranks at the same moment: they may still write.
        told = not self._bound and signals.stop_is_pending()
        return told and not ranks.groups(self._setting.spool)

    def _is_interrupted(self) -> bool:
        return "interrupted" in self._words or (not self._bound and signals.stop_is_pending())

    def _agent_lost(self) -> None:
        """Nobody leads the command any more. Where there is no scheduler, it is ended here."""
        if self._setting.scheduled:
            # The job ends with the agent; what the history must know is written first.
            self.look()
            self._tell_end()
            while self._command_is_there(0):
                self._words.wait(PAUSE)
                self.look()
            return
        deadline = time.monotonic() + self._setting.kill_wait
        there = self._command_is_there(SIGTERM)
        while there and time.monotonic() < deadline:
            self._words.wait(LAST_PAUSE)
            self.look()
            there = self._command_is_there(0)
        self._command_is_there(SIGKILL)
        self.look()
        self._tell_end()

    def _command_is_there(self, number: int) -> bool:
        return ranks.signal_all(self._setting, self._words.command, number)

    def _tell_end(self) -> None:
        self.tell(
            "ended",
            exit_code=None,
            signal=int(SIGKILL),
            cause="agent_lost",
            # Slurm may have killed it with the job, or a node that goes down: it knows why.
            interrupted=self._setting.scheduled or "interrupted" in self._words,
            evidence=[f"the agent on {self._setting.host} ended without a word"],
        )

    def _finish(self) -> bool:
        """Brings the rest; what cannot be brought in time is told as lost, and stays.

        Files may take long: that is no reason to stop while they come, unless the job must end.
        """
        deadline = time.monotonic() + self._setting.kill_wait
        while not self._is_drained():
            now = time.monotonic()
            comes = self._outgoing.progress or self._bringing.progress
            if comes and not self._is_interrupted():
                deadline = now + self._setting.kill_wait
            if now >= deadline:
                self._bringing.tell_waiting()
                self._outgoing.tell_waiting()
                self._measuring.tell_rest()
                self._tell_loss()
                self._remove_empty()
                return False
            self._words.wait(0 if self._bringing.progress else LAST_PAUSE)
        if self._outgoing.close() & self._bringing.close():
            self.tell("drained", host=self._setting.host)
        if self._setting.spool is not None:
            self._remove(self._setting.spool)
        return self._witness.settle()

    def _is_drained(self) -> bool:
        """Records come first, then files, and then the metrics that stand in them."""
        self._take_note()
        records = self._mirror is None or self._is_mirrored(self._mirror)
        files = self._has_files() & self._outgoing.finish()
        return files and self._measuring.finish() and self._witness.settle() and records

    def _is_mirrored(self, mirror: Mirror) -> bool:
        mirror.advance()
        if mirror.error is None:
            mirror.sync()
        return mirror.error is None and mirror.missing() == 0

    def _has_files(self) -> bool:
        if self._is_interrupted():
            self._bringing.look(interrupted=True)
        return self._bringing.finish(PAUSE)

    def _tell_loss(self) -> None:
        count = self._mirror.missing() if self._mirror is not None else 0
        where = f"{self._setting.host}:{self._setting.spool}"
        if count:
            self.tell("loss", count=count, where=where)
            say(f"{count} records stay in {where}: {self._error()}")

    def _remove_empty(self) -> None:
        """Nothing waits in it, whatever could not be told."""
        try:
            os.rmdir(self._setting.spool or "")
        except OSError:
            pass  # what it holds may yet be collected

    def _error(self) -> Optional[OSError]:
        mirrored = self._mirror.error if self._mirror is not None else None
        return mirrored or self._witness.error

    def _remove(self, path: str) -> None:
        try:
            spool.remove(path)
        except OSError as error:
            self.tell("problem", message=f"cannot remove the spool {path}: {error.strerror}")
