"""What to change after an end: read from its evidence, else told by its cause.

Pure; standard library only (Python 3.8+). The texts looked for are those of Python, the shells,
glibc, Slurm, Open MPI, PyTorch, NCCL and our own script; docs/verdicts.md lists them.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Callable, Iterator, Mapping, Match, NamedTuple, Sequence, Tuple

from hpcrun.record import Verdict
from hpcrun.state import Cause
from hpcrun.verdict import NO_RECORDS, NOT_REQUEUED, SILENT, UNKNOWN_USER


class Asked(NamedTuple):
    """What a run asked for, as far as hints name it. choices: resolved values by their names."""

    run_id: str
    python: str
    prefix: str
    modules: Sequence[str]
    choices: Mapping[str, str]

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Asked:
        """Those in a run's request (run.json): an interactive run's has hardly any, and another
        user's may hold anything."""
        environment = request.get("environment")
        told = environment if isinstance(environment, dict) else {}
        pairs = [c[:2] for c in _array(request.get("choices")) if isinstance(c, (list, tuple))]
        return cls(
            str(request["run_id"]),
            str(told.get("python") or "python3"),
            str(told.get("virtual_environment") or ""),
            [str(name) for name in _array(told.get("modules"))],
            {str(pair[0]): str(pair[1]) for pair in pairs if len(pair) == 2},
        )

    @property
    def environment(self) -> str:
        """The environment in words."""
        if self.prefix:
            return f"the environment {self.prefix}"
        where = f" with the modules {', '.join(self.modules)}" if self.modules else ""
        return f"the environment of {self.python}{where}"

    def had(self, name: str) -> str:
        """What stands behind a key in a hint: the value that the run had."""
        return f", which was {self.choices[name]}" if name in self.choices else ""


