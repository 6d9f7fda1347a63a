"""submit, render, explain to another machine: the source is here, all else is decided there.

A run's id is its submission's token: it is made here before anything is sent, and whatever is cut,
the far side says later what became of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcrun.cli import remote
from hpcrun.cli.output import print_json, say
from hpcrun.cli.progress import transfer
from hpcrun.config import RunConfiguration, parse_memory
from hpcrun.errors import HpcrunError, TransportError
from hpcrun.manifest import Limits, Manifest
from hpcrun.plan import experiment_name, new_run_id
from hpcrun.reading import Read
from hpcrun.snapshot import GitFacts, scan
from hpcrun.transport.channel import Channel
from hpcrun.transport.upload import Far, upload
from hpcrun.transport.wire import Exit, Output
from hpcrun.workflow.elsewhere import Elsewhere
from hpcrun.workflow.pending import Pending
from hpcrun.workflow.prepare import missing_source
from hpcrun.workflow.submit import check_entry_point
from hpcrun.workflow.surroundings import new_token

LOOK = 1.0
"""Seconds between two questions about a submission that is still at work there."""


_INTERRUPTED = 130


@dataclass(frozen=True)
class Source:
    """What is sent. manifest: None: that is refused there. texts: files beside which the command
    runs there. told: as `Sent` tells it.
    """

    folder: Path
    manifest: Manifest | None
    texts: dict[str, str]
    told: dict[str, Any]
    private: bool | None


def send(place: Elsewhere, name: str, asked: Read[RunConfiguration], params: dict[str, Any]) -> int:
    """Runs submit, render or explain there; gives its exit code. params: as click read them."""
    source = gather(asked, params)
    run_id = params["run_id"] or new_run_id(
        experiment_name(asked.value, source.told["folder"]), time.time(), new_token()
    )
    words = words_of(name, {**params, "run_id": run_id})
    shown = remote.Shown(remote.request(place.folder, words, source.texts, source.told))
    pending = Pending(remote.cache(), place.named)
    with remote.connected(place) as channel:
        settle_all(channel, place, pending)
        if name == "submit":
            # All that can be refused is refused before anything is brought or written.
            trial = words_of("render", {**params, "run_id": run_id})
            code, _, said = ask(channel, place, trial, source.texts, source.told)
            if code:
                sys.stderr.buffer.write(said)
                return code
        if name == "submit" or params.get("files"):
            bring(source, channel, place)
        if name != "submit":
            return shown.run(channel)
        pending.add(run_id)
        try:
            code = shown.run(channel)
        except TransportError as error:
            follows = shown.is_lost() and shown.may_go_on
            then = "it is tried again" if follows else f"it is asked what became of run {run_id}"
            say(f"hpcrun: {error.message}; {then}", err=True)
        else:
            if code != _INTERRUPTED:
                pending.remove(run_id)
            return code
    if shown.may_go_on:  # it is submitted, and was followed
        pending.remove(run_id)
        return remote.shown_to_its_end(shown, place)
    return _asked_after(run_id, place, pending, params)


def gather(asked: Read[RunConfiguration], params: Mapping[str, Any]) -> Source:
    """The source folder as it is now, and what else of this machine the run is made of."""
    config = asked.value
    base = Path() if params["runconfig"] else Path(params["file"]).parent
    folder = base / Path(config.source_directory).expanduser()
    told: dict[str, Any] = {"folder": str(folder.resolve()), "digest": "", "properties": {}}
    is_sure = asked.is_sure_of("source_directory") and asked.is_sure_of("snapshot")
    missing = [*missing_source(config, folder)] if is_sure else []
    manifest = None
    if is_sure and not missing:
        with GitFacts.start(folder) as git:
            limits = Limits(parse_memory(config.snapshot.max_bytes), config.snapshot.max_files)
            manifest = scan(folder, limits=limits)
            check_entry_point(folder, config.script, manifest)
            told |= {"digest": manifest.digest, "properties": git.properties()}
    told["missing"] = [[found.key, found.message, found.hint] for found in missing]
    texts = {
        name: file.read_text("utf-8", "surrogateescape") for name, file in _files(config, params)
    }
    return Source(folder, manifest, texts, told, config.private)


def _files(config: RunConfiguration, params: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """(name there, file) of what a command finds beside it: the run file, the project's site files
    and templates, the list of packages."""
    from hpcrun.config.runconfig import find_runconfig
    from hpcrun.workflow.session import open_assets

    if params["runconfig"]:
        file = find_runconfig(params["runconfig"], Path())
    else:
        file = Path(params["file"])
    yield _there(file), file
    environment = config.environment
    requirements = None if isinstance(environment, str) else environment.requirements
    if (
        requirements
        and not Path(requirements).is_absolute()
        and (file.parent / requirements).is_file()
    ):
        yield _there(file.parent / requirements), file.parent / requirements
    project = open_assets(file.parent, params["templates"]).project
    for above in ("site_configs", "templates"):
        for found in sorted((project / above).rglob("*")) if project is not None else ():
            if found.is_file() and found.suffix in (".yaml", ".j2"):
                yield f".hpcrun/{found.relative_to(project).as_posix()}", found  # type: ignore[arg-type]
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


def bring(source: Source, channel: Channel, place: Elsewhere) -> None:
    """Brings the snapshot into the far store, as far as it is not there."""
    assert source.manifest is not None  # else the far side has refused it
    private = [] if source.private is None else ["--private" if source.private else "--shared"]

    def step(name: str, text: str) -> str:
        code, out, said = ask(channel, place, ["receive", name, *private], {"-": text})
        if code:
            raise HpcrunError(f"{place.login.name}: {said.decode(errors='replace').strip()}")
        return out.decode()

    far = Far(place.login.name, place.named, step, channel.another)
    with transfer(f"snapshot to {place.login.name}") as progress:
        upload(source.manifest, source.folder, far, remote.cache(), progress)


def ask(
    channel: Channel,
    place: Elsewhere,
    words: Sequence[str],
    texts: dict[str, str] | None = None,
    source: dict[str, Any] | None = None,
) -> tuple[int, bytes, bytes]:
    """(exit code, output, errors) of a command there, which asks nobody anything."""
    request = remote.request(place.folder, words, texts or {}, source or {})
    channel.send(request._replace(terminals=[]))
    told = {1: b"", 2: b""}
    while not isinstance(frame := channel.receive(), Exit):
        if isinstance(frame, Output):
            told[frame.stream] += frame.data
    return frame.code, told[1], told[2]


def settle_all(channel: Channel, place: Elsewhere, pending: Pending) -> None:
    """Says of each submission that was cut what became of it."""
    for run_id in pending.runs():
        run = _settled(run_id, channel, place)
        if run is None:
            say(f"hpcrun: the submission of {run_id} was cut: there is no run", err=True)
        elif not is_open(run):
            say(f"hpcrun: the submission of {run_id} was cut: {_told(run)}", err=True)
        if run is None or not is_open(run):
            pending.remove(run_id)


def _settled(run_id: str, channel: Channel, place: Elsewhere) -> Any:
    """The run as JSON; None: there is none, and never will be."""
    code, out, said = ask(channel, place, ["settle", run_id])
    if code:
        raise HpcrunError(f"{place.login.name}: {said.decode(errors='replace').strip()}")
    return json.loads(out)


def is_open(run: Mapping[str, Any]) -> bool:
    """Whether it is not known yet if a run has a job."""
    return run["job_id"] is None and run["verdict"] is None


def _told(run: Mapping[str, Any]) -> str:
    if run["job_id"] is None:
        return f"it has no job ({run['verdict']['sentence']})"
    return f"it has one job, {run['job_id']}, and goes on"


def _asked_after(run_id: str, place: Elsewhere, pending: Pending, params: dict[str, Any]) -> int:
    """After a cut: asks until it is known whether there is a job; gives the exit code."""
    run = _answer(run_id, place)
    pending.remove(run_id)
    if run is None or run["job_id"] is None:
        no_job = f"the submission was cut: there is no run {run_id}" if run is None else _told(run)
        raise TransportError(no_job, "submit again", transient=True)
    if params["follow"]:
        words = ["logs", "--follow", run_id, *["--json"] * params["as_json"]]
        return remote.show(place, words)
    if params["as_json"]:
        print_json(run)
    else:
        say(f"submitted run {run_id} as job {run['job_id']} to {run['target']}")
        say(f"follow it with: hpcrun logs -f {run_id}")
    return 0


def _answer(run_id: str, place: Elsewhere) -> Any:
    for alone in remote.attempts(place.login):
        try:
            with remote.connected(place, alone) as channel:
                while (run := _settled(run_id, channel, place)) is not None and is_open(run):
                    time.sleep(LOOK)
                return run
        except TransportError as error:
            if not error.transient:
                raise
    raise AssertionError
