"""snapshot: the source that a run worked on."""

from __future__ import annotations

from pathlib import Path

import click

from hpcrun.cli import served
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, say, size_of
from hpcrun.manifest import Entry
from hpcrun.snapshot import restore as lay_out
from hpcrun.workflow.code import code_of
from hpcrun.workflow.session import open_session


@click.command()
@click.argument("run")
@click.option(
    "--restore",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Lay it out in FOLDER, which is new or empty.",
)
@json_option
@click.pass_obj
def snapshot(workspace: str | None, run: str, restore: Path | None, as_json: bool) -> None:
    """List the source of a run as it was submitted, or lay it out again."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    code = code_of(session.workspace, session.store.read(run_id, user))
    if restore is not None:
        digests = {file.path: file.sha256 for file in code.manifest.files}
        with served.written(restore, digests) as place:
            lay_out(code.manifest, code.objects, place)
    if as_json:
        print_json(
            {
                "run_id": run_id,
                "digest": code.manifest.digest,
                "restored": None if restore is None else str(restore),
                "files": [entry._asdict() for entry in code.manifest.entries],
            }
        )
    elif restore is not None:
        entries, size = len(code.manifest.entries), size_of(code.manifest.total_size)
        say(f"{entries} files and links ({size}) in {restore}")
    else:
        rows = [
            (e.path, size_of(e.size) if isinstance(e, Entry) else f"link to {e.target}")
            for e in code.manifest.entries
        ]
        print_table(("file", "size"), rows)
