"""Writing a run's output while it runs, with Azure ML's headings."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from hpcrun.layout import Attempt
from hpcrun.record import RunRecord
from hpcrun.workflow.logs import Follower, Source, batch_source, log_source

if TYPE_CHECKING:
    from hpcrun.api.run import Run


def stream(run: Run, out: TextIO, records: Iterable[RunRecord]) -> RunRecord:
    """Writes rank 0's log as it grows, until the run has ended; gives the last record."""
    paths = run.paths
    out.write(f"RunId: {run.id}\nFiles: {paths.files}\n")

    def find(attempt: Attempt, ended: bool) -> Source | None:
        source = log_source(paths, attempt, 0)
        return batch_source(paths, attempt) if source is None and ended else source

    follower, decoder = Follower(find), _decoder()
    shown: Source | None = None
    last: RunRecord | None = None
    for last in records:
        for source, chunk in follower.read(last):
            if source != shown:
                decoder, shown = _decoder(), source
                heading = f"Streaming {source.path.relative_to(paths.files)}"
                out.write(f"\n{heading}\n{'=' * len(heading)}\n\n")
            out.write(decoder.decode(chunk))
        out.flush()
    assert last is not None
    out.write(f"\nExecution Summary\n=================\nRunId: {run.id}\nStatus: {last.state}\n")
    if last.verdict is not None:
        out.write(f"Verdict: {last.verdict.sentence}\n")
        if last.verdict.hint:
            out.write(f"Hint: {last.verdict.hint}\n")
    out.flush()
    return last


def _decoder() -> codecs.IncrementalDecoder:
    """Characters may come in two pieces."""
    return codecs.getincrementaldecoder("utf-8")("replace")
