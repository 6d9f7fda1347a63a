"""diff: what differs between two runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import at_terminal, console, print_json, print_table, printable, say, when
from hpcrun.errors import StoreError
from hpcrun.snapshot.difference import FileChange
from hpcrun.workflow.code import code_of, digest_of
from hpcrun.workflow.difference import ComparedRun, Difference, MetricChange, difference
from hpcrun.workflow.session import Session, open_session


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--stat", is_flag=True, help="Of the code only how many lines changed.")
@click.option(
    "--lines", default=200, show_default=True, help="Lines of the code's diff; 0 for all."
)
@json_option
@click.pass_obj
def diff(workspace: str | None, a: str, b: str, stat: bool, lines: int, as_json: bool) -> None:
    """Print what differs between run A and run B, and what came of it.

    Metrics, arguments, resolved values, environment, git, and the code, line by line.
    """
    session = open_session(given=workspace)
    found = difference(_run(session, a), _run(session, b))
    shown = 0 if stat else lines or None
    if as_json:
        print_json(_object(found, shown))
    else:
        _print(found, shown, stat)


def _run(session: Session, named: str) -> ComparedRun:
    user, run_id = session.store.find(named)
    record = session.record(run_id, user)
    metrics = session.store.metrics(session.store.paths(run_id, user))
    try:
        code = code_of(session.workspace, record) if digest_of(record) else None
    except StoreError as error:
        say(f"hpcrun: {error}", err=True)
        code = None
    return ComparedRun(record, metrics, code)


def _object(found: Difference, shown: int | None) -> dict[str, Any]:
    a, b = found.a, found.b
    files = found.files
    return {
        "a": a.record.run_id,
        "b": b.record.run_id,
        "metrics": [
            {
                "name": change.name,
                "a": None if change.a is None else change.a.last,
                "b": None if change.b is None else change.b.last,
                "difference": change.difference,
            }
            for change in found.metrics
        ],
        "command": None if a.command == b.command else {"a": a.command, "b": b.command},
        "values": [change._asdict() for change in found.values],
        "code": {"a": digest_of(a.record), "b": digest_of(b.record)},
        "files": None if files is None else [_file(change) for change in files],
        "diff": None if files is None else "".join(f"{x}\n" for x in islice(_lines(files), shown)),
    }


def _file(change: FileChange) -> dict[str, Any]:
    return {
        "path": change.path,
        "change": change.change,
        "added": change.added,
        "removed": change.removed,
    }


def _print(found: Difference, shown: int | None, stat: bool) -> None:
    for side, run in (("A", found.a), ("B", found.b)):
        record = run.record
        say(f"{side}\t{record.run_id}\t{record.state}\t{when(record.created)}")
    if found.metrics:
        say()
        rows = [_metric(change) for change in found.metrics]
        print_table(("metric", "A", "B", "B − A"), rows)
    if found.same_metrics == 1:
        say("1 metric has the same last value")
    elif found.same_metrics:
        say(f"{found.same_metrics} metrics have the same last value")
    if found.a.command != found.b.command:
        say("\ncommand")
        a, b = (list(_groups(run.command)) for run in (found.a, found.b))
        _print_changes([line for line in difflib.ndiff(a, b) if not line.startswith("?")])
    for section in dict.fromkeys(change.section for change in found.values):
        say()
        rows = [(c.name, c.a or "-", c.b or "-") for c in found.values if c.section == section]
        print_table((section, "A", "B"), rows)
    say()
    _print_code(found, shown, stat)


def _metric(change: MetricChange) -> tuple[str, ...]:
    texts = ["-" if summary is None else summary.text for summary in (change.a, change.b)]
    by = change.difference
    return change.name, *texts, "" if by is None else f"{by:+.6g}"


def _groups(words: Sequence[str]) -> Iterator[str]:
    """Each option with its values, so that they are compared together."""
    group: list[str] = []
    for word in words:
        if word.startswith("--") and group:
            yield " ".join(group)
            group = []
        group.append(word)
    if group:
        yield " ".join(group)


def _print_code(found: Difference, shown: int | None, stat: bool) -> None:
    files = found.files
    if files is None:
        without = [r.record.run_id for r in (found.a, found.b) if r.code is None]
        say(f"code: not compared, without a snapshot: {', '.join(without)}")
        return
    if not files:
        say("code: the same")
        return
    rows = [(c.path, c.change, _count(c.added), _count(c.removed)) for c in files]
    print_table(("code", "change", "added", "removed"), rows)
    if stat:
        return
    say()
    _print_changes(list(islice(_lines(files), shown)))
    left = 0 if shown is None else sum(1 for _ in islice(_lines(files), shown, None))
    if left:
        say(f"{left} more lines: --lines 0 prints all", err=True)


def _count(lines: int | None) -> str:
    return "?" if lines is None else str(lines)


def _lines(files: Sequence[FileChange]) -> Iterator[str]:
    """The lines of all files' diffs."""
    told = chain.from_iterable(change.lines for change in files)
    return chain.from_iterable(line.split("\n") for line in told)


_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def _print_changes(lines: Sequence[str]) -> None:
    if not at_terminal():
        for line in lines:
            say(line)
        return
    from rich.text import Text

    screen = console()
    for line in lines:
        style = "bold" if line.startswith(("+++", "---")) else _STYLES.get(line[:1], "")
        screen.print(Text(printable(line, kept="\t"), style=style), soft_wrap=True)
