"""Frames: whole, cut at any byte, and behind whatever a login shell prints."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.cli.serve import Stream
from hpcrun.errors import TransportError
from hpcrun.transport.wire import (
    LONGEST,
    MARK,
    PROTOCOL,
    Alive,
    Answer,
    Ask,
    Clock,
    Decoder,
    Exit,
    Frame,
    Hello,
    Interrupt,
    Lend,
    Output,
    Place,
    Request,
    decode,
    encode,
    greeting,
)

TEXT = st.text(st.characters(exclude_categories=[]))
"""Lone surrogates too: so Python keeps what is no UTF-8 in words and names."""

FRAMES = st.one_of(
    st.builds(Hello, st.integers(), TEXT),
    st.builds(
        Request,
        TEXT,
        st.lists(TEXT),
        st.lists(st.integers(0, 2)),
        st.dictionaries(TEXT, TEXT),
        st.dictionaries(TEXT, TEXT),
        st.dictionaries(TEXT, TEXT | st.dictionaries(TEXT, TEXT)),
    ),
    st.builds(Output, st.integers(1, 2), st.binary()),
    st.builds(Place, st.lists(TEXT), st.integers(0, 2), st.none() | st.floats(0, 1e9)),
    st.builds(Answer, TEXT),
    st.builds(
        Lend,
        TEXT,
        st.lists(st.tuples(TEXT, st.integers(), st.none() | TEXT).map(list)),
        TEXT,
        TEXT,
    ),
    st.builds(Exit, st.integers(0, 255)),
    st.builds(Clock, st.floats(0, 1e11)),
    st.sampled_from([Ask(), Interrupt(), Alive()]),
)
HELLO = Hello(PROTOCOL, "0.1.0")


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[begin:end] for begin, end in pairwise(places)]


def decoded(decoder: Decoder, pieces: list[bytes]) -> list[Frame]:
    return [frame for piece in pieces for frame in decoder.feed(piece)]


@given(FRAMES)
def test_a_frame_is_one_line_and_comes_back(frame: Frame) -> None:
    line = encode(frame)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode(line) == frame and type(decode(line)) is type(frame)


@given(st.lists(FRAMES), st.lists(st.integers(0)))
def test_frames_may_be_cut_anywhere(frames: list[Frame], at: list[int]) -> None:
    data = b"".join(map(encode, frames))
    assert decoded(Decoder(greets=False), cut(data, at)) == frames


@given(
    st.lists(st.sampled_from([b"Welcome!\n", b"no end", MARK, MARK + b"[]\n", b"\n", b"\xff\x00"])),
    st.lists(FRAMES),
    st.lists(st.integers(0)),
)
def test_what_a_login_shell_prints_does_no_harm(
    noise: list[bytes], frames: list[Frame], at: list[int]
) -> None:
    data = b"".join(noise) + greeting(HELLO) + b"".join(map(encode, frames))
    assert decoded(Decoder(greets=True), cut(data, at)) == [HELLO, *frames]


@given(st.binary(max_size=200))
def test_noise_alone_is_no_frame(noise: bytes) -> None:
    decoder = Decoder(greets=True)
    assert list(decoder.feed(noise)) == [] and decoder.noise == noise


def test_long_lines_come_whole_and_cheaply() -> None:
    data = bytes(range(256)) * 20_000
    line = encode(Output(1, data))
    pieces = [line[at : at + 65536] for at in range(0, len(line), 65536)]
    assert decoded(Decoder(greets=False), pieces) == [Output(1, data)]


@pytest.mark.parametrize("line", [b"Killed\n", b"[]\n", b'["Nothing"]\n', b'["Exit"]\n', b"7\n"])
def test_a_line_that_is_no_frame_is_told(line: bytes) -> None:
    with pytest.raises(TransportError, match="no frame"):
        list(Decoder(greets=False).feed(line))


def test_what_is_printed_at_once_comes_in_frames_that_are_taken() -> None:
    frames: list[Frame] = []
    out = io.BufferedWriter(Stream(1, frames.append, False))  # type: ignore[type-var]
    text = bytes(LONGEST // 6 + 1)  # zeros take six bytes each in a frame
    out.write(text)
    out.flush()
    assert b"".join(frame.data for frame in frames if isinstance(frame, Output)) == text
    assert max(len(encode(frame)) for frame in frames) < LONGEST
