"""Runs without a job of their own: interactive runs and children. Python 3.8+, standard library.

A run's record is made on the shared file system before it begins. What it logs then goes to a
spool of its own on this node, from where this process's companion brings it to the record.
"""

from __future__ import annotations

import getpass
import json
import os
import posixpath
import tempfile
import time
from dataclasses import replace
from types import TracebackType
from typing import Any, Dict, Mapping, Optional, Type

from hpcrun.arguments import checked
from hpcrun.errors import StoreError
from hpcrun.forms import as_text
from hpcrun.layout import INTERACTIVE, Attempt, RunPaths, UserPaths, experiment_of
from hpcrun.metrics.companion import COMPANION
from hpcrun.metrics.context import OFFLINE, Context
from hpcrun.metrics.ranks import RankFacts
from hpcrun.metrics.run import Run
from hpcrun.metrics.uploads import files_below, upload
from hpcrun.rights import kept_to

LETTING_GO = 5.0
"""Seconds for which the companion is waited for once all is in the record."""


@checked
class InteractiveRun(Run):
    """A run that this process itself keeps, from start() to complete(), fail() or cancel().

    outputs: the folder whose files are copied into the run's outputs/ at its end; None: none is.
    Use it in a `with` statement: its end completes the run, an exception fails it, Ctrl-C cancels
    it. If the interpreter ends without a word, the run has failed.
    """

    def __init__(self, context: Context, outputs: Optional[str] = None) -> None:
        super().__init__(context)
        self._collected = outputs
        self._kept = self._started = self._ended = False

    @property
    def output_directory(self) -> str:
        """The folder whose files are copied into the run at its end; else the run's own."""
        return self._collected or super().output_directory

    @property
    def goes_on(self) -> bool:
        """Whether it has begun, and has not ended."""
        return self._started and not self._ended

    def start(self) -> None:
        """It begins now. What is logged begins it too; a second time nothing happens."""
        if self._started or self._is_silent():
            return
        self._started = True
        context = self._context
        kept = context.spool is not None and COMPANION.begin(context, beats=True)
        host = os.uname().nodename
        nodes = [host] if context.spool is not None else []
        self._recorder.append("started", {"host": host, "nodes": nodes, "pid": os.getpid()})
        self._recorder.append("running", {})
        if context.spool is not None and not kept:
            message = "the companion could not be started; hpcrun collect brings what is logged"
            self._recorder.append("problem", {"message": message})

    def complete(self) -> None:
        """It has completed. Waits until its record holds everything, 300 s at most."""
        self._end(exit_code=0, cause="completed", message="the script completed the run")

    def fail(self, error_details: object = None, error_code: object = None) -> None:
        """It has failed; waits like complete(). The details are its verdict."""
        told = [as_text(part) for part in (error_code, error_details) if part is not None]
        message = ": ".join(told) or "the script called fail()"
        self._end(exit_code=None, cause="reported", message=message)

    def cancel(self) -> None:
        """It is canceled; waits like complete()."""
        user = getpass.getuser()
        self._end(exit_code=None, cause="canceled", message=f"the run was canceled by {user}")

    def flush(self, timeout_seconds: float = 300) -> None:
        """Waits until the run's record holds all that this process has recorded."""
        COMPANION.look()
        super().flush(timeout_seconds)

    def __enter__(self) -> "InteractiveRun":
        self.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self.complete()
        elif isinstance(error, KeyboardInterrupt):
            self.cancel()
        else:
            self.fail(repr(error))

    def _end(self, **data: Any) -> None:
        if self._ended or self._is_silent():
            return
        self.start()
        self._ended = True
        self._collect()
        self._recorder.append("ended", {"signal": None, **data})
        self.flush()
        self._recorder.close()
        COMPANION.finish(self.id)
        self._wait_for_companion()
        self._recorder.leave_spool()

    def _wait_for_companion(self) -> None:
        """Until it lets go of the spool: Slurm kills it as soon as this process has ended."""
        deadline = time.monotonic() + LETTING_GO
        spool = self._context.spool
        while spool is not None and os.path.isdir(spool) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _collect(self) -> None:
        """Copies the outputs folder, as far as its links lead to it. What cannot be copied fails
        nothing, and keeps nothing else from it; it is told."""
        folder = self._collected
        if folder is None or not os.path.isdir(folder):
            return
        uploaded, errors = [], []
        for name, path in files_below("outputs", folder):
            if not _leads_into(folder, path):
                continue
            try:
                uploaded.append(upload(self._files_folder(), name, path, self._may_replace))
            except (OSError, StoreError) as error:
                errors.append(error)
        if uploaded:
            self._recorder.append("uploaded", {"files": [list(file) for file in uploaded]})
        if errors:
            message = f"{len(errors)} outputs in {folder} were not collected: {errors[0]}"
            self._recorder.append("problem", {"message": message})

    def _append(self, kind: str, data: Dict[str, Any]) -> None:
        if self._is_silent():
            return
        if kind in ("metric", "artifact"):
            self.start()
        elif not self._started and not self._kept and self._context.spool is not None:
            self._kept = COMPANION.begin(self._context, beats=False)
        super()._append(kind, data)


