"""Until when a credential is good. The text of `ssh-keygen -L` is read; who runs it is others'."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

_VALID = re.compile(r"^\s*Valid: (?:from \S+ to (\S+)|before (\S+))$", re.MULTILINE)

SOON = 1800.0
"""Seconds before the end at which it is told, unless a tenth of the lifetime is less."""


def valid_until(listed: str) -> float | None:
    """The latest end of certificates as `ssh-keygen -L` lists them, in seconds since the epoch;
    None if there is none, or one without an end."""
    if re.search(r"^\s*Valid: (forever|after \S+)$", listed, re.MULTILINE):
        return None
    ends = [_seconds(a or b) for a, b in _VALID.findall(listed)]
    return max(ends, default=None)


def _seconds(text: str) -> float:
    """A time of `ssh-keygen`: of this machine's zone, or UTC with a Z."""
    return datetime.fromisoformat(text).timestamp()


def warning(
    what: str, ends: float | None, now: float, lifetime: float | None, command: str | None
) -> str:
    """What to say before a credential ends; empty while there is time. what: that sentence, with
    `{}` for the minutes."""
    if ends is None:
        return ""
    left = ends - now
    if left > (min(SOON, lifetime / 10) if lifetime else SOON):
        return ""
    renew = f"; `{command}` gets a new one" if command else ""
    if left <= 0:
        return f"{what.partition(' good for')[0]} no longer good{renew}"
    return f"{what.format(f'{max(1, round(left / 60))} more minutes')}{renew}"


def certificates(files: Iterable[str]) -> list[str]:
    """The files in which certificates may stand: those named, and those beside keys."""
    return [f if f.endswith(("-cert.pub", ".pub")) else f"{f}-cert.pub" for f in files]
