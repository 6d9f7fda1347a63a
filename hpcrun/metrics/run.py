"""Run: what a process can say of its run. Standard library only (Python 3.8+)."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import replace
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type, Union

from hpcrun.arguments import checked
from hpcrun.errors import ConfigError, Problem
from hpcrun.fold import fold
from hpcrun.forms import as_text
from hpcrun.layout import RESUME_VARIABLE, Attempt, JournalKind, journal_kind
from hpcrun.metrics.context import Context, job_context, missing_variables, offline_context
from hpcrun.metrics.family import Parent
from hpcrun.metrics.logs import Logging
from hpcrun.metrics.ranks import RankFacts
from hpcrun.metrics.recording import texts_of
from hpcrun.metrics.registering import Registering
from hpcrun.metrics.series import azure_shapes, metrics_of
from hpcrun.metrics.spool import recorder_of
from hpcrun.metrics.stop import stop_of
from hpcrun.metrics.uploads import Uploading
from hpcrun.record import Fact, RunRecord, decode_page

_log = logging.getLogger("hpcrun")


@checked
class Run(Logging, Parent, Uploading, Registering):
    """The run that this process belongs to; `Run.get_context()` gives it.

    context: what is known of it. rank_guard: only rank 0 records; on other ranks the calls that
    record do nothing, and the first says so in the log at level DEBUG.

    What a call that records has returned from survives the death of this process. A file system
    that refuses writes makes no call fail. TypeError and ValueError tell what cannot be logged,
    ConfigError which other argument is of a wrong type.
    """

    _silent = False
    _stopping = False

    def __init__(self, context: Context, rank_guard: bool = True) -> None:
        self._context = context
        self._recorder = recorder_of(context)
        self._silent = rank_guard and context.ranks.rank != 0
        self._told = False

    @staticmethod
    def get_context(allow_offline: bool = True, rank_guard: bool = True) -> "Run":
        """The run that this process belongs to, the same object at each call.

        allow_offline: outside a job, give a run that records in ./.hpcrun/offline/<run id>; else
        raise RunEnvironmentException. rank_guard: only rank 0 records; else each rank does, and
        its metrics carry its number.
        """
        context = _process_context(allow_offline)
        return _runs.setdefault((context, rank_guard), Run(context, rank_guard))

    # -- identity -----------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """`<experiment>_<unix seconds>_<8 hex>`; the experiment of an offline run is `offline`."""
        return self._context.run_id

    @property
    def run_id(self) -> str:
        """The same as `id`."""
        return self.id

    @property
    def experiment_name(self) -> str:
        """The experiment it belongs to."""
        return self._context.experiment

    @property
    def name(self) -> str:
        """The same as `display_name`."""
        return self.display_name

    @property
    def display_name(self) -> str:
        """A name for people; empty if none was given."""
        return self._read().display_name

    @display_name.setter
    def display_name(self, value: str) -> None:
        self._append("renamed", {"display_name": value})

    @property
    def description(self) -> str:
        """A text for people; empty if none was given."""
        return self._read().description

    @description.setter
    def description(self, value: str) -> None:
        self._append("renamed", {"description": value})

    @property
    def tags(self) -> Mapping[str, str]:
        """Its tags, as far as they can be read from here."""
        return self._read().tags

    def get_tags(self) -> Mapping[str, str]:
        """The same as `tags`."""
        return self.tags

    @property
    def properties(self) -> Mapping[str, str]:
        """Its properties, as far as they can be read from here."""
        return self._read().properties

    def get_properties(self) -> Mapping[str, str]:
        """The same as `properties`."""
        return self.properties

    @property
    def ranks(self) -> RankFacts:
        """This process among those of the job."""
        return self._context.ranks

    @property
    def rank(self) -> int:
        """This process's number in the job, from 0."""
        return self._context.ranks.rank

    @property
    def world_size(self) -> int:
        """The number of processes in the job."""
        return self._context.ranks.world_size

    @property
    def output_directory(self) -> str:
        """The folder that is kept when the job has ended: ./outputs of where the job runs."""
        return self._context.outputs

    # -- metrics ------------------------------------------------------------------------------

    def get_metrics(
        self,
        name: Optional[str] = None,
        recursive: bool = False,
        run_type: Optional[str] = None,
        populate: bool = False,
    ) -> Dict[str, Any]:
        """What was recorded: {name: value}, a list where there are several, a table as a dict, a
        chart as its document, an image as the name of its file.

        name: only that metric. populate: an image as its bytes. recursive: {run id: metrics} of
        this run and its children. run_type is Azure ML's. It tells what can be read from here:
        all of this node, and of other nodes what has reached the record.
        """
        artifacts = self._facts(JournalKind.ARTIFACTS) if populate else ()
        own = azure_shapes(metrics_of(self._facts(JournalKind.METRICS)), name, artifacts)
        if not recursive:
            return own
        from hpcrun.metrics.interactive import context_beside

        found = {self.id: own}
        for run_id in self._read().children:
            child = Run(context_beside(self._context, run_id))
            found.update(child.get_metrics(name, recursive=True, populate=populate))
        return found

    # -- tags and properties ------------------------------------------------------------------

    def tag(self, key: str, value: object = None) -> None:
        """Sets one tag; without a value to the empty text."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Sets tags; others stay. None is the empty text, all else its str()."""
        self._append("tags", {"set": texts_of(tags)})

    def remove_tags(self, tags: Union[str, Sequence[str]]) -> None:
        """Removes tags; one that is not there is no error."""
        keys = [tags] if isinstance(tags, str) else list(tags)
        self._append("tags", {"removed": keys})

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Adds properties. They are write-once: a name that is set already keeps its value."""
        self._append("properties", {"set": texts_of(properties)})

    # -- end ----------------------------------------------------------------------------------

    @property
    def resume_from(self) -> Optional[str]:
        """The checkpoint that this attempt goes on from, a path; None: it begins anew."""
        return os.environ.get(RESUME_VARIABLE) or None

    def should_stop(self, every: int = 1) -> bool:
        """Whether the script should save what it has, and end: its time is nearly over, or somebody
        asks for its end. Once it says yes, it stays so.

        Where torch.distributed or mpi4py has been initialized, this is a collective over its world:
        every rank must call it equally often, and all get the same answer at the same call.
        Elsewhere each process answers for itself, from a file on its node's own disk, within some
        microseconds. every: ask only at each such call, and say no in between.

        From the first call on, TERM does not end this process any more, but makes this say yes;
        KILL follows in the job's grace time. ValueError if every is below 1.
        """
        told = stop_of(self._context).agreed(every)
        if told and not self._stopping:
            self._stopping = True
            self._append("stopping", {})
        return told

    def flush(self, timeout_seconds: float = 300) -> None:
        """Waits until the run's record holds all that this process has recorded.

        timeout_seconds: after that, it warns in the log and returns. ConfigError: it is negative.
        """
        if not timeout_seconds >= 0:
            raise ConfigError(Problem(f"flush() cannot wait for {timeout_seconds} seconds"))
        if not self._recorder.flush(timeout_seconds):
            _log.warning(
                "hpcrun: not all records of run %s reached %s in %g s; they follow when they can",
                self.id,
                self._context.record,
                timeout_seconds,
            )

    def complete(self) -> None:
        """Does nothing: the exit code of the job's command decides how a run ends."""

    def fail(self, error_details: object = None, error_code: object = None) -> None:
        """Records what went wrong as a problem of the run; the exit code decides how it ends."""
        parts = [as_text(part) for part in (error_code, error_details) if part is not None]
        self._append("problem", {"message": ": ".join(parts) or "the script called fail()"})

    def cancel(self) -> None:
        """Does nothing: a script ends its run by exiting, a person by `hpcrun cancel`."""

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Like `complete`, or `fail` with the error, which goes on."""
        if error is None:
            self.complete()
        elif isinstance(error, Exception):
            self.fail(repr(error))

    # -----------------------------------------------------------------------------------------

    def _append(self, kind: str, data: Dict[str, Any]) -> None:
        """Records a fact, unless this rank is silent."""
        if self._is_silent():
            return
        if kind == "metric" and self._context.ranks.rank:
            data["r"] = self._context.ranks.rank
        self._recorder.append(kind, data)

    def _is_silent(self) -> bool:
        if self._silent and not self._told:
            self._told = True
            _log.debug("hpcrun: rank %d records nothing; rank_guard=False lets it", self.rank)
        return self._silent

    def _make_child(
        self, run_id: str, name: Optional[str], tags: Mapping[str, str], outputs: Optional[str]
    ) -> Any:
        from hpcrun.metrics.interactive import InteractiveRun, context_beside, make_child

        context = context_beside(self._context, run_id)
        if self._is_silent():
            return InteractiveRun(replace(context, ranks=self.ranks))
        make_child(context, self.id, name, tags)
        self._append("child", {"run_id": run_id})
        return InteractiveRun(context, outputs)

    def _files_folder(self) -> str:
        return self._context.files

    def _may_replace(self, name: str, source: Any) -> bool:
        """What an earlier attempt left, and what gives way to this output at the end anyway."""
        own = self._context.attempt
        if isinstance(source, (str, os.PathLike)) and self._is_output(name, source):
            return True
        return own != Attempt(1, 0) and not any(
            name == file[0]
            for fact in self._facts(JournalKind.FACTS)
            if fact.kind == "uploaded" and fact.attempt == own
            for file in fact.data["files"]
        )

    def _is_output(self, name: str, source: Any) -> bool:
        """Whether a path is that of the output of this name, on the node's own disk perhaps."""
        folder, _, rest = name.partition("/")
        path = os.path.join(self.output_directory, rest)
        return folder == "outputs" and os.path.realpath(source) == os.path.realpath(path)

    def _models_folder(self) -> str:
        return os.path.join(os.path.dirname(os.path.dirname(self._context.record)), "models")

    def _facts(self, kind: JournalKind) -> List[Fact]:
        facts: List[Fact] = []
        for folder in self._recorder.folders():
            for name in _journals(folder, kind):
                with open(os.path.join(folder, name), "rb") as file:
                    facts += decode_page(file.read(), name).facts
        return facts

    def _read(self) -> RunRecord:
        return fold(_request(self._context), self._facts(JournalKind.FACTS))

    def __repr__(self) -> str:
        return f"Run(experiment={self.experiment_name!r}, id={self.id!r})"


_runs: Dict[Tuple[Context, bool], Run] = {}
_offline: List[Context] = []


def _process_context(allow_offline: bool) -> Context:
    if not allow_offline or not missing_variables(os.environ):
        return job_context(os.environ)
    if not _offline:
        seconds, token = int(time.time()), os.urandom(4).hex()
        _offline.append(offline_context(os.environ, os.getcwd(), seconds, token))
    return replace(_offline[0], ranks=RankFacts.of(os.environ))


def _journals(folder: str, kind: JournalKind) -> List[str]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    named = [(name, journal_kind(name)) for name in names]
    return [name for name, known in named if known is not None and known[1] is kind]


def _request(context: Context) -> Mapping[str, Any]:
    """run.json, or what stands in for it where it cannot be read."""
    known = {"run_id": context.run_id, "experiment": context.experiment}
    request: Dict[str, Any] = {**known, "user": "", "target": "", "created": 0.0}
    try:
        with open(os.path.join(context.record, "run.json"), encoding="utf-8") as file:
            request.update(json.load(file))
    except (OSError, ValueError):
        pass
    return request
