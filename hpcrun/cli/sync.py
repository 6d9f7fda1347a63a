"""sync: runs of another machine are mirrored here. told: what the far side of that answers."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from hpcrun.cli.listing import moment
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say
from hpcrun.cli.progress import transfer
from hpcrun.errors import ConfigError, HpcrunError, Problem, StoreError
from hpcrun.progress import waiting
from hpcrun.record import RunRecord
from hpcrun.store.wanted import Wanted, state_of
from hpcrun.workflow.session import Session, open_session

if TYPE_CHECKING:
    from hpcrun.workflow.mirroring import Mirrored


def chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose runs and files: what is asked here is what is answered there."""
    for option in (
        click.argument("runs", metavar="[RUN]...", nargs=-1),
        click.option("-e", "--experiment", help="Only runs of this experiment."),
        click.option("-s", "--status", help="Only runs of this status."),
        click.option("-u", "--user", help="Another user's runs."),
        click.option("--since", metavar="WHEN", help="Made then or later, or 2d, 12h ago."),
        click.option("--archived", is_flag=True, help="Archived runs as well."),
        click.option(
            "--outputs",
            metavar="PATTERN",
            multiple=True,
            help="Also files whose name fits, such as '*.pt'; '*': all. Can be repeated.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("site", metavar="SITE:[FOLDER]")
@chosen
@click.option("--no-source", is_flag=True, help="Leave their sources there.")
@json_option
@click.pass_obj
def sync(workspace: str | None, /, site: str, no_source: bool, as_json: bool, **asked: Any) -> int:
    """Mirror runs of SITE here: RUNs, or those that the options choose, with their children.

    Records, metrics, images, standard output and sources come, and the files that --outputs names.
    Only what is new there is sent; what was deleted there stays here. What was deleted here comes
    back if it is named. -w FOLDER, before `sync`, names the workspace here.
    """
    from hpcrun.cli import remote
    from hpcrun.transport.fetching import Source
    from hpcrun.workflow.connection import ask, connected
    from hpcrun.workflow.elsewhere import elsewhere
    from hpcrun.workflow.mirroring import opened
    from hpcrun.workflow.telling import Told

    session = open_session(given=workspace)
    place = elsewhere(site, session.assets)
    if place is None:
        hint = "such as mila: or mila:/scratch/lab/history"
        raise ConfigError(Problem(f"{site!r} names no workspace on another machine", hint))
    remote.end_in_order()
    name = place.login.name
    named = bool(asked["runs"])
    with opened(session, name) as mirror, connected(place) as channel:
        remote.settle(channel, place)

        def sources(runs: Sequence[str]) -> str:
            code, answer, said = ask(channel, place, ["told", "--sources", "--", *runs])
            if code:
                raise HpcrunError(f"{name}: {said.decode(errors='replace').strip()}")
            return answer.decode()

        question = json.dumps(mirror.question(named))
        with waiting(f"asking {name} what is new"):
            code, answer, said = ask(channel, place, ["told", *_words(asked)], {"-": question})
        sys.stderr.buffer.write(said)
        sys.stderr.flush()
        if code:
            return code
        told = Told.decode(answer)
        with transfer(f"runs from {name}") as progress:
            source = Source(name, channel.another)
            done = mirror.bring(told, source, named, progress, None if no_source else sources)
    for note in told.notes:
        _note(note)
    return _tell(session, f"{name}:{told.workspace}", done, as_json)


def _words(asked: dict[str, Any]) -> list[str]:
    """The words that choose the same runs there."""
    words = [word for pattern in asked["outputs"] for word in ("--outputs", pattern)]
    for option in ("experiment", "status", "user", "since"):
        words += [f"--{option}", asked[option]] if asked[option] else []
    return [*words, *["--archived"] * asked["archived"], "--", *asked["runs"]]


def _tell(session: Session, place: str, done: list[Mirrored], as_json: bool) -> int:
    from hpcrun.workflow.mirroring import DELETED, REFUSED, SAME

    if as_json:
        runs = [
            {
                "run_id": each.run.run_id,
                "user": each.run.user,
                "status": each.run.state,
                "outcome": each.outcome,
                "reason": each.reason or None,
            }
            for each in done
        ]
        print_json({"from": place, "workspace": str(session.workspace), "runs": runs})
    for each in done:
        if each.reason:
            say(f"hpcrun: run {each.run.run_id}: {each.reason}", err=True)
        if not as_json and each.outcome not in (SAME, DELETED, REFUSED):
            say(f"run {each.run.run_id}: {each.run.state}, {each.outcome}")
    if not as_json:
        counts = Counter(each.outcome for each in done)
        told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in counts)
        say(f"{len(done)} runs of {place}: {told or 'there are none'}")
        if counts[DELETED]:
            say("what was deleted here comes back if it is named")
    failed = sum(bool(each.reason) for each in done)
    if failed:
        raise StoreError(f"{failed} of {len(done)} runs are not all here", "see above")
    return 0


@click.command(hidden=True)
@chosen
@click.option("--sources", is_flag=True, help="Answer the manifests of their sources.")
@click.pass_obj
def told(
    workspace: str | None,
    runs: tuple[str, ...],
    sources: bool,
    experiment: str | None,
    status: str | None,
    user: str | None,
    since: str | None,
    archived: bool,
    outputs: tuple[str, ...],
) -> None:
    """Answer what there is of runs; standard input tells the versions that are known."""
    from hpcrun.workflow.telling import tell

    session = open_session(given=workspace)
    if sources:
        from hpcrun.workflow.sources import tell_sources

        say(tell_sources(session, runs))
        return
    known = _known(sys.stdin)
    if runs:
        found = [session.store.find(run, user) for run in runs]
        records = [session.store.read(run_id, of) for of, run_id in found]
    else:
        view = "All" if archived else "ActiveOnly"
        begin = moment(since, time.time()) if since is not None else -math.inf
        wanted = Wanted(experiment, state_of(status), since=begin, view=view)
        records = _chosen(session, wanted, user)
    from hpcrun.workflow.exporting import family

    say(tell(session, family(session, records), outputs, known, _note).encode())


def _note(text: str) -> None:
    say(f"hpcrun: {text}", err=True)


def _chosen(session: Session, wanted: Wanted, user: str | None) -> list[RunRecord]:
    from hpcrun.workflow.listing import list_rows

    rows = list_rows(session, None, wanted, user, tell=lambda error: _note(error.message))
    return [row.record for row in rows]


def _known(question: TextIO) -> dict[str, tuple[str, str]]:
    """ConfigError: it is none."""
    try:
        return {run: (record, files) for run, (record, files) in json.load(question).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(Problem(f"standard input tells no versions: {error}")) from error
