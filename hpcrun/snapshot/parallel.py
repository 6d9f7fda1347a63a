"""Many small reads and writes at once: on NFS and Lustre each one waits for a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

_THREADS = 8
_WORTH_IT = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(act: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results of `act` in the order of the items. The first error stops what has not begun."""
    if len(items) < _WORTH_IT:
        return [act(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor  # 5 ms, not needed when nothing changed

    pool = ThreadPoolExecutor(_THREADS)
    try:
        return list(pool.map(act, items))
    finally:
        pool.shutdown(cancel_futures=True)
