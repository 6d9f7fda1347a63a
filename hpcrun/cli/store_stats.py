"""store stats: what a run history takes up."""

from __future__ import annotations

import sys

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, say, size_of
from hpcrun.store import FileStore
from hpcrun.workflow.care.usage import Areas, HistoryUsage, Usage, largest, total, usage_of
from hpcrun.workflow.session import open_session

AREAS = (
    "records",
    "sealed",
    "files",
    "snapshots",
    "index",
    "models",
    "sdk",
    "environments",
    "other",
)


@click.command("stats")
@click.option("-u", "--user", help="Only of this user.")
@json_option
@click.pass_obj
def stats(workspace: str | None, user: str | None, as_json: bool) -> None:
    """Tell what the history takes up: by user, by experiment, and its largest runs.

    Sizes are what is allocated on the disk; apparent ones, which count holes too, stand beside
    the total. A file with several names counts once.
    """
    session = open_session(given=workspace)
    found = usage_of(session.store, _users(session.store, user), _progress)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if as_json:
        print_json(_object(found))
        return
    _table("user", found.users, AREAS)
    say()
    _table("experiment", found.experiments, AREAS[:3])
    say()
    rows = [(run_id, *_cells(usage)) for run_id, usage in largest(found.runs)]
    print_table(("largest runs", "inodes", "on disk", "apparent"), rows)
    if found.unreadable:
        say(f"{found.unreadable} folders could not be read, and are not in it", err=True)


def _users(store: FileStore, user: str | None) -> list[str]:
    names = store.users()
    if user is None:
        return names
    return [name for name in names if name == user]


def _progress(count: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{count} files and folders")
        sys.stderr.flush()


def _table(what: str, usages: dict[str, Areas], areas: tuple[str, ...]) -> None:
    order = sorted(usages, key=lambda name: (-total(usages[name]).allocated, name))
    shown = [area for area in areas if any(area in of for of in usages.values())]
    rows = [
        (
            name,
            *_cells(total(usages[name])),
            *(size_of(usages[name].get(area, Usage()).allocated) for area in shown),
        )
        for name in order
    ]
    print_table((what, "inodes", "on disk", "apparent", *shown), rows)


def _cells(usage: Usage) -> tuple[str, str, str]:
    return str(usage.inodes), size_of(usage.allocated), size_of(usage.apparent)


def _object(found: HistoryUsage) -> dict[str, object]:
    return {
        "users": [{"user": name, **_areas(areas)} for name, areas in found.users.items()],
        "experiments": [
            {"experiment": name, **_areas(areas)} for name, areas in found.experiments.items()
        ],
        "runs": [{"run_id": name, **usage._asdict()} for name, usage in largest(found.runs)],
        "unreadable": found.unreadable,
    }


def _areas(areas: Areas) -> dict[str, object]:
    parts = {area: areas.get(area, Usage())._asdict() for area in AREAS}
    return {**total(areas)._asdict(), "areas": parts}
