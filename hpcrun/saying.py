"""What hpcrun says to whoever runs it, beside what it was asked for."""

from __future__ import annotations

import sys

SAID = "hpcrun: "
"""How each line of it begins."""


def say_on_stderr(text: str) -> None:
    """Tells whoever runs the program."""
    sys.stderr.write(f"{SAID}{text}\n")
