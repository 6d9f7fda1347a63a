"""What a preflight makes of what its tasks see; what one sees; and which words start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcrun.agent.end import not_launched
from hpcrun.agent.policy import Policy, Preflight
from hpcrun.agent.preflight.judging import ROOM, Launched, Told, judge
from hpcrun.agent.preflight.sight import Sight, look
from hpcrun.agent.preflight.trial import launcher_words
from hpcrun.agent.requeue import wish
from hpcrun.config import MpiConfiguration, PyTorchConfiguration, Resources, RunConfiguration
from tests.make_plan import plan, script, shipped, site

WANTED = Preflight(tasks=4, gpus=2, python="python3")
LAUNCHED = Launched("srun", "pmix", ("n1", "n2"), "n1", 12345, begun=1000.0, status=0)
SIGHT = Sight(
    host="n1",
    rank=0,
    size=4,
    pmi=0,
    mpi=4,
    addresses=["10.0.0.1"],
    unreached="",
    gpus=2,
    rooms={"/tmp": 1 << 30},
    time=1001.0,
)


def seen(**changed: Any) -> list[Told]:
    """Four tasks on two nodes, of which the last one sees something else."""
    ranks = [SIGHT._replace(host=f"n{1 + r // 2}", rank=r, pmi=r) for r in range(4)]
    ranks[3] = ranks[3]._replace(**changed)
    return [Told(sight, 1002.0) for sight in ranks]


def test_nothing_is_wrong_where_all_is_well() -> None:
    assert judge(WANTED, LAUNCHED, seen()) == []
    for changed in (
        {"mpi": None, "pmi": None},  # neither srun nor mpi4py tells
        {"addresses": ["127.0.1.1", "10.0.0.1"]},
        {"addresses": ["fd00::1"]},
        {"gpus": 4},
        {"host": "n2.lab.example"},
        {"time": 996.0},
        {"time": 1006.0},
    ):
        assert judge(WANTED, LAUNCHED, seen(**changed)) == [], changed
    one_each = [Told(told.sight._replace(gpus=1), told.came) for told in seen()]
    assert judge(WANTED, LAUNCHED, one_each) == []


@pytest.mark.parametrize(
    ("changed", "said", "cure"),
    [
        ({"rank": 0, "size": 1}, "makes a process on n2 rank 0 of 1, and 4 are one", "--mpi=list"),
        ({"rank": 1}, "srun (--mpi=pmix) gives rank 1 to processes on n1 and n2", "mpi.type"),
        ({"pmi": 0}, "numbers rank 3 on n2 0 for MPI", "mpi.type"),
        ({"mpi": 1}, "MPI on n2 has a world of 1, not of 4", "mpi.type"),
        ({"mpi": "no PMI"}, "MPI cannot begin by srun (--mpi=pmix) on n2: no PMI", "mpi.type"),
        ({"addresses": []}, "n2 cannot resolve n1", "/etc/hosts"),
        ({"addresses": ["127.0.1.1"]}, "n1 is 127.0.1.1 on n2, which reaches no", "/etc/hosts"),
        ({"addresses": ["::1", "fe80::1%eth0"]}, "n1 is ::1 on n2", "/etc/hosts"),
        ({"unreached": "no"}, "n2 cannot reach port 12345 of n1 (10.0.0.1): no", "firewall"),
        ({"unreached": "no", "addresses": ["10.9.9.9"]}, "of n1 (10.9.9.9): no", "/etc/hosts"),
        ({"taken": [12346]}, "port 12346 of n2, which is in TF_CONFIG, is taken", "resubmit"),
        ({"gpus": 0}, "on n2 a rank sees no GPU, and 2 on each node were", 'exclude: "n2"'),
        ({"rooms": {"/tmp": ROOM - 1}}, "/tmp on n2 has 63 MiB left", "make room"),
        ({"rooms": {"/tmp": "Stale"}}, "/tmp on n2 cannot be used: Stale", 'exclude: "n2"'),
        ({"time": 1010.0}, "the clock of n2 is 8 s ahead of that of n1", "chrony"),
        ({"time": 900.0}, "the clock of n2 is 100 s behind that of n1", "chrony"),
    ],
)
def test_one_sentence_names_the_node_and_the_cure(
    changed: dict[str, Any], said: str, cure: str
) -> None:
    (sentence,) = judge(WANTED, LAUNCHED, seen(**changed))
    assert said in sentence and cure in sentence
    assert "\n" not in sentence


def test_nodes_that_are_silent_or_have_too_little_are_named() -> None:
    assert "no rank began: srun ended with exit code 2 (--mpi=pmi9)" in only(
        judge(WANTED, LAUNCHED._replace(status=2, mpi_type="pmi9"), [])
    )
    assert "mpirun did not end in time" in only(
        judge(WANTED, LAUNCHED._replace(launcher="mpirun", mpi_type="", status=None), [])
    )
    assert "2 of 4 processes began, and none on n2 did" in only(judge(WANTED, LAUNCHED, seen()[:2]))
    assert "3 of 4 processes began, and rank 2 did not" in only(
        judge(WANTED, LAUNCHED, [*seen()[:2], seen()[3]])
    )
    of_one = [Told(told.sight._replace(gpus=1), told.came) for told in seen()]
    four = judge(WANTED._replace(gpus=4), LAUNCHED, of_one)
    assert "the ranks on n1, n2 see 2 GPUs, and 4 on each node" in only(four)
    many = [Told(SIGHT._replace(host=f"n{n}", rank=n, pmi=n, gpus=0), 1002.0) for n in range(4)]
    assert "on n0, n1, n2 and 1 more no rank sees a GPU" in only(judge(WANTED, LAUNCHED, many))


def only(problems: list[str]) -> str:
    (problem,) = problems
    return problem


def test_the_root_is_told_first_and_the_rest_is_evidence() -> None:
    problems = judge(WANTED, LAUNCHED, seen(mpi=1, addresses=["127.0.0.1"], time=0.0))
    assert ["MPI on n2" in problems[0], "127.0.0.1" in problems[1], "clock" in problems[2]]
    ended = not_launched(problems, ["srun: error"])
    assert (ended.status, ended.cause) == (1, "launch_failed")
    assert ended.message == f"preflight: {problems[0]}"
    assert ended.evidence == (*problems[1:], "srun: error")


def test_what_was_not_launched_asked_for_no_requeue() -> None:
    policy = Policy(exit_code=1, at_time_limit=True, max_attempts=5)
    ended = not_launched(["a reason"], ())
    assert wish(policy, ended, over=True, heeded=True) == ""
    assert wish(policy, ended._replace(cause="exit_code"), over=False, heeded=False) != ""


# -- what a task sees -----------------------------------------------------------------------------

TASK = {
    "SLURM_PROCID": "1",
    "SLURM_NTASKS": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_ID": "0",
    "SLURM_NODEID": "1",
}


def told(tmp_path: Path, **changed: Any) -> dict[str, Any]:
    folders = [str(tmp_path), str(tmp_path / "not/there/yet")]
    return {
        "python": None,
        "begin": 60,
        "address": "localhost",
        "port": 0,
        "folders": folders,
        "servers": None,
        **changed,
    }


def test_a_task_tells_what_it_sees(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as door:
        port = door.getsockname()[1]
        sight = look({**TASK, "PMI_RANK": "1", "PMI_SIZE": "2"}, told(tmp_path, port=port))
        assert (sight.rank, sight.size, sight.pmi, sight.unreached) == (1, 2, 1, "")
        assert all(address in ("127.0.0.1", "::1") for address in sight.addresses)
        assert all(room > ROOM for room in sight.rooms.values()) and len(sight.rooms) == 2
    assert "refused" in look(TASK, told(tmp_path, port=port)).unreached
    assert look(TASK, told(tmp_path, address="no-such-host.invalid")).addresses == []
    assert Sight.of(sight.line) == sight
    assert Sight.of(sight.line[:-9]) is None and Sight.of("hello") is None
    assert Sight.of('hpcrun-preflight {"host": "n1"}') is None


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [
        ("CUDA_VISIBLE_DEVICES", "0,1,2", 3),
        ("CUDA_VISIBLE_DEVICES", "", 0),
        ("CUDA_VISIBLE_DEVICES", "NoDevFiles", 0),
        ("ROCR_VISIBLE_DEVICES", "GPU-a,GPU-b", 2),
    ],
)
def test_gpus_are_those_that_the_variables_name(
    tmp_path: Path, name: str, value: str, count: int
) -> None:
    assert look({**TASK, name: value}, told(tmp_path)).gpus == count


def test_the_size_of_mpis_world_is_asked_of_the_commands_python(tmp_path: Path) -> None:
    def python(text: str) -> str:
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return str(file)

    for text, world in (
        ("echo 4", 4),
        ("echo none", None),
        ("echo; echo '----- ' >&2; echo no PMI >&2; exit 1", "no PMI"),
        ("exit 3", "status 3"),
    ):
        assert look(TASK, told(tmp_path, python=python(text))).mpi == world
    late = told(tmp_path, python=python("exec sleep 60"), begin=0.05)
    assert look(TASK, late).mpi == "it has not after 0 s"
    # MPICH's kin speak with what started them over a descriptor that it has opened.
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    assert look(TASK, told(tmp_path, python=python(f"[ -e /dev/fd/{reader} ] && echo 4"))).mpi == 4
    os.close(reader)
    os.close(writer)
    assert look(TASK, told(tmp_path, python="/no/python")).mpi is None
    bare = [sys.executable, "-I", "-S"]  # has no mpi4py
    assert look(TASK, told(tmp_path, python=python(f'exec {" ".join(bare)} "$@"'))).mpi is None


# -- which words start them -----------------------------------------------------------------------


def words_of(config: RunConfiguration) -> list[str]:
    """The command of a run's script, as bash makes its words."""
    text = script(plan(config, site()))
    lines = text[text.index("\ntask=(") : text.index("\nagent=(")]
    line = f"{lines}\nprintf '%s\\0' \"${{command[@]}}\""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


