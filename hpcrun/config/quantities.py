"""Times and memory as people write them. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
}
_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_LONGEST = timedelta(days=3650)

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGTP]?)(?:i?B)?", re.IGNORECASE)


def parse_time(text: str) -> timedelta:
    """A duration: `90m`, `1h30m`, `1.5 hours`, `2d`, or as Slurm writes it. ValueError.

    Slurm's forms mean what they mean to sbatch: `90` is minutes, `12:00:00` hours, `1-12` and
    `1-12:00` and `1-12:00:00` days and hours. `1:30` is refused: 90 seconds to sbatch, 90 minutes
    to many who write it.
    """
    time = _in_words(text.strip().lower()) or _as_slurm(text.strip())
    if time is None:
        raise ValueError(f"{text!r} is no duration; write 90m, 1h30m, 12:00:00 or 1-12:00:00")
    if not timedelta(0) < time <= _LONGEST:
        raise ValueError(f"{text!r} is no time limit: it must be above 0 and at most ten years")
    return time


def _in_words(text: str) -> timedelta | None:
    """`1h30m`, `1 day, 2 hours`: numbers with units and nothing between them."""
    rest = _PART.sub("", text)
    parts = _PART.findall(text)
    if not parts or rest.replace("and", "").strip(" ,") or any(u not in _UNITS for _, u in parts):
        return None
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def _as_slurm(text: str) -> timedelta | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, first, second, third = (None if g is None else int(g) for g in match.groups())
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
    if (minutes or 0) > 59 and second is not None or seconds > 59 or (days and (hours or 0) > 23):
        return None
    return timedelta(days=days or 0, hours=hours or 0, minutes=minutes or 0, seconds=seconds)


def parse_memory(text: str) -> int:
    """Bytes: `32G`, `500 MB`, `1.5T`, or `0` or `all` for all of a node's. ValueError.

    Units are binary, as Slurm's are, with or without B or iB. A bare number is refused: sbatch
    takes it for megabytes, many who write it mean gigabytes.
    """
    stripped = text.strip()
    if stripped.lower() in ("0", "all"):
        return 0
    match = _SIZE.fullmatch(stripped)
    if match is None:
        raise ValueError(f"{text!r} is no amount of memory; write 32G or 500M")
    if not match["unit"]:
        raise ValueError(f"{text!r} needs a unit; write {stripped.rstrip('iIbB ')}G or …M")
    power = "KMGTP".index(match["unit"].upper()) + 1
    size = int(float(match["number"]) * 1024**power)
    if not 0 < size < 1 << 60:
        raise ValueError(f"{text!r} is no amount of memory; write 32G or 500M")
    return size
