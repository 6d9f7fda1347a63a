"""Submitting to another machine: the source is here, all else is decided there.

A run's id is its submission's token: it is made here before anything is sent, and whatever is cut,
the far side says later what became of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcrun.assets import Assets
from hpcrun.config import Environment, RunConfiguration, parse_memory
from hpcrun.environments.requirements import files_of
from hpcrun.errors import CutSubmission, HpcrunError, TransportError
from hpcrun.manifest import Limits, Manifest
from hpcrun.progress import transfer
from hpcrun.reading import Read
from hpcrun.snapshot import GitFacts, scan
from hpcrun.transport.channel import Channel
from hpcrun.transport.upload import Far, upload
from hpcrun.workflow.connection import ask, attempts, cache
from hpcrun.workflow.elsewhere import Elsewhere
from hpcrun.workflow.pending import Pending
from hpcrun.workflow.prepare import missing_source
from hpcrun.workflow.submit import check_entry_point

LOOK = 1.0
"""Seconds between two questions about a submission that is still at work there."""

Held = Callable[[bool], AbstractContextManager[Channel]]


@dataclass(frozen=True)
class Source:
    """What is sent. manifest: None: that is refused there. texts: files beside which the command
    runs there. told: as `Sent` tells it.
    """

    folder: Path
    manifest: Manifest | None
    texts: Mapping[str, str]
    told: Mapping[str, Any]
    private: bool | None


def gather(asked: Read[RunConfiguration], base: Path, texts: Mapping[str, str]) -> Source:
    """The source folder as it is now. base: what it is relative to. texts: what else of this
    machine the run is made of."""
    config = asked.value
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
    return Source(folder, manifest, texts, told, config.private)


def project_files(assets: Assets) -> Iterator[tuple[str, Path]]:
    """(name there, file) of the project's site files and templates."""
    project = assets.project
    for above in ("site_configs", "templates") if project is not None else ():
        assert project is not None
        for found in sorted((project / above).rglob("*")):
            if found.is_file() and found.suffix in (".yaml", ".j2"):
                yield f".hpcrun/{found.relative_to(project).as_posix()}", found


def package_files(environment: Environment | str, base: Path) -> tuple[list[Path], Path | None]:
    """Those of this machine that tell what packages an environment has: pip's list and what that
    names, and conda's file. base: what they are relative to."""
    if isinstance(environment, str):
        return [], None
    pip, conda = environment.requirements, environment.python.conda_dependencies_file
    listed = [base / pip] if pip and not pip.startswith(("/", "~")) else []
    told = base / conda if conda and not conda.startswith(("/", "~")) else None
    return [f for file in listed for f in files_of(file)], told if told and told.is_file() else None


def text_of(file: Path) -> str:
    """A file that is sent, byte for byte."""
    return file.read_text("utf-8", "surrogateescape")


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
        upload(source.manifest, source.folder, far, cache(), progress)


def settle(channel: Channel, place: Elsewhere, tell: Callable[[str], object]) -> None:
    """Says of each submission to that place that was cut what became of it, or that it cannot be
    known yet: who asks for something else gets it all the same. TransportError."""
    for run_id in Pending(cache(), place.named).runs():
        try:
            settle_run(run_id, channel, place, tell)
        except TransportError:
            raise
        except HpcrunError as error:
            tell(f"what became of run {run_id} is not known yet: {error.message}")


def settle_run(
    run_id: str, channel: Channel, place: Elsewhere, tell: Callable[[str], object]
) -> bool:
    """Says of one of them what became of it, if that is known; gives whether it is."""
    run = _settled(run_id, channel, place)
    if run is not None and is_open(run):
        return False
    became = "there is no run" if run is None else became_of(run)
    tell(f"the submission of {run_id} was cut: {became}")
    Pending(cache(), place.named).remove(run_id)
    return True


def _settled(run_id: str, channel: Channel, place: Elsewhere) -> Any:
    """The run as JSON; None: there is none, and never will be."""
    code, out, said = ask(channel, place, ["settle", run_id])
    if code:
        raise HpcrunError(f"{place.login.name}: {said.decode(errors='replace').strip()}")
    return json.loads(out)


def is_open(run: Mapping[str, Any]) -> bool:
    """Whether it is not known yet if a run has a job."""
    return run["job_id"] is None and run["verdict"] is None


def became_of(run: Mapping[str, Any]) -> str:
    """What became of a run whose submission was cut."""
    if run["job_id"] is None:
        return f"it has no job ({run['verdict']['sentence']})"
    return f"it has one job, {run['job_id']}, and goes on"


def unknown(run_id: str, place: Elsewhere) -> str:
    """What to say of a submission that is left in its midst."""
    return (
        f"what became of run {run_id} is not known yet: the next contact with {place.named} tells"
    )


def asked_after(run_id: str, place: Elsewhere, held: Held) -> Mapping[str, Any]:
    """After a cut: asks until it is known that there is a job; gives the run as JSON.

    held: a connection; told whether nobody is to be asked for anything. CutSubmission:
    there is none, or nobody can be asked.
    """
    pending = Pending(cache(), place.named)
    try:
        run = _answer(run_id, place, held)
    except TransportError as error:
        told = f"{error.message}; what became of run {run_id} is not known yet"
        hint = error.hint or f"the next contact with {place.login.name} tells"
        raise CutSubmission(told, hint, run_id=run_id) from error
    pending.remove(run_id)
    if run is None or run["job_id"] is None:
        became = f"there is no run {run_id}" if run is None else f"run {run_id}: {became_of(run)}"
        raise CutSubmission(f"the submission was cut: {became}", "submit again", run_id=run_id)
    found: Mapping[str, Any] = run
    return found


def _answer(run_id: str, place: Elsewhere, held: Held) -> Any:
    for alone in attempts(place.login):
        try:
            with held(alone) as channel:
                while (run := _settled(run_id, channel, place)) is not None and is_open(run):
                    time.sleep(LOOK)
                return run
        except TransportError as error:
            if not error.transient:
                raise
    raise AssertionError
