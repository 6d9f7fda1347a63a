"""Making a generation of the index: rows of sealed runs, and columns to find them by."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import accumulate
from pathlib import Path
from typing import Any

from hpcrun.layout import month_of
from hpcrun.record import Numbers
from hpcrun.store.hdf5 import Damaged, check, encode
from hpcrun.store.index import FORMAT, KEPT, KIND, Files, generation_path, label, open_generation
from hpcrun.store.publishing import publish
from hpcrun.store.rows import TIMES, WORDS, Row, newest_first, order_of, sort_text, sort_value
from hpcrun.store.wanted import Key


def write_generation(
    folder: str, number: int, rows: Mapping[str, bytes], closed: Iterable[str]
) -> bool:
    """Publishes a generation; False if somebody else made one of that number. OSError.

    rows: run id → `Row.encode()`. closed: the months that need not be listed again.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = generation_path(folder, number)
    return publish(path, _encoded(rows, set(closed)), lambda aside: _verify(aside, len(rows)))


def tidy(folder: str, files: Files) -> None:
    """Removes marks that were seen before the newest generation was made, and old generations."""
    old = Files.of(folder).generations[KEPT:]
    for path in [Path(folder, m) for m in files.marks] + [generation_path(folder, n) for n in old]:
        path.unlink(missing_ok=True)


def _verify(path: Path, count: int) -> None:
    check(path, KIND)
    with open_generation(path) as written:
        if len(written.run_ids) != count:
            raise Damaged(path, f"it has {len(written.run_ids)} rows of {count}")


def _encoded(rows: Mapping[str, bytes], closed: set[str]) -> bytes:
    decoded = {run_id: Row.decode(text) for run_id, text in rows.items()}
    ids = sorted(rows, key=lambda run_id: order_of(run_id, decoded[run_id].record.created))
    known = [decoded[run_id] for run_id in ids]
    columns: dict[str, array[Any] | bytes] = {
        "run_id": "".join(f"{run_id}\n" for run_id in ids).encode(),
        "run_id_end": _ends([f"{run_id}\n".encode() for run_id in ids]),
        "number": array("I", [row.number for row in known]),
        "row": b"".join(rows[run_id] for run_id in ids),
        "row_end": _ends([rows[run_id] for run_id in ids]),
    }
    for name in TIMES:
        columns[name] = array("d", [sort_value(row, Key(name)) for row in known])
    columns["child"] = array("B", [row.record.parent is not None for row in known])
    columns["archived"] = array("B", [row.record.archived for row in known])
    words = {}
    for name in WORDS:
        found = [sort_text(row.record, name) for row in known]
        words[name] = sorted(set(found))
        places = {text: place for place, text in enumerate(words[name])}
        columns[name] = array("I", [places[text] for text in found])
    columns["second"] = array("q", [-newest_first(run_id)[0] for run_id in ids])
    points: dict[str, list[tuple[int, Numbers]]] = {}
    labels: dict[bytes, list[int]] = {}
    for place, row in enumerate(known):
        for name, numbers in row.metrics.items():
            points.setdefault(name, []).append((place, numbers))
        for kind, named in (("tags", row.record.tags), ("properties", row.record.properties)):
            for name, text in named.items():
                labels.setdefault(label(kind, name, text), []).append(place)
    metrics, begin = {}, 0
    for name in sorted(points):
        metrics[name] = [begin, begin + len(points[name])]
        begin += len(points[name])
    in_order = [point for name in sorted(points) for point in points[name]]
    columns["metric_row"] = array("I", [place for place, _ in in_order])
    for of in Numbers._fields:
        told = (getattr(numbers, of) for _, numbers in in_order)
        columns[f"metric_{of}"] = array("d", [math.nan if n is None else n for n in told])
    texts = sorted(labels)
    columns["label"], columns["label_end"] = b"".join(texts), _ends(texts)
    columns["label_row"] = array("I", [place for text in texts for place in labels[text]])
    columns["label_row_end"] = _ends([labels[text] for text in texts])
    catalog = {
        "count": len(ids),
        "months": _months(ids, closed),
        "words": words,
        "metrics": metrics,
    }
    return encode(KIND, FORMAT, {"catalog": json.dumps(catalog).encode(), **columns})


def _ends(parts: Sequence[Sized]) -> array[int]:
    return array("q", accumulate(map(len, parts)))


def _months(ids: Sequence[str], closed: set[str]) -> dict[str, list[int]]:
    months: dict[str, list[int]] = {month: [0, 0, 1] for month in closed}
    for place, run_id in enumerate(ids):
        month = month_of(run_id)
        begin = months[month][0] if month in months and months[month][1] else place
        months[month] = [begin, place + 1, int(month in closed)]
    return months
