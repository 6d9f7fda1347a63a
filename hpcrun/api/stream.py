"""Writing a run's output while it runs, with Azure ML's headings."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from hpcrun.layout import Attempt
from hpcrun.record import RunRecord
from hpcrun.workflow.logs import Tail, batch_source, log_source

if TYPE_CHECKING:
    from hpcrun.api.run import Run


def stream(run: Run, out: TextIO, records: Iterable[RunRecord]) -> RunRecord:
    """Writes rank 0's log as it grows, until the run has ended; gives the last record."""
    out.write(f"RunId: {run.id}\nFiles: {run.paths.files}\n")
    tail: Tail | None = None
    decoder = _decoder()
    shown: Attempt | None = None
    last: RunRecord | None = None
    for last in records:
        attempt = last.attempt.attempt
        if shown != attempt:
            tail, shown = None, attempt
        if tail is None:
            tail = _begin(run, attempt, out)
            decoder = _decoder()
        if tail is not None:
            _pass_on(tail, out, decoder)
    assert last is not None
    if tail is not None:
        _pass_on(tail, out, decoder)
    elif (batch := batch_source(run.paths, last.attempt.attempt)) is not None:
        _pass_on(Tail(batch), out, _decoder())
    out.write(f"\nExecution Summary\n=================\nRunId: {run.id}\nStatus: {last.state}\n")
    if last.verdict is not None:
        out.write(f"Verdict: {last.verdict.sentence}\n")
        if last.verdict.hint:
            out.write(f"Hint: {last.verdict.hint}\n")
    out.flush()
    return last


def _begin(run: Run, attempt: Attempt, out: TextIO) -> Tail | None:
    source = log_source(run.paths, attempt, 0)
    if source is None:
        return None
    heading = f"Streaming {source.path.relative_to(run.paths.files)}"
    out.write(f"\n{heading}\n{'=' * len(heading)}\n\n")
    return Tail(source)


def _decoder() -> codecs.IncrementalDecoder:
    """Characters may come in two pieces."""
    return codecs.getincrementaldecoder("utf-8")("replace")


def _pass_on(tail: Tail, out: TextIO, decoder: codecs.IncrementalDecoder) -> None:
    for chunk in tail.read():
        out.write(decoder.decode(chunk))
    out.flush()
