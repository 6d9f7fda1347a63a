"""logs: a run's output, by byte offset; nothing is read twice."""

from __future__ import annotations

import codecs
import sys
import time
from itertools import islice
from typing import NamedTuple

import click

from hpcrun.cli import served
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, run_object, say
from hpcrun.cli.runs import exit_code, tell_end, tell_goes_on
from hpcrun.errors import StoreError
from hpcrun.layout import Attempt, RunPaths
from hpcrun.record import RunRecord
from hpcrun.workflow.logs import Follower, Source, Tail, batch_source, log_source, rank_logs
from hpcrun.workflow.mirrored import expect_here
from hpcrun.workflow.session import Session, open_session

LOOK = 1.0
"""Seconds between two looks at a followed log."""

ANSWER = 64
"""Chunks of 1 MiB that --json gives at most."""


class Followed(NamedTuple):
    """What of a run's output is meant. attempt: the first one; None: the newest."""

    rank: int = 0
    batch: bool = False
    attempt: Attempt | None = None
    offset: int = 0


def _attempt(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> Attempt | None:
    try:
        return None if value is None else Attempt.parse(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is none, such as 1.0") from None


@click.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--rank", default=0, show_default=True, help="Whose output.")
@click.option("--batch", is_flag=True, help="The batch-level output (Slurm's own file).")
@click.option("--attempt", metavar="N.N", callback=_attempt, help="Of an earlier attempt on.")
@click.option("--offset", default=0, type=click.IntRange(min=0), help="Begin at this byte.")
@json_option
@click.pass_obj
def logs(
    workspace: str | None,
    run: str,
    follow: bool,
    rank: int,
    batch: bool,
    attempt: Attempt | None,
    offset: int,
    as_json: bool,
) -> int:
    """Print a run's output, or follow it. Ctrl-C leaves the run alive."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    paths = session.store.paths(run_id, user)
    wanted = Followed(rank, batch, attempt, offset)
    if follow:
        return follow_to_end(session, run_id, as_json, wanted, user)
    record = session.store.read(run_id, user)
    source = find_source(paths, attempt or record.attempt.attempt, rank, batch)
    if source is None:
        raise _no_output(paths, record, None if batch else rank)
    tail = Tail(source, offset)
    if not as_json:
        for chunk in tail.read():
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = "".join(map(decoder.decode, islice(tail.read(), ANSWER)))
    unfinished = len(decoder.getstate()[0])
    print_json(
        {
            "run_id": run_id,
            "file": source.path.relative_to(paths.files).as_posix(),
            "offset": offset,
            "next_offset": tail.offset - unfinished,
            "text": text,
        }
    )
    return 0


def follow_to_end(
    session: Session,
    run_id: str,
    as_json: bool = False,
    wanted: Followed | None = None,
    user: str | None = None,
) -> int:
    """Writes a log until the run has ended; gives the exit code of `wait`."""
    paths = session.store.paths(run_id, user)
    try:
        record = _follow(session, paths, wanted or Followed(), as_json)
    except KeyboardInterrupt:
        return tell_goes_on(run_id)
    if as_json:
        print_json(run_object(record, paths))
        return exit_code(record)
    return tell_end(record)


def _follow(session: Session, paths: RunPaths, wanted: Followed, as_json: bool) -> RunRecord:
    def find(attempt: Attempt, ended: bool) -> Source | None:
        return find_source(paths, attempt, wanted.rank, wanted.batch, ended)

    follower, said = Follower(find, wanted.attempt, wanted.offset), ""
    out = (sys.stderr if as_json else sys.stdout).buffer
    while True:
        record = session.record(paths.run_id, paths.owner.user)
        for _, chunk in follower.read(record):
            out.write(chunk)
            out.flush()
            _tell_place(paths, wanted, follower, as_json)
        if session.is_over(record):
            return record
        expect_here(record, "logs", "--follow")
        if follower.shown != record.attempt.attempt:
            said = _say_state(record, said)
            _tell_place(paths, wanted, follower, as_json)
        time.sleep(LOOK)


def _tell_place(paths: RunPaths, wanted: Followed, follower: Follower, as_json: bool) -> None:
    """Tells how to go on from here, should this be shown on another machine."""
    words = ["logs", "--follow", f"{paths.owner.user}/{paths.run_id}"]
    words += ["--rank", str(wanted.rank), "--offset", str(follower.offset)]
    words += ["--attempt", str(follower.shown or follower.first)]
    words += ["--batch"] * wanted.batch + ["--json"] * as_json
    served.goes_on(words, 2 if as_json else 1)


def _say_state(record: RunRecord, said: str) -> str:
    """Tells a waiting person each change of state, once."""
    state = f"{record.state} {record.attempt.reason}".strip()
    if state != said:
        say(f"hpcrun: {state}", err=True)
    return state


def find_source(
    paths: RunPaths, attempt: Attempt, rank: int, batch: bool, ended: bool = True
) -> Source | None:
    """The log that is meant. Once a run has ended without rank 0's, the batch output instead."""
    if batch:
        return batch_source(paths, attempt)
    source = log_source(paths, attempt, rank)
    if source is None and rank == 0 and ended:
        return batch_source(paths, attempt)
    return source


def _no_output(paths: RunPaths, record: RunRecord, rank: int | None) -> StoreError:
    run_id, known = record.run_id, rank_logs(paths, record.attempt.attempt)
    if known and rank is not None:
        return StoreError(
            f"run {run_id} has no log of rank {rank}", f"there are {', '.join(known)}"
        )
    mirror = record.imported
    if mirror is not None and mirror.mirror and record.started is not None:
        message = f"the output of run {run_id} has not come here from {mirror.workspace}"
        return StoreError(message, f"hpcrun sync {mirror.workspace} {run_id}")
    if not record.state.is_end:
        return StoreError(f"run {run_id} has no output yet", "-f waits for it")
    why = "it never started" if record.started is None else "its logs were removed"
    return StoreError(f"run {run_id} has no output: {why}", f"hpcrun show {run_id}")
