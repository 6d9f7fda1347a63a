"""Times and memory as people write them. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.ASCII)
_WORDS = re.compile(rf"{_PART.pattern}(?:(?:\s*,\s*|\s+and\s+|\s*){_PART.pattern})*", re.ASCII)
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
}
_CLOCK = re.compile(
    r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?", re.ASCII
)
_LONGEST = timedelta(days=3650)

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGTP]?)(?:i?B)?", re.I | re.ASCII)
_LONG = 100
"""Characters: what is longer is neither, and numbers of that length overflow."""


def parse_time(text: str) -> timedelta:
    """A duration: `90m`, `1h30m`, `1.5 hours`, `2d`, or as Slurm writes it. ValueError.

    Slurm's forms mean what they mean to sbatch: `90` is minutes, `12:00:00` hours, `1-12` and
    `1-12:00` and `1-12:00:00` days and hours. `1:30` is refused: 90 seconds to sbatch, 90 minutes
    to many who write it.
    """
    given = text.strip()
    time = None
    if len(given) <= _LONG:
        time = _in_words(given.lower()) if given[-1:].isalpha() else _as_slurm(given)
    if time is None:
        raise ValueError(f"{text!r} is no duration; write 90m, 1h30m, 12:00:00 or 1-12:00:00")
    if not timedelta(0) < time <= _LONGEST:
        raise ValueError(f"{text!r} is no time limit: it must be above 0 and at most ten years")
    return time


def _in_words(text: str) -> timedelta | None:
    """`1h30m`, `1 day, 2 hours`: numbers with units."""
    parts = _PART.findall(text)
    if _WORDS.fullmatch(text) is None or any(unit not in _UNITS for _, unit in parts):
        return None
    return _seconds(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _seconds(count: float) -> timedelta:
    return timedelta(seconds=min(count, 2 * _LONGEST.total_seconds()))


def _as_slurm(text: str) -> timedelta | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    first = int(match["first"])
    days, second, third = (
        None if match[name] is None else int(match[name]) for name in ("days", "second", "third")
    )
    if days is not None:
        hours, minutes, seconds = first, second or 0, third or 0
    elif second is None:
        hours, minutes, seconds = 0, first, 0
    elif third is None:
        raise ValueError(
            f"{text!r} can mean two things; write {first}h{second}m or {first}m{second}s"
        )
    else:
        hours, minutes, seconds = first, second, third
    if (second is not None and minutes > 59) or seconds > 59 or (days and hours > 23):
        return None
    return _seconds(((24 * (days or 0) + hours) * 60 + minutes) * 60 + seconds)


def parse_memory(text: str) -> int:
    """Bytes: `32G`, `500 MB`, `1.5T`, or `0` or `all` for all of a node's. ValueError.

    Units are binary, as Slurm's are, with or without B or iB. A bare number is refused: sbatch
    takes it for megabytes, many who write it mean gigabytes.
    """
    stripped = text.strip()
    if stripped.lower() in ("0", "all"):
        return 0
    match = _SIZE.fullmatch(stripped) if len(stripped) <= _LONG else None
    if match is None:
        raise ValueError(f"{text!r} is no amount of memory; write 32G or 500M")
    if not match["unit"]:
        raise ValueError(f"{text!r} needs a unit; write {match['number']}G or {match['number']}M")
    power = "KMGTP".index(match["unit"].upper()) + 1
    size = int(float(match["number"]) * 1024**power)
    if not 0 < size < 1 << 60:
        raise ValueError(f"{text!r} is no amount of memory; write 32G or 500M")
    return size