def _leads_into(folder: str, path: str) -> bool:
    """Whether a path leads to something that is there, in a folder."""
    root = os.path.realpath(folder)
    return os.path.exists(path) and os.path.realpath(path).startswith(os.path.join(root, ""))


def interactive_context(paths: RunPaths, run_id: str, node_tmp: Optional[str] = None) -> Context:
    """The context of an interactive run. node_tmp: a folder on this node's own disk."""
    return Context(
        run_id=run_id,
        experiment=experiment_of(run_id),
        attempt=Attempt(1),
        ranks=RankFacts(),
        record=paths.record,
        spool=f"{spool_of(run_id, node_tmp)}-{Attempt(1)}",
        files=paths.files,
        outputs=paths.outputs,
        offline=False,
    )


def spool_of(run_id: str, node_tmp: Optional[str] = None) -> str:
    """The beginning of the name of a run's spools."""
    token = run_id.rsplit("_", 1)[-1]
    return os.path.join(node_tmp or tempfile.gettempdir(), f"hpcrun-{token}")


def context_beside(own: Context, run_id: str) -> Context:
    """The context of a child of the run that this process belongs to."""
    if not own.offline:
        paths = UserPaths(posixpath.dirname(posixpath.dirname(own.record))).run(run_id)
        return interactive_context(paths, run_id, own.spool and os.path.dirname(own.spool))
    record = posixpath.join(posixpath.dirname(own.record), run_id)
    files = posixpath.join(record, "files")
    outputs = posixpath.join(files, "outputs")
    return replace(
        own, run_id=run_id, ranks=RankFacts(), record=record, files=files, outputs=outputs
    )


def make_child(context: Context, parent: str, name: Optional[str], tags: Mapping[str, str]) -> None:
    """Makes the record of a child. StoreError."""
    make_record(context, {"parent": parent, "display_name": name or "", "tags": dict(tags)})


def make_record(context: Context, request: Mapping[str, Any]) -> None:
    """Makes a run's folders; run.json is written aside and renamed. StoreError.

    request: what run.json holds besides what follows from the context.
    """
    parent, name = os.path.split(context.record)
    offline = context.offline
    owner = RunPaths(context.record, context.files).owner
    if owner.is_private and not offline:
        request = {"private": True, **request}
    request = {
        "format": 1,
        "run_id": context.run_id,
        "experiment": context.experiment,
        "user": str(os.geteuid()) if offline else owner.user,
        "target": OFFLINE if offline else INTERACTIVE,
        "created": time.time(),
        "agent": {"spool": (context.spool or "").rpartition("-")[0]},
        "job": {},
        **request,
    }
    aside = os.path.join(parent, f".{name}.{os.urandom(4).hex()}")
    try:
        with kept_to(parent):
            os.makedirs(aside)
            with open(os.path.join(aside, "run.json"), "x", encoding="utf-8") as file:
                json.dump(request, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.rename(aside, context.record)
            for folder in (context.outputs, os.path.join(context.files, "logs")):
                os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make run {name}: {error.strerror} ({error.filename})") from error
