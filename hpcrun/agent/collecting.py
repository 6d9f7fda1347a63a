"""Brings outputs/ and logs/ of a working folder to the run's files. Standard library only (3.8+).

A file is copied when it has not changed between two looks, or after a while all the same; logs are
copied at each look. What stands under its name is replaced as a whole, by a rename; long logs that
only grow are appended to. What the script removes goes. When everything has ended, all that differs
is copied, small files first.

Not brought, and told by name: pipes, sockets, devices, links that lead outside, what cannot be
read.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import (
    Callable,
    Dict,
    Generator,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from hpcrun.agent.copying import SourceError, copy, is_same
from hpcrun.agent.partial import Partial
from hpcrun.agent.place import Place, State, tidy
from hpcrun.agent.scanning import Found, link_text, scan
from hpcrun.agent.telling import Telling

BUDGET = 0.2
"""Seconds of a look, at most: the rest of its second is the training's and the spool's."""

FIRST_LOOK, LAST_LOOK = 2.0, 30.0
"""Seconds between two looks: the longer, the longer nothing changes."""

REST = 200
"""How many times as long as it took to look at all names nobody looks again."""

OVERDUE = 30.0
"""Seconds after which a file is copied that changes all the time."""

APPENDED = 1 << 16
"""Bytes from which on a log that grows is appended to, and not copied as a whole."""

PROOF = 4096
"""Bytes at both ends of what was brought that must be the same before more is appended."""

LARGE = 1 << 20
"""Bytes from which on a file is synced to the disk by itself."""

_OF_ONE_FILE = (
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EEXIST,
    errno.EINVAL,
    errno.EILSEQ,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
)
"""Errors of the history that other files need not have."""

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Errors of a name behind which something else stands by now: the next look sees it."""


class Due(NamedTuple):
    """What is to be copied. sure: nobody writes to it, as far as that can be seen."""

    name: str
    state: State
    link: bool
    sure: bool


