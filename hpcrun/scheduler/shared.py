"""One answer of a scheduler for all of a user's hpcrun processes.

The answers lie in files of the user's cache folder, failures too: a controller that is down is
asked once, not by everybody. The lock only spares questions: where there is none, each asks.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hpcrun.errors import SchedulerError
from hpcrun.ports import JobId, JobWord
from hpcrun.scheduler.command import QUIET, say_waiting
from hpcrun.state import Cause, State

FORMAT = 2

LOCK_TIMEOUT = 30.0
"""Seconds for which another process's question is waited for; then this one asks by itself."""

T = TypeVar("T")

KEPT = 200
"""Jobs of which more was asked than the queue tells, and the answers are kept."""

_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class _Answer:
    """What a scheduler said.

    asked: Unix seconds, before the question. error: in place of jobs. changed: when an answer was
    last another one than that before it. too_little: it does not say what is sought.
    """

    asked: float
    jobs: Mapping[JobId, JobWord]
    error: SchedulerError | None = None
    changed: float = 0.0
    too_little: bool = False

    def after(self, before: _Answer | None) -> _Answer:
        """The same, knowing what was said before."""
        same = before is not None and before.changed and self._says() == before._says()
        return replace(self, changed=before.changed if before and same else self.asked)

    def _says(self) -> object:
        """Estimates apart, which are new each time."""
        error = self.error.message if self.error is not None else ""
        return error, {job_id: replace(word, starts=None) for job_id, word in self.jobs.items()}

    def lasts(self, pace: float, relaxed: float) -> float:
        """Seconds for which it is good enough: half of the time for which nothing has changed."""
        return min(max(pace, (self.asked - self.changed) / 2), max(pace, relaxed))

    def serves(self, pace: float, relaxed: float, now: float) -> bool:
        """Whether it is young enough; one from the future is a clock set back."""
        return not self.too_little and now - self.lasts(pace, relaxed) <= self.asked <= time.time()

    def told(self) -> Mapping[JobId, JobWord]:
        if self.error is not None:
            raise self.error
        return self.jobs


def shared_jobs(
    ask: Callable[[], Mapping[JobId, JobWord]], file: Path, pace: float, relaxed: float = 0.0
) -> Mapping[JobId, JobWord]:
    """What `ask` gives, at most `pace` seconds old; the SchedulerError it raised as well.

    file: where the answer is kept. pace: seconds; with 0 the question is begun after this call.
    relaxed: seconds that an answer may be old, little by little, while nothing changes.
    """

    def keep(answer: _Answer) -> None:
        _write(file, _encode(answer))

    return _shared(ask, file, pace, relaxed, lambda: _read(file, _decode), keep).told()


def shared_lives(
    ask: Callable[[], Sequence[JobWord]],
    file: Path,
    job_id: JobId,
    pace: float,
    relaxed: float = 0.0,
    is_enough: Callable[[Sequence[JobWord]], bool] = lambda lives: True,
) -> Sequence[JobWord]:
    """All that is known of a job, as `ask` gives it; see `shared_jobs`.

    file: where the answers on several jobs are kept. is_enough: whether one that was given before
    says what is sought.
    """

    def kept() -> _Answer | None:
        answer = (_read(file, _decode_all) or {}).get(job_id)
        enough = answer is None or answer.error is not None or is_enough(_in_order(answer.jobs))
        # What is too little is kept all the same for who asked at the same time.
        return answer if answer is None or enough else replace(answer, too_little=True)

    def keep(answer: _Answer) -> None:
        others = _read(file, _decode_all) or {}
        by_age = sorted({**others, job_id: answer}.items(), key=lambda item: item[1].asked)
        told = {key: _encode(one) for key, one in by_age[-KEPT:]}
        _write(file, {"format": FORMAT, "lives": told})

    def numbered() -> Mapping[JobId, JobWord]:
        return {JobId(str(number)): word for number, word in enumerate(ask())}

    return _in_order(_shared(numbered, file, pace, relaxed, kept, keep).told())


