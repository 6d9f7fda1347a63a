"""Every error hpcrun raises, with its exit code. Standard library only (Python 3.8+).

HpcrunError          1    something hpcrun itself did wrong
├─ ConfigError       2    what you asked is malformed
├─ SiteError         2    the site file is malformed
├─ PlanError         3    this target cannot give what you asked
├─ TemplateError     4    a template is wrong, or loses a directive
├─ SnapshotError     5    the source folder could not be gathered or copied
├─ TransportError    6    the cluster could not be reached
├─ SchedulerError    7    the scheduler refused, or did not answer
├─ StoreError        8    the run history could not be read or written
├─ RunNotFound       9    no run, or more than one, has this name
├─ ForeignRun       10    the run is another user's, and only they can change it
├─ BuildError       11    an environment could not be built
├─ RunFailed        20    the run that was waited for ended as Failed
├─ RunCanceled      21    the run that was waited for ended as Canceled
└─ WaitTimeout      22    the run was still going when the time to wait was over
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Optional, Sequence, Tuple


class Problem(NamedTuple):
    """One thing that is wrong with a file: where it stands, what it is, what to do."""

    message: str
    hint: str = ""
    file: str = ""
    line: Optional[int] = None

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.line is not None else "")
        text = f"{place}: {self.message}" if place else self.message
        return f"{text} ({self.hint})" if self.hint else text


class HpcrunError(Exception):
    """The root of all errors.

    message: one sentence that says what is wrong, with the numbers.
    hint: what to do about it; may be empty.
    transient: whether the same call may succeed later without any change.
    """

    exit_code = 1
    meaning = "something hpcrun itself did wrong"

    def __init__(self, message: str, hint: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.transient = transient

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    @property
    def problems(self) -> Sequence[Problem]:
        """The single problems behind this error, at least one."""
        return (Problem(self.message, self.hint),)


class _FileError(HpcrunError):
    """An error made of problems, each with its place, a file's in the order of its lines."""

    def __init__(self, *problems: Problem) -> None:
        problems = _in_order(problems)
        super().__init__("\n".join(str(problem) for problem in problems))
        self._problems: Tuple[Problem, ...] = problems

    @property
    def problems(self) -> Sequence[Problem]:
        return self._problems


def _in_order(problems: Iterable[Problem]) -> Tuple[Problem, ...]:
    """Each once, file by file and line by line, those without a place last."""
    once = list(dict.fromkeys(problems))
    files = [problem.file for problem in once]
    return tuple(sorted(once, key=lambda p: (not p.file, files.index(p.file), p.line or 0)))


class ConfigError(_FileError):
    """What was asked is malformed; all problems of the file at once."""

    exit_code = 2
    meaning = "what you asked (run.yaml, arguments, options) is malformed"


class SiteError(_FileError):
    """The site file is malformed; all problems of the file at once."""

    exit_code = 2
    meaning = "the site file is malformed"


class PlanError(_FileError):
    """The target cannot give what was asked; all contradictions at once."""

    exit_code = 3
    meaning = "the target cannot give what you asked"


class TemplateError(_FileError):
    """A template is wrong, or loses a directive of the plan."""

    exit_code = 4
    meaning = "a template is wrong, or loses a directive"


class SnapshotError(HpcrunError):
    """The source folder could not be gathered or copied."""

    exit_code = 5
    meaning = "the source folder could not be gathered or copied"


class TransportError(HpcrunError):
    """The cluster could not be reached."""

    exit_code = 6
    meaning = "the cluster could not be reached"


class CutSubmission(TransportError):
    """A submission that the connection was lost from: there is no job, unless the message says that
    this is not known. run_id: the run that it was to be."""

    def __init__(self, message: str, hint: str = "", *, run_id: str) -> None:
        super().__init__(message, hint, transient=True)
        self.run_id = run_id


class SchedulerError(HpcrunError):
    """The scheduler refused, or did not answer; its own words are in the message."""

    exit_code = 7
    meaning = "the scheduler refused, or did not answer"


class OutcomeUnknown(SchedulerError):
    """The scheduler may have the job or not: it is looked up before anything else is done."""


class StoreError(HpcrunError):
    """The run history could not be read or written."""

    exit_code = 8
    meaning = "the run history could not be read or written"


class RunNotFound(HpcrunError):
    """No run, or more than one, goes by this name."""

    exit_code = 9
    meaning = "no run, or more than one, has this name"


class ForeignRun(HpcrunError):
    """The run is another user's, and only they can change it."""

    exit_code = 10
    meaning = "the run is another user's, and only they can change it"


class BuildError(HpcrunError):
    """An environment could not be built; the builder's last words are in the message."""

    exit_code = 11
    meaning = "an environment could not be built"


class RunFailed(HpcrunError):
    """The run that was waited for ended as Failed (Azure ML's ActivityFailedException)."""

    exit_code = 20
    meaning = "the run that was waited for ended as Failed"


class RunCanceled(HpcrunError):
    """The run that was waited for ended as Canceled."""

    exit_code = 21
    meaning = "the run that was waited for ended as Canceled"


class WaitTimeout(HpcrunError):
    """The run was still going when the time to wait was over."""

    exit_code = 22
    meaning = "the run was still going when the time to wait was over"
