"""Hints: which word is meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, words: Iterable[str], prefix: str = "") -> str:
    """A hint: which of the words is meant, or all of them. prefix: stands before each."""
    words = list(words)
    known = {one.lower(): one for one in words}
    begun = [one for one in known if len(word) > 1 and one.startswith(word.lower())]
    near = difflib.get_close_matches(word.lower(), known, 1) or begun
    if near:
        return f"did you mean `{prefix}{known[near[0]]}`?"
    return f"known are {', '.join(prefix + one for one in words)}" if words else ""
