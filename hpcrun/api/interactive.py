"""An interactive run: a run of a workspace that this process itself keeps."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hpcrun.api.run import Run
from hpcrun.arguments import checked
from hpcrun.metrics.interactive import InteractiveRun as LiveRun
from hpcrun.record import RunRecord

if TYPE_CHECKING:
    from hpcrun.api.experiment import Experiment
    from hpcrun.metrics import Metric


@checked
class InteractiveRun(Run):
    """A run without a job, from `Experiment.start_logging()` or `child_run()`.

    It lasts from start() to complete(), fail() or cancel(), and can be used in a `with`
    statement: its end completes the run, an exception fails it, Ctrl-C cancels it. What a log call
    has accepted survives the interpreter; if that ends without a word, the run has failed.
    """

    def __init__(self, experiment: Experiment, live: LiveRun) -> None:
        super().__init__(experiment, live.id)
        self._live = live

    @property
    def output_directory(self) -> str:
        """The folder whose files are copied into the run at its end; else the run's own."""
        return self._live.output_directory

    def start(self) -> None:
        """It begins now; a second time nothing happens. StoreError: it was deleted."""
        if not self._live.goes_on:
            self._must_be_own()
        self._live.start()

    def complete(self) -> None:
        """It has completed. Waits until its record holds everything, 300 s at most."""
        self._live.complete()

    def fail(self, error_details: object = None, error_code: object = None) -> None:
        """It has failed; waits like complete(). The details are its verdict."""
        self._live.fail(error_details, error_code)

    def cancel(self) -> None:
        """It is canceled; waits like complete()."""
        self._live.cancel()

    def flush(self, timeout_seconds: float = 300) -> None:
        """Waits until the record holds all that was logged; after the time-out it warns."""
        self._live.flush(timeout_seconds)

    def record(self) -> RunRecord:
        """All that is known; waits for what this process has logged."""
        self.flush()
        return super().record()

    def _metrics(self) -> dict[str, Metric]:
        self.flush()
        return super()._metrics()

    def _may_replace(self, name: str, source: Any) -> bool:
        return self._live._may_replace(name, source)

    def _append(self, kind: str, data: Mapping[str, Any]) -> None:
        if not self._live.goes_on:
            self._must_be_own()
        self._live._append(kind, dict(data))

    def __enter__(self) -> InteractiveRun:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, traceback)
