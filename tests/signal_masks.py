"""Signal masks in /proc/<pid>/status."""

from __future__ import annotations

RESERVED = 1 << 31 | 1 << 32
"""32 and 33 are the C library's own: no program can set them, and what make starts by posix_spawn
finds 32 ignored (glibc 2.36)."""


def settable(mask: str) -> int:
    """A mask's signals that programs can set."""
    return int(mask, 16) & ~RESERVED
