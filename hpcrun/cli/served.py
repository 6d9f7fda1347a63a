"""What a command tells whoever shows it on another machine. Where nobody does, nothing happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from hpcrun.transport.wire import Frame, Place

_tell: Callable[[Frame], None] | None = None
_texts: Mapping[str, str] = {}


def begin(tell: Callable[[Frame], None], texts: Mapping[str, str]) -> None:
    """From here on, this process shows its command on another machine. texts: its files there."""
    global _tell, _texts
    _tell, _texts = tell, texts


def texts() -> Mapping[str, str]:
    """Files of the other machine, by name."""
    return _texts


def goes_on(words: Sequence[str], stream: int = 0, seconds: float | None = None) -> None:
    """Tells with which words to go on if the connection is lost now.

    stream: where they print what would have come next; 0: nowhere. seconds: the time left.
    """
    if _tell is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    _tell(Place([*words], stream, seconds))