def _in_order(numbered: Mapping[JobId, JobWord]) -> Sequence[JobWord]:
    return [numbered[key] for key in sorted(numbered, key=int)]


def _shared(
    ask: Callable[[], Mapping[JobId, JobWord]],
    file: Path,
    pace: float,
    relaxed: float,
    kept: Callable[[], _Answer | None],
    keep: Callable[[_Answer], None],
) -> _Answer:
    called = time.time()
    answer = kept()
    if answer is None or not answer.serves(pace, relaxed, called):
        with _locked(file):
            before = kept()
            # Whoever held the lock meanwhile asked for this process too.
            now = time.time()
            if before is not None and (
                called <= before.asked <= now or before.serves(pace, relaxed, now)
            ):
                return before
            answer = _asked(ask).after(before)
            keep(answer)
    return answer


def forget(file: Path) -> None:
    """Makes the next process ask anew: what the kept answer tells has just been changed."""
    try:
        file.unlink(missing_ok=True)
    except OSError:
        pass  # it grows old by itself


def _asked(ask: Callable[[], Mapping[JobId, JobWord]]) -> _Answer:
    asked = time.time()
    try:
        return _Answer(asked, ask())
    except SchedulerError as error:
        return _Answer(asked, {}, error)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Alone with the file, if that can be had."""
    from filelock import FileLock, Timeout

    lock = FileLock(
        file.with_name(f"{file.name}.lock"), LOCK_TIMEOUT, mode=0o600, fallback_to_soft=False
    )
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=min(QUIET, LOCK_TIMEOUT))
        except Timeout:
            say_waiting("another process of yours asks it, and shares the answer")
            lock.acquire()
    except OSError:
        pass  # no lock here, or a holder that hangs: a question more does no harm
    try:
        yield
    finally:
        lock.release()


def _read(file: Path, decode: Callable[[Any], T]) -> T | None:
    """What is kept."""
    import json

    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as stream:
            if not _is_ours(os.fstat(stream.fileno())):
                return None
            return decode(json.loads(stream.read(_LARGEST)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_ours(status: os.stat_result) -> bool:
    """A file that nobody else could have written."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & 0o022
        and status.st_size <= _LARGEST
    )


def _write(file: Path, value: Mapping[str, Any]) -> None:
    """Keeps answers; a failure only costs the next process a question."""
    import json

    aside = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
    try:
        opened = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(opened, "w", encoding="utf-8") as stream:
            json.dump(value, stream, separators=(",", ":"))
        os.replace(aside, file)
    except OSError:
        try:
            aside.unlink(missing_ok=True)
        except OSError:
            pass


def _encode(answer: _Answer) -> Mapping[str, Any]:
    times = {"format": FORMAT, "asked": answer.asked, "changed": answer.changed}
    if answer.error is not None:
        error = answer.error
        told = {"message": error.message, "hint": error.hint, "transient": error.transient}
        return {**times, "error": told}
    return {**times, "jobs": {job_id: vars(word) for job_id, word in answer.jobs.items()}}


def _decode(value: Any) -> _Answer:
    """ValueError, TypeError, KeyError or AttributeError if it is no answer of this format."""
    if value["format"] != FORMAT:
        raise ValueError(value["format"])
    asked, changed = float(value["asked"]), float(value["changed"])
    if "error" in value:
        told = value["error"]
        error = SchedulerError(str(told["message"]), str(told["hint"]), told["transient"])
        return _Answer(asked, {}, error, changed)
    jobs = {JobId(key): _word(told) for key, told in value["jobs"].items()}
    return _Answer(asked, jobs, None, changed)


def _decode_all(value: Any) -> Mapping[JobId, _Answer]:
    """The answers on several jobs. Errors as of `_decode`."""
    if value["format"] != FORMAT:
        raise ValueError(value["format"])
    return {JobId(key): _decode(told) for key, told in value["lives"].items()}


def _word(told: Mapping[str, Any]) -> JobWord:
    cause = told["cause"]
    return JobWord(
        **{
            **told,
            "state": State(told["state"]),
            "cause": None if cause is None else Cause(cause),
            "nodes": tuple(told["nodes"]),
        }
    )
