"""How long is waited."""

from __future__ import annotations

import time

from hpcrun.errors import ConfigError, Problem


def deadline(timeout: float | None) -> float | None:
    """When so many seconds are over, by the monotonic clock; None: never. ConfigError: a nan, or
    less than nothing."""
    if timeout is None:
        return None
    if not timeout >= 0:
        raise ConfigError(Problem(f"a timeout of {timeout:g} seconds is none", "0 or more"))
    return time.monotonic() + timeout
