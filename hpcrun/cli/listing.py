"""list: many runs, filtered, sorted, in columns."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime

import click

from hpcrun.cli.columns import (
    METRICS,
    SHOWN,
    Column,
    label_of,
    metric_column,
    parse_column,
    parse_columns,
    parse_order,
)
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, run_object, say
from hpcrun.errors import ConfigError, Problem, StoreError
from hpcrun.reading import nearest
from hpcrun.record import RunRecord
from hpcrun.store.rows import Row
from hpcrun.store.wanted import TYPES, Key, Wanted, state_of
from hpcrun.workflow.due import seal_later
from hpcrun.workflow.listing import EVERYBODY, list_rows
from hpcrun.workflow.refresh import CUT, NOT_REFRESHED
from hpcrun.workflow.session import Session, open_session


@click.command("list")
@click.option(
    "-n",
    "--last",
    type=click.IntRange(0, 1_000_000_000),
    default=20,
    show_default=True,
    help="How many; 0 for all.",
)
@click.option("-e", "--experiment", help="Only runs of this experiment.")
@click.option("-s", "--status", help="Only runs of this status.")
@click.option("-u", "--user", help="Another user's runs; all: everybody's.")
@click.option(
    "--type", "kind", type=click.Choice(TYPES), help="Only submitted or interactive runs."
)
@click.option("--tag", "tags", multiple=True, metavar="K[=V]", help="Only runs with this tag.")
@click.option(
    "--property", "properties", multiple=True, metavar="K[=V]", help="Only runs with this property."
)
@click.option("--since", metavar="WHEN", help="Made at 2026-11-01T10:00 or later, or 2d, 12h ago.")
@click.option("--until", metavar="WHEN", help="Made before that.")
@click.option("--children", is_flag=True, help="Child runs as well.")
@click.option("--archived", is_flag=True, help="Archived runs as well.")
@click.option(
    "--sort",
    metavar="KEY",
    help="created, started, ended, took, experiment, target, status, verdict, or "
    "metrics.NAME[:last|:min|:max]; -KEY: greatest first. Default: newest first.",
)
@click.option(
    "--columns",
    metavar="A,B,…",
    help="What to show: run, status, tags.NAME, metrics.NAME[:last|:min|:max] …",
)
@json_option
@click.pass_obj
def list_runs(
    workspace: str | None,
    last: int,
    experiment: str | None,
    status: str | None,
    user: str | None,
    kind: str | None,
    tags: tuple[str, ...],
    properties: tuple[str, ...],
    since: str | None,
    until: str | None,
    children: bool,
    archived: bool,
    sort: str | None,
    columns: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    order = parse_order(sort) if sort else None
    metric = order.key if order and order.key.of else None
    chosen = parse_columns(columns) if columns is not None else None
    now = time.time()
    wanted = Wanted(
        experiment=experiment,
        status=state_of(status),
        type=kind,
        tags=_pairs(tags),
        properties=_pairs(properties),
        since=moment(since, now) if since is not None else -math.inf,
        until=moment(until, now) if until is not None else math.inf,
        children=children,
        view="All" if archived else "ActiveOnly",
    )
    session = open_session(given=workspace)
    numbers = any(column.name.startswith(METRICS) for column in chosen or ())
    rows = list_rows(session, last or None, wanted, user, order, numbers, _tell)
    _tell_what_is_old([row.record for row in rows])
    _tell_what_was_cut([row.record for row in rows])
    if metric is not None:
        _tell_what_none_has(rows, metric)
    seal_later(session)
    if as_json and chosen is not None:
        print_json([{c.name: c.told(c.value(row)) for c in chosen} for row in rows])
    elif as_json:
        print_json([_object(session, row, metric) for row in rows])
    elif not rows:
        say(_why_none(session, user), err=True)
    else:
        _print(chosen or _shown(rows, user, metric), rows)


def _why_none(session: Session, user: str | None) -> str:
    if user in (None, EVERYBODY):
        return f"no runs in {session.workspace}"
    known = session.store.users()
    if user in known:
        return f"no runs of {user} in {session.workspace}"
    return str(
        Problem(f"nobody called {user!r} has runs in {session.workspace}", nearest(user, known))
    )


def _print(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    names = [column.name for column in columns]
    cells = [[column.text(column.value(row)) for column in columns] for row in rows]
    print_table(names, cells, names.index("status") if "status" in names else None)


def _shown(rows: Sequence[Row], user: str | None, metric: Key | None) -> list[Column]:
    """What is shown where no columns are asked for."""
    columns = [parse_column(name) for name in SHOWN]
    if any(row.record.imported for row in rows):
        columns.append(parse_column("from"))
    if user == EVERYBODY:
        columns.insert(1, parse_column("user"))
    if metric is not None:
        columns.insert(1, metric_column(label_of(metric), metric))
    return columns


def _pairs(told: Sequence[str]) -> dict[str, str | None]:
    """Names with their values; None: any. ConfigError."""
    found: dict[str, str | None] = {}
    for text in told:
        name, equals, value = text.partition("=")
        if name in found:
            raise ConfigError(Problem(f"{name!r} is asked for twice", "a run has it once"))
        found[name] = value if equals else None
    return found


def moment(text: str, now: float) -> float:
    """Unix seconds of a time, in this machine's zone if it tells none, or of so long ago."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        pass
    from hpcrun.config.quantities import parse_time

    try:
        if text[-1:].isalpha():  # a bare number would be minutes
            return now - parse_time(text).total_seconds()
    except ValueError:
        pass
    hint = "write 2d, 12h, 2026-11-01 or 2026-11-01T10:00"
    raise ConfigError(Problem(f"{text!r} is no time", hint))


def _tell(error: StoreError) -> None:
    """A run that cannot be read hides no other one."""
    say(f"hpcrun: {error}", err=True)


def _tell_what_none_has(rows: Sequence[Row], metric: Key) -> None:
    """Those that have the number stand first."""
    if rows and getattr(rows[0].metrics.get(metric.name), metric.of, None) is None:
        known = sorted({name for row in rows for name in row.metrics})
        hint = nearest(metric.name, known) if known else ""
        say(f"hpcrun: none of these runs has a number {label_of(metric)!r}", err=True)
        if hint and metric.name not in known:
            say(f"hpcrun: {hint}", err=True)


def _tell_what_is_old(records: Sequence[RunRecord]) -> None:
    """Says on standard error why states may be old, each reason once."""
    problems = {problem for record in records for problem in record.problems}
    for problem in sorted(p for p in problems if p.startswith(NOT_REFRESHED)):
        say(f"hpcrun: states may be old, {problem}", err=True)


def _tell_what_was_cut(records: Sequence[RunRecord]) -> None:
    """Says on standard error what has just been found out about submissions that were cut."""
    for record in records:
        for problem in record.problems:
            if problem.startswith(CUT):
                say(f"hpcrun: run {record.run_id}: {problem}", err=True)


def _object(session: Session, row: Row, metric: Key | None) -> dict[str, object]:
    record = row.record
    paths = session.store.paths(record.run_id, record.user)
    stored = session.store.stored(paths)
    where = str(stored.sealed_path(row.number)) if row.number >= 0 else None
    value = run_object(record, paths, where)
    if metric is None:
        return value
    number = metric_column("", metric).value(row)
    return {**value, "metrics": {label_of(metric): number}}
