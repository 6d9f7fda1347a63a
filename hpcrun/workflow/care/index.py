"""Checking the index of sealed runs against the sealed files: it can always be made again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from hpcrun.layout import UserPaths, month_of
from hpcrun.store.formats import NewerFormat
from hpcrun.store.hdf5 import Damaged, check, whole
from hpcrun.store.index import KIND, Files, generation_path, open_generation
from hpcrun.workflow.care.finding import Finding, Grade, MakeIndex


def index_findings(
    own: UserPaths, newest: Mapping[str, int], limit: int | None
) -> Iterator[Finding]:
    """What is wrong with the generations of an index. newest: run id → number, as they lie."""
    files = Files.of(own.indexes)
    damaged = {n: why for n in files.generations if (why := _damage(own, n, limit))}
    mend = MakeIndex(own, tuple(damaged))
    cure = "hpcrun store check --mend makes it anew"
    for number, why in damaged.items():
        place = generation_path(own.indexes, number)
        yield Finding(Grade.WRONG, "index", str(place), why, cure, mend)
    sound = next((n for n in files.generations if n not in damaged), None)
    if sound is None:
        return
    path = generation_path(own.indexes, sound)
    try:
        with open_generation(path) as generation, whole(path):
            closed = {m for m, told in generation.months.items() if told[2]} - files.reopened
            known = {m: generation.sealed_in(m) for m in closed}
    except (FileNotFoundError, NewerFormat):
        return
    there: dict[str, dict[str, int]] = {month: {} for month in closed}
    for run_id, number in newest.items():
        if month_of(run_id) in closed:
            there[month_of(run_id)][run_id] = number
    for month in sorted(closed):
        if known[month] != there[month]:
            gone = len(known[month].keys() - there[month].keys())
            hidden = sum(known[month].get(i) != n for i, n in there[month].items())
            message = f"of {month}, it tells of {gone} runs that are not there and hides {hidden}"
            yield Finding(Grade.WRONG, "index", str(path), message, cure, mend)


def _damage(own: UserPaths, number: int, limit: int | None) -> str:
    path = Path(generation_path(own.indexes, number))
    try:
        if limit is not None and path.lstat().st_size > limit:
            return f"it has more than {limit} bytes"
        check(path, KIND)
        with open_generation(path) as generation, whole(path):
            count, ids = generation.count, generation.run_ids
            if len(ids) != count or len(generation.texts()) != count:
                return f"it tells of {count} runs and has {len(ids)}"
            for run_id in ids:
                month_of(run_id)
    except (FileNotFoundError, NewerFormat):
        return ""  # a newer one has come, or a later hpcrun reads it
    except (Damaged, OSError) as error:
        return str(error).removeprefix(f"{path} is ")
    return ""
