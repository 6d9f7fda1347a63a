"""What two hpcruns say to each other: frames, each one line of JSON. Pure.

The far side speaks first: a line that begins with MARK, whatever a login shell has printed before.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from hpcrun.errors import TransportError

PROTOCOL = 4
"""Of what frames there are, and what they mean. Who speaks another is not understood."""

MARK = b"hpcrun-wire "

LONGEST = 64 * 1024 * 1024
"""Bytes of a frame, and of what a login shell may print before the first one, at most."""


FILE, FOLDER, NEW_FILE, NEW_FOLDER = "file", "folder", "new file", "new folder"


class Hello(NamedTuple):
    """Who speaks; the first frame of each side."""

    protocol: int
    version: str


class Clock(NamedTuple):
    """What time it is there, in seconds since 1970; the far side's second frame."""

    seconds: float


class Request(NamedTuple):
    """A command: its words behind `hpcrun`, and for whom it prints.

    workspace: the folder of the run history there; empty: the one that is usual there. terminals:
    of 0, 1 and 2 those that are one. variables: what else tells how to print. texts: files of the
    near side by name, beside which the command runs; `-` is its standard input. source: what
    `workflow.sent.Sent` tells of a source folder of the near side; empty: there is none.
    """

    workspace: str
    words: list[str]
    terminals: list[int]
    variables: dict[str, str]
    texts: dict[str, str]
    source: dict[str, Any]


class Output(NamedTuple):
    """What the command has printed. stream: 1 or 2."""

    stream: int
    data: bytes


class Ask(NamedTuple):
    """The command waits for a line; what it asks has been printed."""


class Answer(NamedTuple):
    """That line with its end; empty where there is none. To `Lend`, as JSON: the path where it is,
    and the names of files that were there already."""

    line: str


class Place(NamedTuple):
    """How far the command has come, for who has to begin anew.

    words: the command that prints what comes after this, from its first byte. stream: where it
    prints that; 0: nowhere. seconds: what is left of the time that it was given.
    """

    words: list[str]
    stream: int
    seconds: float | None


class Lend(NamedTuple):
    """What the command has for the disk of the near side, until that answers where it is now.

    folder: where it lies there. files: (name below the folder, bytes, SHA-256 in hex; None: it is
    not known). target: where its user wants it, as they named it; empty: where they are. rule:
    FILE, the one file is to be there, or in the folder there; FOLDER, all are to be below it;
    NEW_FILE and NEW_FOLDER, the same where nothing is yet.
    """

    folder: str
    files: list[Any]
    target: str
    rule: str


class Interrupt(NamedTuple):
    """Ctrl-C."""


class Alive(NamedTuple):
    """The near side is there."""


class Exit(NamedTuple):
    """The command has ended with this code."""

    code: int


Frame = Hello | Clock | Request | Output | Ask | Answer | Place | Lend | Interrupt | Alive | Exit

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Hello, Clock, Request, Output, Ask, Answer, Place, Lend, Interrupt, Alive, Exit)
}


def encode(frame: Frame) -> bytes:
    """A frame as its line."""
    fields = [_told(data) if isinstance(data, bytes) else data for data in frame]
    return json.dumps([type(frame).__name__, *fields]).encode() + b"\n"


def greeting(hello: Hello) -> bytes:
    """The far side's first frame: it stands on a line of its own, whatever was printed before."""
    return b"\n" + MARK + encode(hello)


def greeted(data: bytes) -> tuple[Hello, bytes] | None:
    """The far side's greeting in what it has said, and what stands behind it; None: it has not come
    as a whole. What follows need be no frames."""
    begin = data.find(MARK)
    while begin >= 0:
        line, end, rest = data[begin + len(MARK) :].partition(b"\n")
        if not end:
            return None
        with contextlib.suppress(TransportError):
            if isinstance(hello := decode(line), Hello):
                return hello, rest
        begin = data.find(MARK, begin + 1)
    return None


def _told(data: bytes) -> object:
    """Bytes in JSON: their text where they are one, which is shorter."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytes(told: Any) -> bytes:
    return told.encode() if isinstance(told, str) else base64.b64decode(told["base64"])


def decode(line: bytes) -> Frame:
    """The frame of a line. TransportError: it is none."""
    try:
        name, *fields = json.loads(line)
        frame: Frame = _KINDS[name](*fields)
        return frame._replace(data=_bytes(frame.data)) if isinstance(frame, Output) else frame
    except (ValueError, KeyError, TypeError) as error:
        begin = line[:80].decode(errors="backslashreplace").strip()
        raise TransportError(f"the other side says what is no frame: {begin}") from error


class Decoder:
    """Frames from bytes that come in pieces of any size. greets: whether MARK comes first."""

    def __init__(self, greets: bool) -> None:
        self._greets = greets
        self._rest = bytearray()
        self._looked = 0

    @property
    def noise(self) -> bytes:
        """What came before the first frame, while none has come."""
        return bytes(self._rest) if self._greets else b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. TransportError."""
        self._rest += data
        while (line := self._line()) is not None:
            yield decode(line)
        if len(self._rest) > LONGEST:
            raise TransportError(f"the other side says {LONGEST >> 20} MiB without a frame")

    def _line(self) -> bytes | None:
        if self._greets:
            return self._greeting()
        end = self._rest.find(b"\n", self._looked)
        if end < 0:
            self._looked = len(self._rest)
            return None
        return self._taken(0, end)

    def _greeting(self) -> bytes | None:
        """The first line behind MARK that is a frame; others are noise."""
        begin = self._rest.find(MARK, self._looked)
        while begin >= 0:
            end = self._rest.find(b"\n", begin)
            if end < 0:
                return None
            line = bytes(self._rest[begin + len(MARK) : end])
            try:
                decode(line)
            except TransportError:
                self._looked = begin + 1
                begin = self._rest.find(MARK, self._looked)
            else:
                self._greets = False
                return self._taken(begin + len(MARK), end)
        self._looked = max(self._looked, len(self._rest) - len(MARK))
        return None

    def _taken(self, begin: int, end: int) -> bytes:
        line = bytes(self._rest[begin:end])
        del self._rest[: end + 1]
        self._looked = 0
        return line
