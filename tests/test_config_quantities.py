"""Times and memory as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.config import parse_memory, parse_time
from hpcrun.directives import format_memory, format_time

TEN_YEARS = 3650 * 86400


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("90m", 1.5),
        ("90 min", 1.5),
        ("1h30m", 1.5),
        ("1h 30m", 1.5),
        ("1.5h", 1.5),
        ("1.5 hours", 1.5),
        (" 1H30M ", 1.5),
        ("5400s", 1.5),
        ("1 hour and 30 minutes", 1.5),
        ("1 hour, 30 minutes", 1.5),
        ("2d", 48),
        ("1 day, 2 hours and 30 mins", 26.5),
        ("1w", 168),
        ("90", 1.5),
        ("12:00:00", 12),
        ("100:30:00", 100.5),
        ("1-12", 36),
        ("1-12:30", 36.5),
        ("1-12:30:00", 36.5),
        ("0-36", 36),
        ("3650d", 87600),
    ],
)
def test_a_time_is_read_in_words_and_in_the_forms_of_slurm(text: str, hours: float) -> None:
    assert parse_time(text) == timedelta(hours=hours)


@given(st.integers(1, TEN_YEARS))
def test_a_time_that_slurm_is_told_reads_back(seconds: int) -> None:
    time = timedelta(seconds=seconds)
    assert parse_time(format_time(time)) == time


@given(st.integers(0, 500), st.integers(0, 23), st.integers(0, 59), st.integers(1, 59))
def test_a_time_in_words_is_the_sum_of_its_parts(
    days: int, hours: int, mins: int, secs: int
) -> None:
    time = timedelta(days=days, hours=hours, minutes=mins, seconds=secs)
    for text in (
        f"{days}d{hours}h{mins}m{secs}s",
        f"{secs} seconds, {mins} minutes {hours} hrs and {days} days",
        f"{days}-{hours}:{mins}:{secs}",
        f"{24 * days + hours}:{mins}:{secs}",
    ):
        assert parse_time(text) == time


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "h", "-5m", "+5m", "1,5h", ".5h", "1.h", "1h30", "30 1h", "5 m 5", "1e3s"),
        *("1 month", "1y", "one hour", "1:60:00", "1:00:60", "1-24", "1-12:60", "1:2:3:4", "1-"),
        *(
            "UNLIMITED",
            "infinite",
            "1h,,30m",
            "and 5m",
            "5m and",
            "5mand3s",
            "٣m",
            "9" * 5000 + "m",
        ),
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match="is no duration; write 90m, 1h30m, 12:00:00 or 1-12:00:00"
    ):
        parse_time(text)


@pytest.mark.parametrize(
    "text", ["0", "0s", "0:00:00", "0-0", "3651d", "9999999999", "9" * 90 + "d", "9" * 90]
)
def test_a_time_of_nothing_or_above_ten_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be above 0 and at most ten years"):
        parse_time(text)


def test_a_time_that_can_mean_two_things_is_refused_with_both() -> None:
    with pytest.raises(ValueError) as raised:
        parse_time("1:30")
    assert str(raised.value) == "'1:30' can mean two things; write 1h30m or 1m30s"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32G", 32 << 30),
        ("32g", 32 << 30),
        ("32GB", 32 << 30),
        ("32GiB", 32 << 30),
        ("32 gib", 32 << 30),
        ("500 MB", 500 << 20),
        ("1.5T", 3 << 39),
        ("1K", 1024),
        ("1023P", 1023 << 50),
        ("0", 0),
        (" ALL ", 0),
    ],
)
def test_memory_is_read_in_binary_units(text: str, size: int) -> None:
    assert parse_memory(text) == size


@given(st.integers(1, (1 << 30) - 1), st.integers(1, 4).map(lambda power: 1024**power))
def test_memory_that_slurm_is_told_reads_back(number: int, unit: int) -> None:
    size = number * unit % (1 << 59) or unit
    assert parse_memory(format_memory(size)) == size
    assert parse_memory(format_memory(size) + "iB") == size


@pytest.mark.parametrize("number", ["500", "32", "0.5"])
@pytest.mark.parametrize("unit", ["", "B", " iB"])
def test_memory_without_a_unit_is_refused_with_both_that_may_be_meant(
    number: str, unit: str
) -> None:
    with pytest.raises(ValueError) as raised:
        parse_memory(number + unit)
    told = f"{number + unit!r} needs a unit; write {number}G or {number}M"
    assert str(raised.value) == told


@pytest.mark.parametrize(
    "text",
    [
        *("", "G", "-1G", "1,5G", ".5G", "1e3G", "32X", "32G 1M", "0G", "1024P", "٣G", "5\u212a"),
        *("9" * 90 + "P", "9" * 5000 + "P", "inf", "nanG"),
    ],
)
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount of memory; write 32G or 500M"):
        parse_memory(text)
