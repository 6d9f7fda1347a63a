"""Facts, their lines on disk, and the record that is known of a run.

Pure: text in, values out; no input or output. Standard library only (Python 3.8+).

A fact is one thing that one writer saw. A journal is a file of facts with one writer, one fact
per line: eight hex digits of CRC-32, a space, a JSON object, a newline. A line that is torn, or
foreign (`hpcrun.kinds`), is skipped and counted.

`hpcrun.fold` joins facts into a RunRecord.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, List, Mapping, NamedTuple, Optional, Tuple

from hpcrun.forms import is_ordinal, is_time
from hpcrun.kinds import is_fact
from hpcrun.layout import Attempt
from hpcrun.state import Cause, State


class Fact(NamedTuple):
    """One thing that one writer saw.

    kind: what it is about (see the table in `hpcrun.kinds`).
    attempt: the life of the run it belongs to.
    time: Unix seconds by the writer's clock; shown to people, never used to decide.
    number: counts the facts of one writer, from 1.
    data: the rest, JSON values only.
    writer: the journal's name; filled in by the reader.
    """

    kind: str
    attempt: Attempt
    time: float
    number: int
    data: Mapping[str, Any]
    writer: str = ""


def encode(fact: Fact) -> bytes:
    """The fact as one line of a journal."""
    body = json.dumps(
        {
            "k": fact.kind,
            "a": list(fact.attempt),
            "t": round(fact.time, 3),
            "n": fact.number,
            **({"d": fact.data} if fact.data else {}),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode("utf-8", "surrogatepass")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def decode(line: bytes, writer: str = "") -> Optional[Fact]:
    """The fact in a line (without or with its newline); None if it is torn or foreign."""
    line = line.rstrip(b"\n")
    if len(line) < 10 or line[8:9] != b" ":
        return None
    body = line[9:]
    try:
        if int(line[:8], 16) != zlib.crc32(body):
            return None
        value = json.loads(body.decode("utf-8", "surrogatepass"))
        attempt = Attempt(*value["a"])
        fact = Fact(value["k"], attempt, value["t"], value["n"], value.get("d", {}), writer)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return fact if is_well_formed(fact) else None


def is_well_formed(fact: Fact) -> bool:
    """Whether a fact, whoever wrote it, holds what readers rely on (see `hpcrun.kinds`)."""
    whole = all(map(is_ordinal, fact.attempt)) and is_time(fact.time)
    return whole and type(fact.number) is int and is_fact(fact.kind, fact.data)


class Page(NamedTuple):
    """What was read from a piece of a journal: facts, bad lines, bytes up to the last newline."""

    facts: List[Fact]
    bad_lines: int
    consumed: int


def decode_page(data: bytes, writer: str = "") -> Page:
    """All facts in a piece of a journal that begins at a line; an unfinished last line waits."""
    consumed = data.rfind(b"\n") + 1
    facts: List[Fact] = []
    bad = 0
    for line in data[:consumed].split(b"\n")[:-1]:
        fact = decode(line, writer)
        if fact is not None:
            facts.append(fact)
        elif line:
            bad += 1
    return Page(facts, bad, consumed)


class Verdict(NamedTuple):
    """Why an attempt ended.

    sentence: for people. evidence: the words of those who saw it. rank: the rank that fell first.
    hint: what to change; empty where there is nothing, or nobody can tell.
    """

    cause: Cause
    sentence: str
    evidence: Tuple[str, ...] = ()
    exit_code: Optional[int] = None
    signal: Optional[int] = None
    rank: Optional[int] = None
    hint: str = ""


class RunFile(NamedTuple):
    """One file of a run: its name (outputs/model.pt), its size in bytes, its SHA-256 in hex where
    the record has it."""

    name: str
    size: int
    sha256: Optional[str] = None


class RankEnd(NamedTuple):
    """How one rank ended: its shell status (128 + n for signal n), its host, when by its clock."""

    rank: int
    status: int
    host: str
    time: float


class Numbers(NamedTuple):
    """What a metric came to: its last value, if that is a finite number; the least and the greatest
    of its finite numbers, of all ranks. None where there is none, and of a table."""

    last: Optional[float] = None
    min: Optional[float] = None
    max: Optional[float] = None


class Uncollected(NamedTuple):
    """Files of outputs/ and logs/ that wait on a node: how many, their bytes, in which folder.

    No files: how many there are is not known.
    """

    host: str
    files: int
    bytes: int
    where: str


class Imported(NamedTuple):
    """Where a run was taken in from: whose it was, in which workspace; when, Unix seconds.

    left_out: how many of its files did not come along. mirror: whether it is the copy of a run that
    lives there, as it was at that time.
    """

    user: str
    workspace: str
    time: float
    left_out: int = 0
    mirror: bool = False


class AttemptRecord(NamedTuple):
    """One life of a run, as far as it is known. Times are Unix seconds by the agent's clock."""

    attempt: Attempt
    state: State
    job_id: Optional[str] = None
    host: Optional[str] = None
    nodes: Tuple[str, ...] = ()
    submitted: Optional[float] = None
    started: Optional[float] = None
    ended: Optional[float] = None
    heartbeats: int = 0
    rank_ends: Tuple[RankEnd, ...] = ()
    reason: str = ""
    starts: Optional[float] = None
    verdict: Optional[Verdict] = None
    undrained: Tuple[str, ...] = ()
    """After its end: the nodes on whose disks records may still wait."""
    may_go_on: bool = False
    """While its files are collected: whether another attempt may follow."""
    uncollected: Tuple[Uncollected, ...] = ()
    """After its end: what is known to wait on these nodes."""
    data: Tuple[Mapping[str, Any], ...] = ()
    """The last word on each input and output, by node: what was brought there, or from there."""
    awaits_scheduler: bool = False
    """Whether only the scheduler knows why it ended (the agent was told to stop, or is gone), or
    whether it has: what was told to stop may be killed without a word."""