class Collector:
    """Brings the files of one node.

    root: the working folder. files: the run's folder in the history. tell: takes a problem, a
    sentence. partial: is told of what is on its way. error: what kept the last look from writing;
    None if nothing did. stays: the files that could not be brought, for reasons of their own.
    bytes: those of the files brought so far.
    """

    def __init__(
        self,
        root: str,
        files: str,
        place: Place,
        tell: Callable[[str], None],
        partial: Optional[Partial] = None,
    ) -> None:
        self.error: Optional[OSError] = None
        self.stays: Dict[str, State] = {}
        self.bytes = 0
        self._root = root
        self._files = files
        self._place = place
        self._telling = Telling(tell)
        self._partial = partial
        self._brought: Dict[str, State] = {}
        self._changing: Dict[str, Tuple[State, float]] = {}
        self._slow: Dict[str, float] = {}
        self._act: Optional[Generator[int, None, None]] = None
        self._final = self._verified = self._settled = False
        self._pause = FIRST_LOOK
        self._next_look = 0.0

    def look(self, seconds: float = BUDGET) -> int:
        """Brings what is due, as far as the time reaches; gives the bytes."""
        now = time.monotonic()
        if self._act is None:
            if now < self._next_look:
                return 0
            self._begin(now)
        return self._go_on(now + seconds)

    def finish(self, seconds: float) -> Tuple[bool, int]:
        """All has ended: brings what differs, as far as the time reaches.

        (whether all is there that can be brought, how much was done: bytes and files). `error`
        tells what is in the way.
        """
        end, total = time.monotonic() + seconds, 0
        if not self._final:
            self._final = True
            self._drop_act()
            self.stays.clear()  # one more attempt
        while not self._settled:
            if self._act is None:
                due = self._due()
                if not due and self.error is None and self._settle():
                    break
                self._act = self._bring(due)
            total += self._go_on(end)
            if self._is_stopped():
                return False, total
        return True, total

    def waiting(self) -> Tuple[int, int]:
        """(files, bytes) that the history does not have yet."""
        found = scan(self._root, lambda name, why: None)
        every = {**found.files, **found.links}
        sizes = [state.size for name, state in every.items() if self._is_new(name, state)]
        return len(sizes), sum(sizes)

    # -- what is due --------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        due = self._due()
        took = time.monotonic() - now
        quiet = not due and not self._changing
        self._pause = min(self._pause * 1.5, LAST_LOOK) if quiet else FIRST_LOOK
        self._next_look = now + max(self._pause, took * REST)
        self._act = self._bring(due)

    def _due(self) -> List[Due]:
        """What is to be copied now, small files first."""
        self.error = None
        found = scan(self._root, self._refuse)
        self._remove_gone(found)
        new = [Due(n, s, True, True) for n, s in found.links.items() if self._is_new(n, s)]
        now = time.monotonic()
        for name, state in found.files.items():
            if not self._is_new(name, state):
                self._changing.pop(name, None)
                continue
            seen, since = self._changing.setdefault(name, (state, now))
            sure = self._final or (seen == state and now > since)
            patience = 0.0 if name.startswith("logs/") else OVERDUE
            late = now - since >= max(patience, REST * self._slow.get(name, 0.0))
            if sure or late:
                new.append(Due(name, state, False, sure))
            else:
                self._changing[name] = (state, since)
        if self._partial is not None:
            files = found.files.items()
            self._partial.look(name for name, state in files if state != self._brought.get(name))
        return sorted(new, key=lambda due: due.state.size)

    def _is_new(self, name: str, state: State) -> bool:
        return state not in (self._brought.get(name), self.stays.get(name))

    def _remove_gone(self, found: Found) -> None:
        if not found.whole:
            return
        gone = [n for n in self._brought if n not in found.files and n not in found.links]
        for name in gone:
            try:
                if self._place.holds(name, self._brought[name]):
                    self._place.remove(name)
                del self._brought[name]
            except OSError as error:
                self.error = error
        for name in [n for n in self._changing if n not in found.files]:
            del self._changing[name]

    # -- copying ------------------------------------------------------------------------------

    def _go_on(self, end: float) -> int:
        """Goes on until that time; gives the bytes, and one for each file."""
        total = 0
        while self._act is not None:
            try:
                total += next(self._act)
            except StopIteration:
                self._act = None
            except OSError as error:
                self.error = error
                self._drop_act()
            if time.monotonic() >= end:
                break
        return total

    def _is_stopped(self) -> bool:
        """Whether the time was over, or something is in the way."""
        return self._act is not None or self.error is not None

    def _drop_act(self) -> None:
        if self._act is not None:
            self._act.close()
            self._act = None

    def _bring(self, due: Sequence[Due]) -> Generator[int, None, None]:
        """Copies one after the other. OSError of the history."""
        for one in due:
            name, begun = one.name, time.monotonic()
            try:
                if one.link:
                    self._bring_link(name, one.state.mtime)
                    self._brought[name] = one.state
                else:
                    yield from self._bring_file(one)
            except SourceError as error:
                cause = error.__cause__
                assert isinstance(cause, OSError)
                if cause.errno not in _GONE:
                    self._stay(one, f"it cannot be read: {cause.strerror}")
                continue
            except OSError as error:
                if error.errno not in _OF_ONE_FILE:
                    raise
                self._stay(one, f"it cannot be written: {error.strerror}")
                continue
            self.stays.pop(name, None)
            self._changing.pop(name, None)
            took = time.monotonic() - begun
            if took > BUDGET:
                self._slow[name] = took
            yield 1

    def _bring_file(self, due: Due) -> Generator[int, None, None]:
        source = self._open(due.name)
        try:
            status = os.fstat(source)
            state = State.of(status)
            if not due.sure and not _is_long_log(due.name, state):
                # A write in this very tick of the clock would not show: it is copied once more.
                state = state._replace(mtime=state.mtime - 1)
            known = self._brought.get(due.name)
            if known is None and (yield from self._stands(due.name, state, source)):
                self._brought[due.name] = state
                return
            if known is not None and self._only_grew(due.name, known, state, source):
                yield from self._append(due.name, known, state, source)
            else:
                yield from self._copy(due.name, state, source, status.st_mode)
            self._brought[due.name] = state
            self.bytes += state.size
        finally:
            os.close(source)

    def _open(self, name: str) -> int:
        """SourceError: also where something else than a file stands there by now."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            source = os.open(os.path.join(self._root, name), flags)
            if not stat.S_ISREG(os.fstat(source).st_mode):
                os.close(source)
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            return source
        except OSError as error:
            raise SourceError from error

    def _stands(self, name: str, state: State, source: int) -> Generator[int, None, bool]:
        """Whether a collector before this one has brought it."""
        for path in self._place.may_stand(name, state):
            target = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if (yield from is_same(source, target)):
                    return True
            finally:
                os.close(target)
        return False

    def _copy(self, name: str, state: State, source: int, mode: int) -> Iterator[int]:
        _remove(self._place.aside)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            target = os.open(self._place.aside, flags, 0o666 | (mode & 0o111))
            try:
                yield from copy(source, target, 0, state.size)
                _finish(target, state)
            finally:
                os.close(target)
            self._place.publish(name)
        finally:
            _remove(self._place.aside)

    def _only_grew(self, name: str, known: State, state: State, source: int) -> bool:
        """Whether it is a log whose beginning is what was brought."""
        grew = known.inode == state.inode and known.size < state.size
        if not (grew and _is_long_log(name, known) and self._place.holds(name, known)):
            return False
        target = os.open(self._place.path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return all(
                os.pread(source, PROOF, place) == os.pread(target, PROOF, place)
                for place in (0, known.size - PROOF)
            )
        finally:
            os.close(target)

    def _append(self, name: str, known: State, state: State, source: int) -> Iterator[int]:
        path = self._place.path(name)
        target = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            yield from copy(source, target, known.size, state.size)
            _finish(target, state)
        finally:
            os.close(target)

    def _bring_link(self, name: str, mtime: int) -> None:
        try:
            text = link_text(self._root, self._files, name)
        except OSError as error:
            raise SourceError from error
        if text is None:
            self._refuse(name, "the link leads outside of outputs/ and logs/")
        elif text:
            _remove(self._place.aside)
            os.symlink(text, self._place.aside)
            os.utime(self._place.aside, ns=(mtime, mtime), follow_symlinks=False)
            self._place.publish(name)

    # -- telling ------------------------------------------------------------------------------

    def _settle(self) -> bool:
        """The last look has found nothing new; tells whether that is all.

        What another node took at the very moment that it was brought is brought once more.
        """
        try:
            if self._place.first and not self._verified:
                self._verified = True
                lost = [n for n, s in self._brought.items() if not self._place.holds(n, s)]
                for name in lost:
                    del self._brought[name]
                if lost:
                    return False
            if self._place.first:
                for name in tidy(self._files):
                    self._telling.say("another node has a file of this name", name)
        except OSError as error:
            self.error = error
            return False
        self._telling.sum_up()
        self._settled = True
        return True

    def _stay(self, due: Due, why: str) -> None:
        self.stays[due.name] = due.state
        self._refuse(due.name, why)

    def _refuse(self, name: str, why: str) -> None:
        self._telling.say(f"not brought from {os.uname().nodename}, {why}", name)


def _is_long_log(name: str, state: State) -> bool:
    return name.startswith("logs/") and state.size >= APPENDED


def _finish(target: int, state: State) -> None:
    """Gives the copy the file's time; a large one is waited for until it is on the disk."""
    if state.size >= LARGE:
        os.fsync(target)
    os.utime(target, ns=(state.mtime, state.mtime))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
