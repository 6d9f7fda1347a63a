"""What a command tells whoever shows it on another machine. Where nobody does, nothing happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcrun.transport.wire import Frame, Place

if TYPE_CHECKING:
    from hpcrun.workflow.sent import Sent

_tell: Callable[[Frame], None] | None = None
_source: Mapping[str, Any] = {}


def begin(tell: Callable[[Frame], None], source: Mapping[str, Any]) -> None:
    """From here on, this process shows its command on another machine. source: what that sends."""
    global _tell, _source
    _tell, _source = tell, source


def source() -> Sent | None:
    """The source that another machine sends for this command."""
    from hpcrun.workflow.sent import Sent

    return Sent.of(_source)


def goes_on(words: Sequence[str], stream: int = 0, seconds: float | None = None) -> None:
    """Tells with which words to go on if the connection is lost now.

    stream: where they print what would have come next; 0: nowhere. seconds: the time left.
    """
    if _tell is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    _tell(Place([*words], stream, seconds))