def _array(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def hint_of(verdict: Verdict, request: Mapping[str, Any]) -> str:
    """What to change so that it does not end like this again; empty where there is nothing."""
    if verdict.cause is Cause.COMPLETED:
        return ""
    why = verdict.sentence.partition(NOT_REQUEUED)[2]
    if why:
        told = next((told for words, told in _OF_REQUEUES if words in why), _AGAIN)
        return told.format(run=str(request["run_id"]))
    asked, evidence = Asked.of(request), "\n".join(verdict.evidence)[-_MOST:]
    if verdict.cause in _OF_PROGRAMS:
        for pattern, hint in _TEXTS:
            found = list(re.finditer(pattern, evidence, re.MULTILINE))
            told = hint(found[-1], asked) if found else ""
            if told:
                return told
    if verdict.cause is Cause.SIGNAL:
        return _of_signal(verdict.signal)
    if verdict.cause is Cause.CANCELED:
        known = _CANCELED[:1] if UNKNOWN_USER not in verdict.sentence else _CANCELED
        return next((told for words, told in known if words in evidence), "")
    if verdict.cause is Cause.TIME_LIMIT and "max_run_duration_seconds" in verdict.sentence:
        return "give all its attempts together more time: `max_run_duration_seconds`"
    return _OF_CAUSE.get(verdict.cause, "").format(
        run=asked.run_id, time=asked.had("time limit"), memory=asked.had("memory per node")
    )


_MOST = 16384
"""Characters of evidence that are searched: of another user's run it may be any text."""

_CANCELED = (
    ("DependencyNeverSatisfied", "see why the job that it depends on failed; then submit it again"),
    (NO_RECORDS, f"{NO_RECORDS} here: without sacct nobody tells who canceled"),
    (SILENT, f"{SILENT} when the end was looked up: only sacct tells who canceled"),
)

_OF_PROGRAMS = (Cause.EXIT_CODE, Cause.LAUNCH_FAILED, Cause.SIGNAL, Cause.REPORTED)

_AGAIN = "`hpcrun resubmit {run}` goes on from its newest checkpoint"

_OF_CAUSE = {
    Cause.OUT_OF_MEMORY: "ask for more memory (`resources.memory`{memory}), or make it need less:"
    " smaller batches, fewer data loader workers",
    Cause.TIME_LIMIT: "ask for more time (`resources.time`{time}), or let it go on in a next"
    " attempt: `requeue: {{at_time_limit: true}}`",
    Cause.NODE_FAILURE: "no fault of the run: "
    + _AGAIN
    + "; with `requeue: {{allowed: true}}` Slurm does so by itself",
    Cause.PREEMPTED: _AGAIN
    + "; with `requeue: {{allowed: true}}` Slurm does so by itself, and other targets are not"
    " preempted",
    Cause.LAUNCH_FAILED: "`hpcrun logs --batch {run}` shows what Slurm and the script wrote",
    Cause.AGENT_LOST: "`hpcrun collect {run}` brings what lies on its node's disk",
    Cause.LOST: "Slurm forgets a job some minutes after its end, and only accounting (sacct)"
    " remembers it; `hpcrun collect {run}` brings what lies on its nodes' disks",
}


def _of_signal(number: int | None) -> str:
    if number == 9:
        return (
            "nobody told who killed it: often it is the kernel, for memory (`resources.memory`),"
            " or somebody by hand"
        )
    if number in (4, 6, 7, 8, 11):
        return (
            "a fault in compiled code: `environment_variables: {PYTHONFAULTHANDLER: '1'}` shows"
            " which line called it"
        )
    return ""


_OF_REQUEUES = (
    (
        "made no progress",
        "progress is a greater step in `run.log(…, step=…)`, or a new checkpoint in outputs/ that"
        " `checkpoints.patterns` fit; " + _AGAIN,
    ),
    ("max_attempts", _AGAIN + ", with as many attempts once more"),
    (
        "max_run_duration_seconds",
        "give all its attempts together more time: `max_run_duration_seconds`, in a new run with"
        " `resume_from`",
    ),
    (
        "Slurm says",
        _AGAIN + "; `requeue: {{allowed: true}}` lets Slurm requeue it, if the site does",
    ),
)
"""What to change where a run was not requeued, by why."""

Hint = Callable[[Match[str], Asked], str]

_PACKAGES = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "git": "GitPython",
    "PIL": "Pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Packages whose modules have another name."""


def _no_module(found: Match[str], asked: Asked) -> str:
    module = found["module"]
    top, _, inner = module.partition(".")
    package = _PACKAGES.get(top, top)
    if inner:
        return (
            f"{asked.environment} has {top}, but not {module}: install another version of"
            f" {package}, or rename what is called {top} in your source"
        )
    return (
        f"install {package} into {asked.environment} (`{asked.python} -m pip install {package}`),"
        " or name one that has it in `environment`; a module of your own must be in the snapshot:"
        f" `hpcrun snapshot {asked.run_id}`"
    )


def _no_name(found: Match[str], asked: Asked) -> str:
    top = found["module"].partition(".")[0]
    package = _PACKAGES.get(top, top)
    return (
        f"{found['module']} has no {found['name']}: install another version of {package} into"
        f" {asked.environment}, or rename what is called {top} in your source"
    )


def _no_program(found: Match[str], asked: Asked) -> str:
    program, host = found["program"], found["host"]
    told = f"{program} is not on {host}, or may not be executed there"
    if program == asked.python:
        return (
            f"{told}: name a Python that every node has, by `environment.virtual_environment` or"
            " `environment.python.interpreter_path`, or load its modules (`environment.modules`)"
        )
    return f"{told}: {_by_module(program)}"


def _not_on_path(found: Match[str], asked: Asked) -> str:
    return f"{found['program']} is not on the job's PATH: {_by_module(found['program'])}"


def _by_module(program: str) -> str:
    return (
        f"load the module that has {program} (`environment.modules`), or write its whole path in"
        " `command`"
    )


def _no_script(found: Match[str], asked: Asked) -> str:
    return (
        f"{found['file']} is not there: what the run needs must be in the snapshot"
        f" (`hpcrun snapshot {asked.run_id}`), or on a file system that every node has"
    )


def _gpu_memory(found: Match[str], asked: Asked) -> str:
    had = asked.had("memory of a GPU")
    return (
        f"a GPU's own memory{had and f'{had},'} was full, which `resources.memory` does not change:"
        " smaller batches, or a larger GPU (`resources.gpu_type`)"
    )


def _no_network(found: Match[str], asked: Asked) -> str:
    told = asked.choices.get("internet")
    if told not in ("no", "proxy"):
        return ""
    through = " but through a proxy" if told == "proxy" else ""
    return (
        f"its nodes do not reach the internet{through}: fetch data and models on a login node"
        " before, into a folder that the nodes see"
    )


def _texts(*rows: Tuple[str, str]) -> Iterator[Tuple[str, Hint]]:
    """Patterns with a hint in which their groups stand as \\1, \\2."""
    for pattern, hint in rows:
        yield pattern, functools.partial(_expanded, hint)


def _expanded(hint: str, found: Match[str], asked: Asked) -> str:
    return found.expand(hint)


_PMI = (
    "`srun --mpi=list` tells what this Slurm has: set the one that fits the program's MPI as"
    " `launch.mpi.type` in the site file, or take `distributed_job_config.launcher: mpirun`"
)

_TEXTS: Sequence[Tuple[str, Hint]] = (
    # What our own script and shim say.
    (r"^hpcrun: rank \d+ on (?P<host>\S+) cannot start (?P<program>.+)$", _no_program),
    *_texts(
        (
            r"^hpcrun: cannot load module (.+)$",
            r"`module avail` on the cluster tells what there is: mend `environment.modules`, or the"
            r" site's modules, for \1",
        ),
        (
            r"^hpcrun: cannot read the secret (.+)$",
            r"the file of `secrets.\1` must be there for the nodes too",
        ),
        (
            r"^hpcrun: cannot write (.+) on (\S+)$",
            r"choose a workspace that every node can write: \1 on \2 it cannot be",
        ),
        (
            r"^hpcrun: cannot stage the environment on (\S+): .+$",
            r"make room on \1, or let the job take the environment from where it is"
            r" (`environment.pack_failure: share`)",
        ),
        (r"^hpcrun: \S+ gave this process no rank", _PMI),
        (
            r"folder of the job's log may be missing",
            r"the folder of the job's log must be there, and writable, on the node: choose a"
            r" workspace that every node can write",
        ),
        # Slurm and Open MPI.
        (
            r"^Error running slurm prolog",
            r"no fault of the run: tell your cluster's staff which node it was (`sinfo -R`), and"
            r" submit it again",
        ),
        (r"(?i)invalid MPI type|cannot find mpi plugin|OMPI was not built with SLURM", _PMI),
    ),
    # Python and its packages.
    (r"No module named '?(?P<module>[\w.]+)", _no_module),
    (
        r"ImportError: cannot import name '(?P<name>\w+)' from (?:partially initialized module )?"
        r"'(?P<module>[\w.]+)'",
        _no_name,
    ),
    (r"can't open file '(?P<file>[^']+)': \[Errno 2\]", _no_script),
    *_texts(
        (
            r"([^\s:]+\.so[.\d]*): cannot open shared object file",
            r"load the module that has \1 (`environment.modules`), or make the environment with"
            r" libraries that the nodes have",
        ),
        (
            r"Torch not compiled with CUDA enabled",
            r"install a PyTorch for CUDA: the one in the environment is for CPUs only",
        ),
        (
            r"Found no NVIDIA driver on your system|No CUDA GPUs are available",
            r"ask for GPUs (`resources.gpus_per_node`), on a target that has some",
        ),
        (
            r"\bNCCL error\b|\bnccl(?:System|UnhandledCuda|Internal|Remote)Error\b",
            r"`environment_variables: {NCCL_DEBUG: INFO}` makes NCCL say what failed",
        ),
        (
            r"^terminate called without an active exception",
            r"a thread of compiled code still ran as the process ended: with torch.distributed,"
            r" call `destroy_process_group()` last",
        ),
    ),
    (r"CUDA out of memory", _gpu_memory),
    (
        r"Name or service not known|Temporary failure in name resolution|Network is unreachable"
        r"|Could not resolve host|Max retries exceeded with url",
        _no_network,
    ),
    *_texts(
        # The system's own words.
        (
            r"No space left on device|Disk quota exceeded",
            r"make room, or let the job work elsewhere (`working_directory`)",
        ),
        (
            r"\*\*\* STEP (\S+) ON \S+ CANCELLED AT",
            r"step \1 was canceled: by somebody (`scancel \1`), or by srun itself, which ends the"
            r" other ranks when one fell",
        ),
    ),
    (r"(?:^|: )(?P<program>[^\s:]+): (?:command )?not found$", _not_on_path),
)
