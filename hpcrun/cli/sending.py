"""submit, render, explain to another machine: what is sent, and what is shown of it here."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcrun.cli import remote
from hpcrun.cli.output import print_json, say
from hpcrun.config import RunConfiguration
from hpcrun.errors import TransportError
from hpcrun.names import experiment_name, new_run_id
from hpcrun.reading import Read
from hpcrun.saying import say_on_stderr
from hpcrun.transport.channel import Channel
from hpcrun.workflow.connection import ask, cache, connected
from hpcrun.workflow.elsewhere import Elsewhere
from hpcrun.workflow.pending import Pending
from hpcrun.workflow.sending import (
    Source,
    asked_after,
    bring,
    gather,
    package_files,
    project_files,
    settle_run,
    text_of,
    unknown,
)
from hpcrun.workflow.surroundings import new_token

_INTERRUPTED = 130


def send(place: Elsewhere, name: str, asked: Read[RunConfiguration], params: dict[str, Any]) -> int:
    """Runs submit, render or explain there; gives its exit code. params: as click read them."""
    remote.end_in_order()
    source = _source(asked, params)
    if name == "submit":
        return _submit(place, asked, source, params)
    with connected(place) as channel:
        remote.settle(channel, place)
        if params.get("files"):
            bring(source, channel, place)
        params = {**params, "run_id": _run_id(asked, source, params, channel)}
        return _shown(name, place, source, params).run(channel)


def _submit(
    place: Elsewhere, asked: Read[RunConfiguration], source: Source, params: dict[str, Any]
) -> int:
    pending = Pending(cache(), place.named)
    run_id = ""
    shown: remote.Shown | None = None
    try:
        with contextlib.ExitStack() as noted:
            with connected(place) as channel:
                remote.settle(channel, place)
                run_id = _run_id(asked, source, params, channel)
                params = {**params, "run_id": run_id}
                # All that can be refused is refused before anything is brought or written.
                trial = words_of("render", params)
                code, _, said = ask(channel, place, trial, source.texts, source.told)
                if code:
                    sys.stderr.buffer.write(said)
                    return code
                bring(source, channel, place)
                noted.enter_context(pending.noted(run_id))
                shown = _shown("submit", place, source, params)
                try:
                    code = shown.run(channel)
                    if code != _INTERRUPTED or shown.may_go_on:
                        pending.remove(run_id)
                    elif not settle_run(run_id, channel, place, say_on_stderr):
                        say_on_stderr(unknown(run_id, place))
                    return code
                except TransportError as error:
                    follows = shown.is_lost() and shown.may_go_on
                    asks = f"it is asked what became of run {run_id}"
                    say_on_stderr(f"{error.message}; {'it is tried again' if follows else asks}")
            if shown.may_go_on:  # it is submitted, and was followed
                pending.remove(run_id)
                return remote.shown_to_its_end(shown, place)
            run = asked_after(run_id, place, lambda alone: connected(place, alone))
            return _tell(run, place, params)
    except (KeyboardInterrupt, SystemExit):
        if shown is None:
            say_on_stderr("nothing was submitted")
        elif shown.may_go_on:
            pending.remove(run_id)
        elif pending.has(run_id):
            say_on_stderr(unknown(run_id, place))
        raise


def _run_id(
    asked: Read[RunConfiguration], source: Source, params: Mapping[str, Any], channel: Channel
) -> str:
    """The run's id. Its time is that of the clock there: by it runs are listed."""
    name = experiment_name(asked.value, source.told["folder"])
    given: str | None = params["run_id"]
    return given or new_run_id(name, channel.time(), new_token())


def _shown(name: str, place: Elsewhere, source: Source, params: Mapping[str, Any]) -> remote.Shown:
    words = words_of(name, params)
    return remote.Shown(remote.request(place.folder, words, source.texts, source.told))


def _source(asked: Read[RunConfiguration], params: Mapping[str, Any]) -> Source:
    base = Path() if params["runconfig"] else Path(params["file"]).parent
    texts = {name: text_of(file) for name, file in _files(asked.value, params)}
    return gather(asked, base, texts)


def _files(config: RunConfiguration, params: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """(name there, file) of what a command finds beside it: the run file, the project's site files
    and templates, the files that tell packages."""
    from hpcrun.config.runconfig import find_runconfig
    from hpcrun.workflow.settings import open_assets

    if params["runconfig"]:
        file = find_runconfig(params["runconfig"], Path())
    else:
        file = Path(params["file"])
    yield _there(file), file
    listed, conda = package_files(config.environment, file.parent)
    for told in [*listed, *([conda] if conda is not None else [])]:
        yield _there(told), told
    yield from project_files(open_assets(file.parent, params["templates"]))
    if params["templates"]:
        given = Path(params["templates"])
        for found in sorted(given.rglob("*.j2")):
            yield _there(found), found


def _there(file: Path) -> str:
    """A file's name beside the command: what lies elsewhere is there by its last name."""
    relative = os.path.normpath(file)
    return file.name if relative.startswith(("/", "..")) else relative


def words_of(name: str, params: Mapping[str, Any]) -> list[str]:
    """The command with what was asked, as it is there."""
    words = [name, "--file", _there(Path(params["file"])), "--run-id", params["run_id"]]
    for option in ("runconfig", "target", "templates"):
        words += [f"--{option}", params[option]] if params[option] else []
    words += ["--force"] * bool(params["force"])
    words += [word for value in params["overrides"] for word in ("--set", value)]
    words += [word for value in params["after"] for word in ("--after", value)]
    for flag, given in (("follow", "submit"), ("files", "explain")):
        words += [f"--{flag}"] * (name == given and bool(params.get(flag)))
    return [*words, *["--json"] * params["as_json"], "--", *params["arguments"]]


def _tell(run: Mapping[str, Any], place: Elsewhere, params: Mapping[str, Any]) -> int:
    """Tells of a run that has a job although its submission was cut; gives the exit code."""
    run_id = run["run_id"]
    if params["follow"]:
        words: Sequence[str] = ["logs", "--follow", run_id, *["--json"] * params["as_json"]]
        return remote.show(place, words)
    if params["as_json"]:
        print_json(run)
    else:
        say(f"submitted run {run_id} as job {run['job_id']} to {run['target']}")
        say(f"follow it with: hpcrun logs -f {run_id}")
    return 0
