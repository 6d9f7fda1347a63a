"""submit, render, explain, schema: what is asked, shown or sent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli import served
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, run_object, say, size_of
from hpcrun.config import After, RunConfiguration, load_config
from hpcrun.errors import ConfigError, Problem
from hpcrun.manifest import Manifest
from hpcrun.reading import Origin, Read
from hpcrun.record import RunRecord
from hpcrun.snapshot import read_manifest, scan
from hpcrun.workflow.due import seal_later
from hpcrun.workflow.prepare import Prepared
from hpcrun.workflow.session import Session, open_session

if TYPE_CHECKING:
    from hpcrun.workflow.elsewhere import Elsewhere


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What says which run is meant: the same for submit, render and explain."""
    for option in reversed(
        (
            click.option(
                "-f", "--file", default="run.yaml", show_default=True, help="The run file."
            ),
            click.option(
                "-c", "--runconfig", metavar="NAME", help="A .runconfig instead, by name."
            ),
            click.option("-t", "--target", metavar="SITE/TARGET", help="Where to run it."),
            click.option(
                "--set",
                "overrides",
                multiple=True,
                metavar="KEY=VALUE",
                help="Change a value of the file, such as resources.time=2h.",
            ),
            click.option(
                "--after",
                multiple=True,
                metavar="RUN",
                help="Wait until that run has completed; several: all of them.",
            ),
            click.option(
                "--templates", metavar="FOLDER", help="Templates that come before all others."
            ),
            click.option(
                "--run-id", metavar="ID", help="An id of your own: EXPERIMENT_SECONDS_8HEX."
            ),
            click.option(
                "--force", is_flag=True, help="Write also directives that the site forbids."
            ),
            click.argument("arguments", nargs=-1, type=click.UNPROCESSED),
        )
    ):
        command = option(command)
    return command


class _Asking(click.Command):
    """A command that takes words for the script behind `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        behind = len(args) - args.index("--") - 1 if "--" in args else 0
        rest = super().parse_args(ctx, args)
        words = ctx.params["arguments"]
        for word in words[: len(words) - behind]:
            if word.endswith((".yaml", ".yml")) and Path(word).is_file():
                message = f"{word} would be a word for the script, and the file be run.yaml"
                hint = f"-f {word} submits it; -- {word} gives it to the script"
                raise ConfigError(Problem(message, hint))
        return rest


@click.command(cls=_Asking)
@request_options
@click.option("--follow", is_flag=True, help="Follow the output until the run has ended.")
@click.option("--parent", hidden=True)
@json_option
@click.pass_obj
def submit(
    workspace: str | None,
    /,
    follow: bool,
    parent: str | None,
    as_json: bool,
    **request: Any,
) -> int:
    """Submit a run. Further arguments for the script stand after `--`."""
    if (place := _elsewhere(workspace, **request)) is not None:
        return _send(place, "submit", follow=follow, as_json=as_json, **request)
    session, prepared = prepare(workspace, **request)
    return _tell_submitted(session, session.submit(prepared, parent), follow, as_json)


@click.command()
@click.argument("run")
@click.option("--resume-from", metavar="PATH", help="The checkpoint to begin with.")
@click.option("--follow", is_flag=True, help="Follow the output until the run has ended.")
@json_option
@click.pass_obj
def resubmit(
    workspace: str | None, run: str, resume_from: str | None, follow: bool, as_json: bool
) -> int:
    """Submit a run that has ended once more: the same run, script and source; its outputs and
    metrics go on."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    record = session.resubmit(session.store.read(run_id, user), resume_from)
    return _tell_submitted(session, record, follow, as_json)


def _tell_submitted(session: Session, record: RunRecord, follow: bool, as_json: bool) -> int:
    """Says which job a run has now, and follows it if that is asked; gives the exit code."""
    paths = session.store.paths(record.run_id)
    seal_later(session)
    if as_json and not follow:
        print_json(run_object(record, paths))
        return 0
    tasks = record.request.get("tasks")
    told = f"{tasks['count']} tasks" if tasks else f"job {record.job_id}"
    say(f"submitted run {record.run_id} as {told} to {record.target}", err=as_json)
    if not follow:
        how = "hpcrun list --children" if tasks else f"hpcrun logs -f {record.run_id}"
        say(f"follow it with: {how}", err=as_json)
        return 0
    from hpcrun.cli.logs import Followed, follow_to_end

    # From its first attempt on: quick ones are over before the first look.
    wanted = Followed(attempt=record.attempt.attempt._replace(restart=0))
    return follow_to_end(session, record.run_id, as_json, wanted)


