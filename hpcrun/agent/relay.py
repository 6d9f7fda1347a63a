"""TCP connections through one pair of pipes, a line for each piece. Standard library only (3.8+).

srun passes a step's output on line by line, so each piece is a line of its own (22.05):

    ready                  by the node, first: what stands before it is somebody else's
    open CHANNEL PORT      a connection was made; connect it to this port of the node
    data CHANNEL BASE64    some of what came on it
    taken CHANNEL COUNT    so many bytes were passed on: as many may follow
    end CHANNEL            nothing more comes on it
    gone CHANNEL           it is closed in both directions

A side that has WINDOW bytes on the way waits until some are taken: a slow reader holds up nobody
else, and nothing grows.
"""

from __future__ import annotations

import base64
import os
import selectors
import socket
from typing import Dict, Mapping

WINDOW = 1 << 18
PIECE = 1 << 14

CONNECTING = 5.0
"""Seconds in which a server on the node must take a connection."""

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Channel:
    """One connection on this side."""

    def __init__(self, number: int, end: socket.socket) -> None:
        self.number = number
        self.socket = end
        self.waiting = b""
        self.credit = WINDOW
        self.told_end = False
        self.heard_end = False
        self.is_shut = False

    @property
    def events(self) -> int:
        """What is waited for."""
        reads = _READ if self.credit > 0 and not self.told_end else 0
        return reads | (_WRITE if self.waiting else 0)

    @property
    def is_over(self) -> bool:
        """Whether all has passed in both directions."""
        return self.told_end and self.is_shut


class Relay:
    """One end of it, until the other is gone.

    reading, writing: the pipes. listeners: where connections are taken from → the node's port.
    """

    def __init__(
        self, reading: int, writing: int, listeners: Mapping[socket.socket, int] = {}
    ) -> None:
        self._reading = reading
        self._writing = writing
        self._listeners = listeners
        self._channels: Dict[int, Channel] = {}
        self._last = 0
        self._heard = b""
        self._saying = b""

    def run(self) -> None:
        """Passes on what comes. OSError where the pipes fail."""
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        for listener in self._listeners:
            listener.setblocking(False)
        try:
            while self._step():
                pass
        except BrokenPipeError:
            pass  # the other side is gone
        finally:
            for end in (*self._listeners, *(each.socket for each in self._channels.values())):
                end.close()

    def _step(self) -> bool:
        """Waits for what comes next, and does it; whether the other side is there."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, _READ)
            if self._saying:
                selector.register(self._writing, _WRITE)
            for listener in self._listeners:
                selector.register(listener, _READ, listener)
            full = len(self._saying) > WINDOW
            for channel in self._channels.values():
                events = channel.events & (_WRITE if full else _READ | _WRITE)
                if events:
                    selector.register(channel.socket, events, channel)
            ready = selector.select()
        for key, events in ready:
            if isinstance(key.data, Channel):
                self._serve(key.data, events)
            elif isinstance(key.data, socket.socket):
                self._accept(key.data)
            elif key.fd == self._writing:
                self._saying = self._saying[os.write(self._writing, self._saying) :]
            elif not self._listen():
                return False
        return True

    def _listen(self) -> bool:
        said = os.read(self._reading, 1 << 16)
        *lines, self._heard = (self._heard + said).split(b"\n")
        for line in lines:
            self._heed(line)
        return bool(said)

    def say(self, *words: object) -> None:
        """Tells the other side."""
        self._saying += " ".join(map(str, words)).encode("ascii") + b"\n"

    # -- what the other side says ---------------------------------------------------------------

    def _heed(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        number, _, told = rest.partition(b" ")
        if not number.isdigit():
            return
        if word == b"open":
            self._connect(int(number), int(told))
            return
        channel = self._channels.get(int(number))
        if channel is None:
            return  # it was closed here meanwhile
        if word == b"data":
            channel.waiting += base64.b64decode(told)
        elif word == b"taken":
            channel.credit += int(told)
        elif word == b"end":
            channel.heard_end = True
            self._shut(channel)
        elif word == b"gone":
            self._drop(channel)

    def _connect(self, number: int, port: int) -> None:
        """To a server that hears this machine itself, or this machine's name alone."""
        for host in ("127.0.0.1", "::1", os.uname().nodename):
            try:
                end = socket.create_connection((host, port), CONNECTING)
            except OSError:
                continue
            self._begin(number, end)
            return
        self.say("gone", number)

    # -- connections of this side ---------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        try:
            end, _ = listener.accept()
        except OSError:
            return  # who called has hung up
        self._last += 1
        self.say("open", self._last, self._listeners[listener])
        self._begin(self._last, end)

    def _begin(self, number: int, end: socket.socket) -> None:
        end.setblocking(False)
        self._channels[number] = Channel(number, end)

    def _serve(self, channel: Channel, events: int) -> None:
        try:
            if events & _WRITE:
                count = channel.socket.send(channel.waiting)
                channel.waiting = channel.waiting[count:]
                self.say("taken", channel.number, count)
                self._shut(channel)
            if events & _READ and not channel.told_end:
                self._pass_on(channel)
        except BlockingIOError:
            return
        except OSError:
            self.say("gone", channel.number)
            self._drop(channel)

    def _pass_on(self, channel: Channel) -> None:
        data = channel.socket.recv(min(PIECE, channel.credit))
        if data:
            channel.credit -= len(data)
            self.say("data", channel.number, base64.b64encode(data).decode("ascii"))
        else:
            channel.told_end = True
            self.say("end", channel.number)
            self._forget(channel)

    def _shut(self, channel: Channel) -> None:
        """Once all has been passed on: nothing more comes."""
        if not channel.heard_end or channel.waiting or channel.is_shut:
            return
        channel.is_shut = True
        try:
            channel.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other end of it is gone
        self._forget(channel)

    def _forget(self, channel: Channel) -> None:
        if channel.is_over:
            self._drop(channel)

    def _drop(self, channel: Channel) -> None:
        self._channels.pop(channel.number, None)
        channel.socket.close()


def serve() -> int:
    """The node's end, at standard input and output."""
    relay = Relay(0, 1)
    relay.say("ready")
    relay.run()
    return 0
