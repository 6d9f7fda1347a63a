"""store check: what is wrong with a run history, and mending what is safe to mend."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say, size_of
from hpcrun.errors import ForeignRun, HpcrunError, StoreError
from hpcrun.workflow.care.check import Asked, Silent, check
from hpcrun.workflow.care.finding import Finding, Grade, MakeIndex, Reseal
from hpcrun.workflow.care.mend import mend
from hpcrun.workflow.session import Session, open_session


@click.command("check")
@click.argument("runs", nargs=-1)
@click.option("-u", "--user", help="Another user's history: it is only read.")
@click.option("--digests", is_flag=True, help="Read every file, and compare what it holds.")
@click.option("--mend", "mends", is_flag=True, help="Mend what is safe to mend.")
@json_option
@click.pass_obj
def check_store(
    workspace: str | None,
    runs: tuple[str, ...],
    user: str | None,
    digests: bool,
    mends: bool,
    as_json: bool,
) -> None:
    """Look for all that is wrong: in your whole history, or with RUNs.

    Nothing is changed without --mend, which says of each thing what it did. The exit code is 8 if
    something is wrong and stays so.
    """
    session = open_session(given=workspace)
    asked = _asked(session, runs, user)
    for each in asked if mends else ():
        if each.user != session.user:
            message = f"the history of {each.user} is theirs to mend"
            raise ForeignRun(message, "leave out --mend, or ask them")
    found: list[tuple[Finding, str | None]] = []
    with _shown() as progress:
        findings = (f for each in asked for f in check(session, each, digests, progress))
        for finding, mended in _mended(session, findings, mends):
            found.append((finding, mended))
            if not as_json:
                progress.clear()
                _tell(finding, mended)
    if as_json:
        print_json([_object(finding, mended) for finding, mended in found])
    wrong = [f for f, mended in found if f.grade is Grade.WRONG and mended is None]
    if wrong:
        some = [finding for finding in wrong if finding.mend is not None]
        hint = f"--mend mends {len(some)} of them" if some and not mends else ""
        are = "thing is" if len(wrong) == 1 else "things are"
        raise StoreError(f"{len(wrong)} {are} wrong in {session.workspace}", hint)
    if not as_json:
        say("nothing is wrong" if not any(m for _, m in found) else "nothing is wrong any more")


def _asked(session: Session, runs: tuple[str, ...], user: str | None) -> list[Asked]:
    if not runs:
        return [Asked(user or session.user)]
    by_user: dict[str, list[str]] = {}
    for run in runs:
        owner, run_id = session.store.find(run, user)
        by_user.setdefault(owner, []).append(run_id)
    return [Asked(owner, ids) for owner, ids in by_user.items()]


def _mended(
    session: Session, findings: Iterable[Finding], mends: bool
) -> Iterator[tuple[Finding, str | None]]:
    """Each finding, and what was done about it. What was done once is not done again."""
    done: dict[object, str] = {}
    # A list: what is mended may change what is being looked at.
    for finding in list(findings) if mends else findings:
        if not mends or finding.mend is None:
            yield finding, None
            continue
        is_named = isinstance(finding.mend, Reseal | MakeIndex)  # it says itself where
        what = (finding.mend, "" if is_named else finding.path)
        if what not in done:
            try:
                done[what] = mend(session, finding)
            except HpcrunError as error:
                yield finding._replace(cure=f"it could not be mended: {error}"), None
                continue
        yield finding, done[what]


def _tell(finding: Finding, mended: str | None) -> None:
    word = "note" if finding.grade is Grade.NOTE else "wrong"
    say(f"{word}: {finding.path}: {finding.message}")
    if mended is not None:
        say(f"mended: {mended}")
    elif finding.cure:
        say(f"    {finding.cure}")


def _object(finding: Finding, mended: str | None) -> dict[str, object]:
    return {
        "grade": str(finding.grade),
        "subject": finding.subject,
        "run_id": finding.run_id,
        "path": finding.path,
        "message": finding.message,
        "cure": finding.cure or None,
        "mendable": finding.mend is not None,
        "mended": mended,
    }


class _Silent(Silent):
    """Nobody looks."""

    def clear(self) -> None:
        """Takes away what is shown."""


class _Line(_Silent):
    """A line at a terminal that tells how far it is, at most five times a second."""

    def __init__(self) -> None:
        self._begun = self._told = time.monotonic()
        self._bytes = 0
        self._runs = (0, 0)

    def runs(self, done: int, of: int) -> None:
        """So many runs of all are done."""
        self._runs = done, of
        self._tell()

    def read(self, count: int) -> None:
        """So many bytes more were read."""
        self._bytes += count
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told < 0.2:
            return
        self._told = now
        read = f", {size_of(self._bytes)} read" if self._bytes else ""
        done, of = self._runs
        sys.stderr.write(f"\r\x1b[K{done} of {of} runs{read}, {now - self._begun:.0f} s")
        sys.stderr.flush()

    def clear(self) -> None:
        """Takes the line away."""
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


@contextlib.contextmanager
def _shown() -> Iterator[_Silent]:
    """Progress for who looks at standard error."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    line = _Line()
    try:
        yield line
    finally:
        line.clear()
