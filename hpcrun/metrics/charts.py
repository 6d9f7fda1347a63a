"""Azure ML's four charts, which are logged as JSON documents. Pure; standard library only (3.8+).

A document is {schema_type, schema_version, data}. It stands in JSON as {"d": "<its own JSON>"}, so
that keys of the document cannot be taken for the forms of `values`.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Tuple, Union

from hpcrun.forms import DEPTH_LIMIT, is_chart
from hpcrun.metrics.values import Document

CHARTS: Mapping[str, Tuple[str, ...]] = {
    "confusion_matrix": ("class_labels", "matrix"),
    "residuals": ("bin_edges", "bin_counts"),
    "predictions": ("bin_averages", "bin_errors", "bin_counts", "bin_edges"),
    "accuracy_table": ("probability_tables", "probability_thresholds", "class_labels"),
}
"""Chart → the lists that its data must have. More are kept, not looked at."""

_KEYS = ("schema_type", "schema_version", "data")


def chart(kind: str, value: Union[str, Mapping[str, Any]]) -> Dict[str, str]:
    """The JSON form of a chart; value: the document, or its JSON. TypeError, ValueError.

    Arrays and numbers of NumPy and torch in it become lists and numbers.
    """
    document = _document(kind, value)
    missing = [key for key in _KEYS if key not in document]
    if missing:
        raise ValueError(f"a {kind} has the keys {', '.join(_KEYS)}; missing: {missing[0]}")
    if document["schema_type"] != kind:
        raise ValueError(f"schema_type is {document['schema_type']!r}, not {kind!r}")
    data = document["data"]
    if not isinstance(data, dict):
        raise TypeError(f"the data of a {kind} is a dict, not a {type(data).__name__}")
    for key in CHARTS[kind]:
        if not isinstance(data.get(key), list):
            raise ValueError(f"the data of a {kind} needs a list {key!r}")
    if kind == "confusion_matrix":
        _check_matrix(data["class_labels"], data["matrix"])
    form = {"d": json.dumps(document, ensure_ascii=False)}
    if not is_chart(kind, form):
        raise ValueError(f"a {kind} may hold lists and objects {DEPTH_LIMIT} deep at most")
    return form


def _document(kind: str, value: Union[str, Mapping[str, Any]]) -> Document:
    if not isinstance(value, (str, Mapping)):
        raise TypeError(f"a {kind} is a dict or JSON, not a {type(value).__name__}")
    text = value if isinstance(value, str) else json.dumps(value, default=_plain)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"this {kind} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise TypeError(f"a {kind} is a dict, not a {type(document).__name__}")
    return document


def _check_matrix(labels: List[Any], matrix: List[Any]) -> None:
    rows = [len(row) if isinstance(row, list) else 0 for row in matrix]
    if rows != [len(labels)] * len(labels):
        raise ValueError(
            f"a confusion_matrix of {len(labels)} class_labels needs as many rows and columns; "
            f"its rows have {rows}"
        )


def _plain(value: Any) -> Any:
    """What JSON knows, in place of an array or a number of NumPy or torch."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "numpy"):
        return value.numpy().tolist()
    if isinstance(value, range) or hasattr(value, "__next__"):
        return list(value)
    raise TypeError(f"a {type(value).__name__} cannot stand in a chart")
