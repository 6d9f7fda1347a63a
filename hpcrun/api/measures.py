"""The metrics of a run, in Azure ML's shapes and as columns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hpcrun.api.columns import columns_of, frame_of
from hpcrun.api.known import KnownRun
from hpcrun.arguments import checked
from hpcrun.errors import StoreError
from hpcrun.layout import JournalKind
from hpcrun.metrics import Metric, azure_shapes
from hpcrun.metrics.system import system_metrics

if TYPE_CHECKING:
    import numpy
    import pandas


@checked
class RunMetrics(KnownRun):
    """What can be read of a run's metrics."""

    def flush(self, timeout_seconds: float = 300) -> None:
        """Returns at once: what is logged from outside of a job stands in the record already."""

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: str | None = None,
        populate: bool = False,
    ) -> dict[str, Any]:
        """{name: value}, or {name: list} where there is more than one; a table as a dict of
        lists, a chart as its document, an image as the name of its file.

        name: only that metric. populate: an image as its bytes. recursive: {run id: metrics} of
        the run and all its descendants. run_type: with recursive, only runs of that type.
        """
        if not recursive:
            store = self._session.store
            artifacts = store.facts(self.paths, JournalKind.ARTIFACTS)[0] if populate else ()
            return azure_shapes(self._metrics(), name, artifacts)
        family = [self, *self._descendants()]
        wanted = [run for run in family if run_type in (None, run.type)]
        return {run.id: run.get_metrics(name, populate=populate) for run in wanted}

    def get_system_metrics(self) -> dict[str, Any]:
        """What its nodes did: {`system/<host>/cpu_percent`: value or list}, sample by sample."""
        return azure_shapes(system_metrics(self._session.store.notes(self.paths)))

    def get_metric_columns(self, name: str) -> dict[str, numpy.ndarray[Any, Any]]:
        """One metric as NumPy arrays of equal length, one element for each value or row.

        step (int64, -1 where none was given), rank (int64), attempt (text), time (float64, Unix
        seconds by the writer's clock), then the metric's columns under their own names; that of
        values that are no table has the metric's name. A table's column named like one of the
        four gets a _ behind its name, two where that name is taken too. bool, int64 or float64
        where all values fit, with None as nan among floats and ints up to 2**53; else objects.
        StoreError: there is no such metric.
        """
        found = self._metrics()
        if name not in found:
            known = ", ".join(found) or "none"
            raise StoreError(f"run {self.id} has no metric {name!r}", f"it has {known}")
        return columns_of(found[name])

    def get_metric_frame(self, name: str) -> pandas.DataFrame:
        """The same as a pandas DataFrame. ImportError where there is no pandas."""
        return frame_of(self.get_metric_columns(name))

    def _metrics(self) -> dict[str, Metric]:
        return self._session.store.metrics(self.paths)

    @abstractmethod
    def _descendants(self) -> Iterator[RunMetrics]:
        """All its children, and theirs."""