_NOTHING: Mapping[str, Any] = {}


class RunRecord(NamedTuple):
    """What is known of a run."""

    run_id: str
    experiment: str
    user: str
    target: str
    created: float
    state: State
    attempts: Tuple[AttemptRecord, ...]
    display_name: str = ""
    description: str = ""
    tags: Mapping[str, str] = _NOTHING
    properties: Mapping[str, str] = _NOTHING
    request: Mapping[str, Any] = _NOTHING
    children: Tuple[str, ...] = ()
    """The ids of its child runs, as they were made."""
    models: Tuple[str, ...] = ()
    """The models that were registered from it, as `<name>:<version>`."""
    archived: bool = False
    """Whether lists leave it out."""
    uploads: Tuple[RunFile, ...] = ()
    """What was uploaded, by name."""
    imported: Optional[Imported] = None
    """Where it was taken in from: it has ended, and nobody here can ask for its jobs or nodes."""
    problems: Tuple[str, ...] = ()
    lost_records: int = 0
    bad_lines: int = 0

    @property
    def parent(self) -> Optional[str]:
        """The id of the run whose child it is."""
        return self.request.get("parent")

    @property
    def is_private(self) -> bool:
        """Whether nobody else may see it."""
        return self.request.get("private") is True

    @property
    def command(self) -> List[str]:
        """The words of its command, without the launcher; none of an interactive run."""
        launch = self.request.get("launch")
        words = launch.get("command") if isinstance(launch, dict) else None
        return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []

    @property
    def attempt(self) -> AttemptRecord:
        """The newest attempt."""
        return self.attempts[-1]

    @property
    def verdict(self) -> Optional[Verdict]:
        """Why the newest attempt ended; None while it has not."""
        return self.attempt.verdict

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, and no word of the scheduler is waited for: a requeue may come."""
        return self.state.is_end and not self.attempt.awaits_scheduler

    @property
    def job_id(self) -> Optional[str]:
        """The scheduler's id of the newest attempt's job."""
        return self.attempt.job_id

    @property
    def started(self) -> Optional[float]:
        """When user code could first run."""
        return next((a.started for a in self.attempts if a.started is not None), None)

    @property
    def ended(self) -> Optional[float]:
        """When the newest attempt ended."""
        return self.attempt.ended

    def took(self, now: float) -> Optional[float]:
        """Seconds that its attempts ran, each by its own clock; None if none has begun.

        now: Unix seconds, for one that goes on. One whose end nobody tells counts until the next
        began.
        """
        begun = [(a.started, a.ended) for a in self.attempts if a.started is not None]
        untils = [*(started for started, _ in begun[1:]), now]
        lives = [(ended or until) - started for (started, ended), until in zip(begun, untils)]  # noqa: B905 - 3.8
        return sum(lives) if lives else None
