"""Verdicts: the sentence, and what to change. How real faults end is in test_verdicts_cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.fold import fold
from hpcrun.hints import hint_of
from hpcrun.layout import Attempt
from hpcrun.record import Fact, Verdict
from hpcrun.scheduler.lives import joined
from hpcrun.scheduler.states import Exit, Step, Told, word_of
from hpcrun.scheduler.tables import Life
from hpcrun.state import Cause, State
from hpcrun.workflow.refresh import fact_data

REQUEST: dict[str, Any] = {
    "run_id": "digits_1700000000_0123abcd",
    "experiment": "digits",
    "user": "alice",
    "target": "cluster",
    "created": 1.0,
    "environment": {
        "python": "/envs/torch/bin/python",
        "virtual_environment": "/envs/torch",
        "modules": [],
    },
    "choices": [["memory per node", "32G", "run.yaml:3"], ["time limit", "1:00:00", "run.yaml:4"]],
}
TRACE = ["Traceback (most recent call last):", '  File "train.py", line 1, in <module>']


def verdict(*told: tuple[str, dict[str, Any]], request: dict[str, Any] | None = None) -> Verdict:
    """The verdict on facts of one attempt."""
    facts = [Fact(kind, Attempt(1), 2.0, n, data, kind) for n, (kind, data) in enumerate(told)]
    found = fold(request or REQUEST, facts).verdict
    assert found is not None
    return found


def fell(status: int, rank: int = 1) -> tuple[str, dict[str, Any]]:
    return "rank_ended", {"rank": rank, "status": status, "host": "n2", "time": 1.0}


def exited(code: int, *evidence: str) -> tuple[str, dict[str, Any]]:
    return "ended", {"exit_code": code, "cause": "exit_code", "evidence": list(evidence)}


# -- sentences ----------------------------------------------------------------------------------


def test_the_sentence_tells_the_rank_and_its_exception() -> None:
    told = verdict(fell(1), exited(1, *TRACE, "KeyError: 'x'"))
    assert told.sentence == (
        "the command ended with exit code 1; rank 1 on n2 fell first: KeyError: 'x'"
    )
    # Of a deep traceback only the last lines are kept.
    assert verdict(fell(1), exited(1, "    f()", "KeyError: 'x'")).sentence == told.sentence
    # Its message may have more lines, and other words follow.
    more = verdict(fell(1), exited(1, *TRACE, "KeyError: 'x'", "  rest", "wandb: bye"))
    assert more.sentence == told.sentence


@pytest.mark.parametrize("status", [3, 139])
def test_an_exception_that_a_rank_has_outlived_stays_out_of_the_sentence(status: int) -> None:
    told = verdict(fell(status), exited(status, *TRACE, "KeyError: 'x'", "gave up"))
    assert "KeyError" not in told.sentence and told.evidence[-1] == "gave up"


@pytest.mark.parametrize("lines", [["done", "Error: no"], ["  indented", "not: one: of them"], []])
def test_what_is_no_traceback_stays_out_of_the_sentence(lines: list[str]) -> None:
    lines = [line if line != "not: one: of them" else "not one: of them" for line in lines]
    sentence = verdict(fell(1), exited(1, *lines)).sentence
    assert sentence == "the command ended with exit code 1; rank 1 on n2 fell first"


def test_a_long_exception_is_cut() -> None:
    assert len(verdict(exited(1, *TRACE, "ValueError: " + "x" * 5000)).sentence) < 300


def test_a_rank_that_was_ended_did_not_fall_first_where_another_told_no_end() -> None:
    """As where somebody kills it and its shim: launchers end the others by TERM then."""
    request = {**REQUEST, "launch": {"nodes": 2, "processes_per_node": 2}}
    ends = [fell(143, rank) for rank in (0, 1, 3)]
    told = verdict(*ends, exited(137), request=request)
    assert told.sentence == (
        "the command was ended by SIGTERM; rank 2 may have fallen first: it told no end"
    )
    assert told.rank == 2
    assert verdict(*ends, fell(143, 2), exited(137), request=request).rank == 0
    assert verdict(fell(1, 0), *ends[1:], exited(1), request=request).rank == 0


KILL = ("out_of_memory", {"evidence": "the kernel killed a process for memory in step_0"})
WELL = ("ended", {"exit_code": 0, "cause": "completed"})


def test_a_rank_killed_for_memory_fails_the_run_whatever_its_launcher_says() -> None:
    told = verdict(fell(137), KILL, WELL)
    assert (told.cause, told.rank) == (Cause.OUT_OF_MEMORY, 1)
    assert "`resources.memory`, which was 32G" in told.hint
    told = verdict(fell(0), KILL, WELL)
    assert (told.cause, told.hint) == (Cause.COMPLETED, "")
    assert "although a process was killed for memory" in told.sentence


def test_what_a_rank_ended_by_is_told_beside_a_child_that_was_killed_for_memory() -> None:
    told = verdict(fell(1), KILL, exited(1, *TRACE, "ValueError: another matter"))
    assert (told.cause, told.rank) == (Cause.OUT_OF_MEMORY, 1)
    assert told.sentence == (
        "a process was killed because the job ran out of memory; rank 1 on n2 fell first:"
        " ValueError: another matter"
    )


def test_the_rank_that_was_killed_for_memory_is_named_whoever_fell_over_it_before() -> None:
    seen = {"rank": 2, "status": 137, "host": "n2", "time": 9.0, "memory": True}
    told = verdict(fell(1, 0), ("rank_ended", seen), KILL, exited(1, *TRACE, "RuntimeError: lost"))
    assert told.sentence == "rank 2 was killed because the job ran out of memory"
    assert told.rank == 2


def test_a_rank_that_fell_is_told_even_if_its_launcher_did_not_mind() -> None:
    for status, how in ((139, "by SIGSEGV"), (3, "with exit code 3")):
        told = verdict(fell(status), WELL)
        assert told.cause is Cause.COMPLETED
        assert told.sentence.endswith(f"exit code 0, although rank 1 on n2 ended {how}")


def scheduler(told: Told, steps: tuple[Step, ...] = (), **more: Any) -> tuple[str, dict[str, Any]]:
    return "scheduler", {**fact_data(word_of(told, steps)), **more}


def test_a_step_killed_for_memory_in_a_job_that_says_completed() -> None:
    steps = (Step("7.0", "OUT_OF_MEMORY", Exit(0, 125)),)
    told = verdict(scheduler(Told("COMPLETED", Exit(0, 0), nodes="n1"), steps))
    assert told.cause is Cause.OUT_OF_MEMORY
    assert told.evidence == ("the scheduler: COMPLETED 0:0; step 7.0 OUT_OF_MEMORY 0:125",)


def test_what_failed_before_user_code_is_told_by_the_batch_log() -> None:
    log = ["module: command not found", "hpcrun: cannot load module gcc/99"]
    told = verdict(scheduler(Told("FAILED", Exit(1, 0), nodes="n1"), log=log))
    assert told.cause is Cause.LAUNCH_FAILED
    assert told.sentence == "the job failed before user code started: cannot load module gcc/99"
    assert told.evidence == ("the scheduler: FAILED 1:0", *log)
    assert "mend `environment.modules`" in told.hint and told.hint.endswith("gcc/99")


def test_a_node_that_cannot_be_booted() -> None:
    told = verdict(scheduler(Told("BOOT_FAIL", Exit(1, 0), "JobLaunchFailure", nodes="n1")))
    assert (told.cause, told.sentence) == (Cause.NODE_FAILURE, "a node could not be booted")


def test_a_refusal_keeps_its_hint() -> None:
    said = {"message": "sbatch: Invalid account", "hint": "`sacctmgr` lists yours"}
    told = verdict(("submit_failed", said))
    assert (told.cause, told.hint) == (Cause.SUBMIT_FAILED, "`sacctmgr` lists yours")


# -- what the scheduler can tell ----------------------------------------------------------------


def test_without_accounting_the_words_say_so() -> None:
    held = Told("CANCELLED", Exit(0, 15), restart=1, nodes="n1", end=9.0)
    first, second = joined(held, None)
    assert (first.cause, first.raw) == (Cause.REQUEUED, "accounting is off")
    told = verdict(("scheduler", fact_data(second)))
    assert told.sentence == "the run was canceled by an unknown user"
    assert "accounting is off" in told.hint
    told = verdict(("scheduler", fact_data(second)), ("cancel_requested", {"by": "alice"}))
    assert told.sentence == "the run was canceled by alice" and not told.hint
    told = verdict(("scheduler", fact_data(first)))
    assert told.sentence == "the job was requeued; accounting is off, so nobody says why"


def test_a_job_that_only_accounting_believes_in_is_lost() -> None:
    running = Life("7", "run", Told("RUNNING", Exit(0, 0), start=5.0, nodes="n1"))
    (word,) = joined(None, [running])
    assert (word.state, word.cause) == (State.NOT_RESPONDING, None)
    # So it becomes once it has been silent for long enough.
    lost = replace(word, state=State.FAILED, cause=Cause.LOST)
    told = verdict(("started", {}), ("scheduler", fact_data(lost)))
    assert "sacct says RUNNING, and the controller does not know the job" in told.sentence
    assert "hpcrun collect digits_1700000000_0123abcd" in told.hint


def test_a_life_that_accounting_calls_requeued_is_not_the_one_that_waits() -> None:
    """sacct tells of the next one up to some seconds later (22.05)."""
    held = Told("PENDING", Exit(0, 0), "BeginTime", restart=1, start=3600.0)
    past = Life("7", "run", Told("REQUEUED", Exit(0, 0), start=5.0, end=9.0, nodes="n1"))
    first, second = joined(held, [past])
    assert (first.restart, first.cause, first.raw) == (0, Cause.REQUEUED, "REQUEUED")
    assert (second.restart, second.reason) == (1, "BeginTime")


@pytest.mark.parametrize(
    ("started", "sentence"),
    [
        (True, "the job was requeued by `scontrol requeue`"),
        (False, "the job was requeued before user code started"),
    ],
)
def test_a_requeue_that_accounting_calls_one(started: bool, sentence: str) -> None:
    word = ("scheduler", {"state": "Failed", "cause": "requeued", "raw": "REQUEUED"})
    assert verdict(*([("started", {})] if started else []), word).sentence == sentence


def test_what_was_written_down_of_a_requeued_run_hides_no_newer_reason() -> None:
    told = {"state": "Queued", "raw": "PENDING"}
    for reason in ("BeginTime", "Resources"):
        words = [told, {**told, "reason": reason}]
        facts = [
            Fact("scheduler", Attempt(1, 1), 2.0, n, data, f"~{n}") for n, data in enumerate(words)
        ]
        record = fold(REQUEST, facts)
        assert (str(record.state), record.attempt.reason) == ("Queued", reason)


# -- what to change -----------------------------------------------------------------------------

# As Python 3.8 to 3.13, dash, bash, glibc, Slurm 22.05, Open MPI 4.1, PyTorch and NCCL write them.
TEXTS = {
    "ModuleNotFoundError: No module named 'torch'": "install torch into the environment"
    " /envs/torch (`/envs/torch/bin/python -m pip install torch`)",
    "ModuleNotFoundError: No module named 'yaml'": "pip install PyYAML`",
    "ModuleNotFoundError: No module named 'torch.no'": "has torch, but not torch.no",
    "ModuleNotFoundError: No module named 'json.x'; 'json' is not a package": "rename what is"
    " called json in your source",
    "/envs/torch/bin/python: No module named torch": "install torch into",
    "/usr/bin/python3: Error while finding module specification for 'torch.distributed.run'"
    " (ModuleNotFoundError: No module named 'torch')": "install torch into",
    "ImportError: cannot import name 'Nope' from 'sklearn.svm' (/x/svm.py)": "another version of"
    " scikit-learn",
    "ImportError: cannot import name 'a' from partially initialized module 'random' (most likely"
    " due to a circular import) (/x/random.py)": "rename what is called random",
    "ImportError: libcudart.so.11.0: cannot open shared object file: No such file or directory": (
        "load the module that has libcudart.so.11.0"
    ),
    "/x/bin/python: error while loading shared libraries: libpython3.9.so.1.0: cannot open shared"
    " object file: No such file or directory": "the module that has libpython3.9.so.1.0",
    "python3: can't open file '/files/train.py': [Errno 2] No such file or directory": (
        "/files/train.py is not there"
    ),
    "bash: line 1: nvcc: command not found": "nvcc is not on the job's PATH",
    "sh: 1: nvcc: not found": "load the module that has nvcc",
    "hpcrun: cannot read the secret WANDB_API_KEY": "`secrets.WANDB_API_KEY`",
    "hpcrun: cannot write /scratch/x/record on n1": "every node can write",
    "hpcrun: cannot stage the environment on n1: it arrived damaged": "pack_failure: share",
    "hpcrun: mpirun gave this process no rank; does its MPI type fit?": "`launch.mpi.type`",
    "srun: error: Invalid MPI type 'x', --mpi=list for acceptable types": "`srun --mpi=list`",
    "[n1:7] OMPI was not built with SLURM's PMI support": "launcher: mpirun",
    "AssertionError: Torch not compiled with CUDA enabled": "a PyTorch for CUDA",
    "RuntimeError: No CUDA GPUs are available": "`resources.gpus_per_node`",
    "RuntimeError: Found no NVIDIA driver on your system. Please check": "ask for GPUs",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.": "larger GPU",
    "torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/"
    "ProcessGroupNCCL.cpp:3690, unhandled system error": "NCCL_DEBUG",
    "ncclSystemError: System call (e.g. socket, malloc) or external library call failed": (
        "NCCL_DEBUG"
    ),
    "terminate called without an active exception": "`destroy_process_group()` last",
    "OSError: [Errno 28] No space left on device": "make room",
    "slurmstepd-n1: error: *** STEP 134.2 ON n1 CANCELLED AT 2026-11-26T01:18:58 ***": (
        "`scancel 134.2`"
    ),
    "OSError: [Errno 122] Disk quota exceeded: 'x'": "make room",
    "ValueError: no column x was found": "",
}


def test_nodes_without_internet_are_told_where_the_site_says_so() -> None:
    text = "socket.gaierror: [Errno -2] Name or service not known"
    for told, said in (("no", "do not reach the internet: fetch"), ("yes", ""), (None, "")):
        asked = {**REQUEST, "choices": [["internet", told, "target"]] if told else []}
        hint = verdict(fell(1), exited(1, *TRACE, text), request=asked).hint
        assert (said in hint) if said else hint == ""


def test_a_gpus_own_memory_is_told_where_the_site_says_so() -> None:
    asked = {**REQUEST, "choices": [["memory of a GPU", "40G", "target"]]}
    hint = verdict(fell(1), exited(1, *TRACE, "CUDA out of memory."), request=asked).hint
    assert "a GPU's own memory, which was 40G, was full" in hint


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_tells_what_to_change(text: str) -> None:
    hint = verdict(fell(1), exited(1, *TRACE, text)).hint
    assert (TEXTS[text] in hint) if TEXTS[text] else hint == ""


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"python": "python3", "modules": []}, "the environment of python3 ("),
        ({"python": "python3", "modules": ["a", "b"]}, "python3 with the modules a, b ("),
        (None, "the environment of python3 ("),
    ],
)
def test_the_environment_to_change_is_named(environment: Any, words: str) -> None:
    told = Verdict(Cause.EXIT_CODE, "", ("ModuleNotFoundError: No module named 'x'",))
    assert words in hint_of(told, {**REQUEST, "environment": environment})


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_a_hint_or_none(cause: Cause) -> None:
    hint = hint_of(Verdict(cause, "", ("KILL",), signal=9), REQUEST)
    none = (
        "completed",
        "exit_code",
        "requeued",
        "submit_failed",
        "canceled",
        "reported",
        "unknown",
    )
    assert bool(hint) is (cause not in none), hint
    assert "{" not in hint.replace("{at_time_limit: true}", "").replace("{allowed: true}", "")


anything = st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5)


@given(anything, anything, st.text(max_size=200))
def test_another_users_request_and_words_may_be_anything(one: Any, two: Any, text: str) -> None:
    request = {**REQUEST, "environment": one, "choices": two}
    for cause in Cause:
        told = Verdict(cause, "", ("No module named 'x'", text))
        assert isinstance(hint_of(told, request), str)
        environment = {"python": one, "virtual_environment": two, "modules": one}
        assert isinstance(hint_of(told, {**request, "environment": environment}), str)
