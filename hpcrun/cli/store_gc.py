"""store gc: what no run needs, and removing it."""

from __future__ import annotations

import time

import click

from hpcrun.cli.asking import agreed, tell_nothing_was_deleted
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, say, size_of
from hpcrun.workflow.care.garbage import Cleaning, clean_up, plan_cleaning
from hpcrun.workflow.session import open_session

WORDS = {
    "snapshot": "snapshots that no run needs",
    "leftover": "leftovers of processes that were killed",
    "journals": "journals that were sealed days ago",
    "sdk": "versions of hpcrun that no unsealed run uses",
}


@click.command("gc")
@click.option("-y", "--yes", is_flag=True, help="Delete without being asked.")
@json_option
@click.pass_obj
def collect_garbage(workspace: str | None, yes: bool, as_json: bool) -> None:
    """Delete what none of your runs needs; runs, their files and models stay.

    First says what would go and how much it takes up; without --yes it then asks, and where nobody
    can be asked it deletes nothing. What was made or wanted in the last two days stays.
    """
    session = open_session(given=workspace)
    now = time.time()
    cleaning = plan_cleaning(session, now)
    if not as_json:
        _preview(cleaning)
        yes = bool(cleaning.garbage) and agreed(yes, f"delete {cleaning.files} files for good?")
    if yes:
        cleaning = clean_up(session, cleaning, now)
    if as_json:
        print_json(_object(cleaning, yes))
        return
    if yes:
        say(f"deleted {cleaning.files} files, {size_of(cleaning.bytes)}")
        for problem in cleaning.problems:
            say(problem, err=True)
    elif cleaning.garbage:
        tell_nothing_was_deleted()


def _preview(cleaning: Cleaning) -> None:
    rows = []
    for what, words in WORDS.items():
        part = Cleaning([each for each in cleaning.garbage if each.what == what])
        if part.garbage:
            rows.append((words, str(part.files), size_of(part.bytes)))
    if rows:
        print_table(("what", "files", "size"), rows)
        say(f"{cleaning.files} files, {size_of(cleaning.bytes)}")
    else:
        say("there is nothing that no run needs")
    for problem in cleaning.problems:
        say(problem, err=True)


def _object(cleaning: Cleaning, deleted: bool) -> dict[str, object]:
    return {
        "deleted": deleted,
        "garbage": [each._asdict() for each in cleaning.garbage],
        "files": cleaning.files,
        "bytes": cleaning.bytes,
        "problems": list(cleaning.problems),
    }