SHIM = "/sdk/hpcrun/agent/task.sh"
STEP = ("srun", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--cpus-per-task=1")
REST = ("--kill-on-bad-exit=1", "--wait=60")


@pytest.mark.parametrize("argument", ["a.py", ":", "srun", "sh"])
def test_the_launchers_words_are_told_from_the_tasks(argument: str) -> None:
    one = Resources(cpus_per_task=1)

    def launch(kind: Any, launcher: str, **more: int) -> tuple[str, ...]:
        distributed = kind(node_count=2, launcher=launcher, **more)
        command = ["srun", "python", argument]
        config = RunConfiguration(
            command=command, resources=one, distributed_job_config=distributed
        )
        return launcher_words(words_of(config))

    assert launch(MpiConfiguration, "srun", process_count_per_node=2) == (
        *STEP,
        "--mpi=pmix",
        *REST,
    )
    assert launch(PyTorchConfiguration, "srun", process_count=4) == (*STEP, *REST)
    assert launch(MpiConfiguration, "mpirun", process_count_per_node=2) == (
        *("mpirun", "-np", "4", "--map-by", "ppr:2:node", "--bind-to", "none"),
    )
    by_torchrun = launch(PyTorchConfiguration, "torchrun", process_count=4)
    assert by_torchrun[:3] == ("srun", "--nodes=2", "--ntasks=2") and by_torchrun[-2:] == REST


def test_where_there_is_no_launcher_there_are_no_words() -> None:
    assert launcher_words(["python", "train.py"]) == ()
    assert launcher_words(["sh", SHIM, "srun", "sh"]) == ()


def test_of_two_steps_the_last_one_is_the_commands() -> None:
    servers = ["srun", "--overlap", "--nodes=1", "env", "ROLE=ps", "sh", SHIM, "python", "a.py"]
    workers = ["srun", "--nodes=2", "sh", SHIM, "python", "srun", "sh"]
    words = ["bash", "-c", "wait", "bash", "9", *servers, *workers]
    assert launcher_words(words) == ("srun", "--nodes=2")


# -- whether there is one -------------------------------------------------------------------------

TWO = RunConfiguration(
    script="a.py",
    distributed_job_config=MpiConfiguration(node_count=2, process_count_per_node=3),
    resources=Resources(gpus_per_node=2),
)
ONE = RunConfiguration(script="a.py")


def test_several_nodes_have_a_preflight_unless_something_else_is_said() -> None:
    made = plan(TWO).preflight
    assert made is not None and (made.tasks, made.gpus, made.python) == (6, 2, "python3")
    torch = PyTorchConfiguration(node_count=2, process_count=4)
    by_torchrun = plan(replace(TWO, distributed_job_config=torch)).preflight
    assert by_torchrun is not None and (by_torchrun.tasks, by_torchrun.python) == (2, None)
    assert plan(ONE).preflight is None
    assert plan(ONE, shipped("local")).preflight is None
    assert plan(replace(ONE, preflight=True)).preflight is not None
    assert plan(replace(ONE, preflight=True), shipped("local")).preflight is None
    assert plan(replace(TWO, preflight=False)).preflight is None
    off = site()
    off = replace(off, launch=replace(off.launch, preflight=False))
    assert plan(TWO, off).preflight is None
    assert plan(replace(TWO, preflight=True), off).preflight is not None
    (told,) = [choice for choice in plan(TWO, off).choices if choice.name == "preflight"]
    assert (told.value, told.origin) == ("off", "site lab")
