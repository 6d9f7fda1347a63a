"""One run for people: what it is, what happened, what to do next."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from hpcrun.cli.output import (
    COLORS,
    at_terminal,
    bad_lines_told,
    console,
    how_long,
    located,
    printable,
    say,
    size_of,
    when,
)
from hpcrun.layout import RunPaths
from hpcrun.metrics.images import images_of
from hpcrun.metrics.summary import Summary
from hpcrun.metrics.system import Use, use_of
from hpcrun.record import AttemptRecord, Fact, Imported, RunRecord
from hpcrun.workflow.files import files_on_disk
from hpcrun.workflow.session import Session


def print_run(session: Session, record: RunRecord, paths: RunPaths) -> None:
    """Prints a run."""
    for name, value in _lines(session, record, paths):
        value = printable(value)
        if not at_terminal():
            say(f"{name}\t{value}" if name else value)
        else:
            _print_colored(name, value, record)


def _print_colored(name: str, value: str, record: RunRecord) -> None:
    from rich.text import Text

    style = COLORS.get(str(record.state), "default") if name in ("status", "verdict") else ""
    console().print(Text(f"{name:>12}  ", style="bold") + Text(value, style=style), soft_wrap=True)


def _lines(session: Session, record: RunRecord, paths: RunPaths) -> Iterator[tuple[str, str]]:
    yield "run", record.run_id
    if record.display_name:
        yield "name", record.display_name
    for line in filter(str.strip, record.description.splitlines()):
        yield "description", line
    yield "experiment", record.experiment
    yield "status", str(record.state)
    yield from _why(session, record)
    yield "target", record.target
    yield "job", record.job_id or "-"
    yield "user", f"{record.user}, and nobody else sees it" if record.is_private else record.user
    if record.imported is not None:
        yield "mirror" if record.imported.mirror else "imported", _imported(record.imported)
    yield "created", when(record.created)
    if record.started is not None:
        first = next(attempt for attempt in record.attempts if attempt.started is not None)
        yield "started", f"{when(record.started)} on {first.host}"
        yield "took", how_long(record.took(time.time()))
    if len(record.attempts) > 1:
        for attempt in record.attempts:
            yield "attempt", _attempt(attempt)
    for key, value in sorted(record.tags.items()):
        yield "tag", f"{key}={value}"
    yield from _after(record)
    yield from _data(record)
    if record.parent is not None:
        yield "parent", record.parent
    for child in record.children:
        yield "child", child
    for model in record.models:
        yield "model", model
    if record.archived:
        yield "archived", "yes: lists leave it out"
    yield from _git(record)
    logged = session.store.summary(paths)
    yield from _metrics(logged)
    files = [*files_on_disk(paths), *images_of(logged.facts)]
    total = sum(file.size for file in files)
    yield "files", f"{len(files)} ({size_of(total)}) in {paths.files}"
    yield "record", located(paths)
    for attempt in record.attempts:
        if attempt.undrained:
            nodes = ", ".join(attempt.undrained)
            text = f"records may wait on {nodes}: hpcrun collect {record.run_id}"
            yield "problem", text
        for left in attempt.uncollected:
            told = f"{left.files} files ({size_of(left.bytes)})" if left.files else "files"
            yield "problem", f"{told} wait on {left.host} in {left.where}"
    for problem in record.problems:
        yield "problem", problem
    if record.lost_records:
        yield "problem", f"{record.lost_records} records were lost on a node's disk"
    if record.bad_lines + logged.bad_lines:
        yield "problem", bad_lines_told(record.bad_lines + logged.bad_lines)


def _data(record: RunRecord) -> Iterator[tuple[str, str]]:
    for each in (record.request.get("data") or {}).get("all", ()):
        name = "output" if each["output"] else "input"
        yield name, f"{each['name']}: {each['path']} ({each['mode']})"
        for told in record.attempt.data:
            if (told["name"], told.get("output", False)) == (each["name"], each["output"]):
                way = "from" if each["output"] else "to"
                took = f" in {how_long(told['seconds'])}" if "seconds" in told else ""
                part = "" if told.get("complete", True) else ", not all of it"
                came = f"{told['files']} files ({size_of(told['bytes'])})"
                yield "", f"{came} {way} {told['host']}{took}{part}"


def _why(session: Session, record: RunRecord) -> Iterator[tuple[str, str]]:
    attempt = record.attempt
    if attempt.reason:
        words = session.words_on(attempt.reason, record)
        yield (
            "waits",
            f"{attempt.reason}: {words.sentence}" + (f"; {words.hint}" if words.hint else ""),
        )
    if attempt.starts is not None:
        yield "may start", when(attempt.starts)
    if record.verdict is not None:
        yield "verdict", record.verdict.sentence
        for text in record.verdict.evidence:
            for line in text.splitlines():
                yield "evidence", line
        if record.verdict.rank is not None:
            yield "its log", f"hpcrun logs --rank {record.verdict.rank} {record.run_id}"
        if record.verdict.hint:
            yield "hint", record.verdict.hint


def _after(record: RunRecord) -> Iterator[tuple[str, str]]:
    told = record.request.get("after") or {"runs": ()}
    for run in told["runs"]:
        yield "after", f"{run['run_id']} ({told['condition']})"


def _imported(imported: Imported) -> str:
    left_out = f"; {imported.left_out} files were left out" if imported.left_out else ""
    whose = f"{imported.user}'s, from {imported.workspace}"
    if imported.mirror:
        return f"{whose}, as it was on {when(imported.time)}"
    return f"{whose}, on {when(imported.time)}{left_out}"


def _attempt(attempt: AttemptRecord) -> str:
    verdict = f": {attempt.verdict.sentence}" if attempt.verdict else ""
    return f"{attempt.attempt} {attempt.state}{verdict} (started {when(attempt.started)})"


def _git(record: RunRecord) -> Iterator[tuple[str, str]]:
    commit = record.properties.get("azureml.git.commit")
    if commit:
        branch = record.properties.get("azureml.git.branch", "")
        dirty = ", with changes" if record.properties.get("azureml.git.dirty") else ""
        yield "git", f"{commit[:12]} {branch}{dirty}"
    snapshot = record.properties.get("ContentSnapshotId")
    if snapshot:
        yield "snapshot", snapshot[:16]


def _metrics(logged: Summary) -> Iterator[tuple[str, str]]:
    for metric in logged.metrics:
        yield "metric", f"{metric.name} = {metric.last} ({metric.values} values)"
    yield from _followed(logged.facts)
    yield from _use(use_of(logged.facts))


def _followed(facts: Sequence[Fact]) -> Iterator[tuple[str, str]]:
    """The metric files that were followed, and what in them is no metric."""
    points: Counter[str] = Counter()
    skipped: dict[str, Counter[str]] = {}
    for fact in facts:
        if fact.kind == "followed":
            points[fact.data["file"]] += fact.data["points"]
            skipped.setdefault(fact.data["file"], Counter()).update(fact.data.get("skipped", {}))
    for file in sorted(points):
        kinds = [f"{count} × {kind}" for kind, count in sorted(skipped[file].items())]
        rest = f"; passed over: {', '.join(kinds)}" if kinds else ""
        yield "metric file", f"{file}: {points[file]} values{rest}"


def _use(use: Use) -> Iterator[tuple[str, str]]:
    if use.idle is not None:
        yield "GPUs", f"{_of_gpus(use.gpus)} idle {use.idle:.0f} % of the time"
    if use.cpu is not None:
        yield "CPUs", f"{use.cpu:.0f} % of {use.cpus} busy on average"
    if use.memory is not None:
        limit = f" of {size_of(use.memory_limit)}" if use.memory_limit is not None else ""
        yield "memory", f"{size_of(use.memory)}{limit} at most on one node"


def _of_gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