@click.command(cls=_Asking)
@request_options
@json_option
@click.pass_obj
def render(workspace: str | None, /, as_json: bool, **request: Any) -> int:
    """Print the script that submit would send, byte for byte (with the same --run-id)."""
    if (place := _elsewhere(workspace, **request)) is not None:
        return _send(place, "render", as_json=as_json, **request)
    _, prepared = prepare(workspace, **request)
    if as_json:
        print_json({"run_id": prepared.plan.run_id, "script": prepared.script.text})
    else:
        sys.stdout.buffer.write(prepared.script.text.encode("utf-8", "surrogateescape"))
    return 0


@click.command(cls=_Asking)
@request_options
@click.option("--files", is_flag=True, help="Also list the files that the snapshot would hold.")
@json_option
@click.pass_obj
def explain(workspace: str | None, /, files: bool, as_json: bool, **request: Any) -> int:
    """Print every resolved value and where it came from."""
    if (place := _elsewhere(workspace, **request)) is not None:
        return _send(place, "explain", files=files, as_json=as_json, **request)
    session, prepared = prepare(workspace, **request)
    choices = prepared.plan.choices
    manifest = _manifest(session, prepared) if files else None
    if as_json:
        value: dict[str, Any] = {"choices": [choice._asdict() for choice in choices]}
        if manifest is not None:
            value["files"] = [{"path": entry.path, "size": entry.size} for entry in manifest.files]
        print_json(value)
        return 0
    print_table(("value", "is", "from"), choices)
    if manifest is not None:
        say(f"\n{len(manifest.entries)} files, {size_of(manifest.total_size)}; largest first")
        rows = sorted(manifest.files, key=lambda entry: (-entry.size, entry.path))
        print_table(("file", "size"), [(entry.path, size_of(entry.size)) for entry in rows])
    return 0


def _manifest(session: Session, prepared: Prepared) -> Manifest:
    if prepared.sent is None:
        return scan(prepared.source, limits=prepared.limits)
    return read_manifest(session.store.prepare(prepared.plan.private), prepared.sent.digest)


@click.command()
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON Schema of run.yaml, for editors and checkers."""
    from hpcrun.schema import json_schema

    print_json(json_schema(RunConfiguration))


def _elsewhere(
    workspace: str | None, file: str, runconfig: str | None, target: str | None, **_: Any
) -> Elsewhere | None:
    """Where the run goes if that is another machine: by its workspace, or else by its target."""
    from hpcrun.workflow.settings import DEFAULT, named_workspace, open_assets

    start = (Path() if runconfig else Path(file).parent).absolute()
    named = named_workspace(start, os.environ, workspace)
    if named.origin != DEFAULT and ":" not in named.text:
        return None
    from hpcrun.workflow.elsewhere import elsewhere, reached_from

    if named.origin != DEFAULT:
        return elsewhere(named.text, open_assets(start))
    place = None if target is None else reached_from(target, open_assets(start))
    if place is not None:
        say(f"hpcrun: there is no Slurm here; the run history is {place.named}", err=True)
    return place


def _send(place: Elsewhere, name: str, file: str, runconfig: str | None, **params: Any) -> int:
    from hpcrun.cli.sending import send

    asked = _load(Path(file), runconfig, params["overrides"])
    return send(place, name, asked, {"file": file, "runconfig": runconfig, **params})


def prepare(
    workspace: str | None,
    file: str,
    runconfig: str | None,
    target: str | None,
    overrides: tuple[str, ...],
    after: tuple[str, ...],
    templates: str | None,
    run_id: str | None,
    force: bool,
    arguments: tuple[str, ...],
) -> tuple[Session, Prepared]:
    """The session and the prepared run that the options ask for."""
    path = Path(file)
    folder = Path() if runconfig else path.parent
    session = open_session(folder, workspace, templates)
    asked = _load(path, runconfig, overrides)
    config = asked.value
    if target is not None:
        config.compute_target = target
        asked = replace(asked, origins={**asked.origins, "compute_target": Origin("--target")})
    if after:
        config.after = replace(config.after or After(), runs=[*after])
        keys = ("after.runs", *(f"after.runs[{number}]" for number in range(len(after))))
        origins = {**asked.origins, **dict.fromkeys(keys, Origin("--after"))}
        asked = replace(asked, origins=origins)
    if arguments:
        config.arguments = [*(config.arguments or []), *arguments]
    return session, session.prepare(asked, run_id, folder, served.source(), force)


def _load(path: Path, runconfig: str | None, overrides: tuple[str, ...]) -> Read[RunConfiguration]:
    if runconfig is not None:
        from hpcrun.config.runconfig import load_runconfig

        return load_runconfig(runconfig, Path(), overrides)
    return load_config(path, overrides)
