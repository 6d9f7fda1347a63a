"""What was found of one thing that was looked at."""

from __future__ import annotations

from typing import Literal, NamedTuple

Grade = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """One thing that was looked at: how it is, and what to do about it."""

    grade: Grade
    subject: str
    message: str
    cure: str = ""
