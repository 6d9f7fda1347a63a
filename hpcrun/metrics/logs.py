"""What can be logged. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
from typing import Any, Mapping, Optional

from hpcrun.metrics.charts import chart
from hpcrun.metrics.images import image
from hpcrun.metrics.ranks import RankFacts
from hpcrun.metrics.recording import Recording
from hpcrun.metrics.values import checked_name, checked_step, row, scalar, several, table
from hpcrun.metrics.world import reduced


class Logging(Recording):
    """The part of a Run that logs. TypeError and ValueError tell what cannot be logged."""

    def log(
        self,
        name: str,
        value: object,
        description: str = "",
        step: Any = None,
        *,
        reduce: Optional[str] = None,
    ) -> None:
        """Records one value: a number, a text, or an array of one element.

        step: a whole number from 0; steps may repeat and come in any order. description: as in
        Azure ML, accepted and kept nowhere. reduce: "mean", "sum", "min" or "max" of the values of
        all ranks, each of which must make this call, is what rank 0 records (see
        `hpcrun.distributed.reduce`, also for its errors).
        """
        if reduce is not None:
            value = reduced(value, reduce)
            if RankFacts.of(os.environ).rank:
                return
        if self._is_silent():
            return
        data = {"m": checked_name(name), "v": scalar(value)}
        if step is not None:
            data["s"] = checked_step(step)
        self._append("metric", data)

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        """Records a list, array, range or generator; further ones of the name are joined to it."""
        if not self._is_silent():
            data = {"m": checked_name(name), "y": "list", "v": several(value)}
            self._append("metric", data)

    def log_row(self, name: str, description: Optional[str] = None, **columns: object) -> None:
        """Records one row of a table; a column that another row lacks is None there."""
        if not self._is_silent():
            self._append("metric", {"m": checked_name(name), "y": "row", "v": row(columns)})

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Records a table, a dict of columns of equal length; further ones add rows."""
        if not self._is_silent():
            self._append("metric", {"m": checked_name(name), "y": "table", "v": table(value)})

    def log_image(
        self, name: str, path: Any = None, plot: Any = None, description: str = ""
    ) -> None:
        """Records an image, of 64 MiB at most; its file stands among the run's files.

        path: a PNG, JPEG, GIF, BMP, TIFF, WebP or SVG file. plot: a matplotlib figure or pyplot,
        drawn as PNG. Exactly one of them; ValueError, TypeError, and OSError for the path.
        """
        if self._is_silent():
            return
        found = image(checked_name(name), path, plot)
        self._append("artifact", found.artifact())
        self._append("metric", found.metric(name))

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Records a confusion matrix: {schema_type: "confusion_matrix", schema_version, data:
        {class_labels, matrix}}, a dict or JSON. TypeError, ValueError."""
        self._log_chart("confusion_matrix", name, value)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Records residuals: {schema_type: "residuals", schema_version, data: {bin_edges,
        bin_counts}}, a dict or JSON. TypeError, ValueError."""
        self._log_chart("residuals", name, value)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Records predictions: {schema_type: "predictions", schema_version, data: {bin_averages,
        bin_errors, bin_counts, bin_edges}}, a dict or JSON. TypeError, ValueError."""
        self._log_chart("predictions", name, value)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Records an accuracy table: {schema_type: "accuracy_table", schema_version, data:
        {probability_tables, probability_thresholds, class_labels, ...}}, a dict or JSON.
        TypeError, ValueError."""
        self._log_chart("accuracy_table", name, value)

    def _log_chart(self, kind: str, name: str, value: Any) -> None:
        if not self._is_silent():
            data = {"m": checked_name(name), "y": kind, "v": chart(kind, value)}
            self._append("metric", data)
