"""The shim around each task, in every POSIX shell of this machine, with really parallel ranks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcrun.placeholders import are_in, refusal
from tests.agent_job import Job, alive, pid_in, shells, status_of, until
from tests.ordinary_user import needs_root
from tests.signal_masks import settable
from tests.test_agent import CATCH, NASTY, SHOW

SHELLS = pytest.mark.parametrize("shell", shells(), ids=" ".join)
HOST = os.uname().nodename
NAMES = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)


def task(
    job: Job, shell: Sequence[str], *words: str, errors: int | None = None, **more: str
) -> subprocess.Popen[bytes]:
    """A task as a launcher starts it. more: variables."""
    command = [*shell, str(job.sdk / "hpcrun/agent/task.sh"), *words]
    return subprocess.Popen(command, env=job.environment(**more), stderr=errors)


def srun(rank: int, size: int, per_node: int) -> dict[str, str]:
    """What srun sets for a rank."""
    return {
        "HPCRUN_LAUNCHER": "srun",
        "HPCRUN_NPROC_PER_NODE": str(per_node),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank % per_node),
        "SLURM_NODEID": str(rank // per_node),
        "SLURM_NTASKS": str(size),
        "SLURM_STEP_NUM_TASKS": str(size),
    }


def exits(job: Job) -> list[list[str]]:
    return [line.split() for line in (job.spool / "exits").read_text().splitlines()]


def log(job: Job, rank: int = 0) -> str:
    return (job.files / f"user_logs/1.0/rank-{rank}.log").read_text()


SHOW_GPUS = "import os; print(*(os.environ.get(f'{n}_VISIBLE_DEVICES') for n in ('CUDA', 'ROCR')))"


@SHELLS
def test_a_process_sees_the_gpus_that_the_site_wants(job: Job, shell: list[str]) -> None:
    amd = Path("/dev/kfd").exists()
    every_one, of_rank = ({"HPCRUN_GPU_VISIBILITY": told} for told in ("all", "localid"))
    from_last = {"HPCRUN_GPU_ORDER": "reversed"}
    for told, devices, seen in (
        (from_last, "0,1,2,3", "3,2,1,0"),
        (from_last, "GPU-a", "GPU-a"),
        ({}, "0,1", "0,1"),
        (of_rank, "4,5", "5"),
        (of_rank | from_last, "0,1", "0"),
        (every_one, "0", "0,1,2"),
        # Of a job that is not confined to its devices, on a node that others share.
        (every_one, "4,5,6", "4,5,6"),
        (every_one, "5", "5"),
        (every_one | from_last, "0", "2,1,0"),
        # As with srun --gpu-bind=none.
        (of_rank, "", "1"),
        (from_last, "", "2,1,0"),
    ):
        given = {"CUDA_VISIBLE_DEVICES": devices} if devices else {}
        given |= {**told, "SLURM_GPUS_ON_NODE": "3"}
        with task(job, shell, sys.executable, "-c", SHOW_GPUS, **srun(1, 2, 2), **given) as child:
            assert child.wait() == 0
        wanted = f"None {seen}" if amd and told else f"{seen} None"
        assert log(job, 1).splitlines()[-1] == wanted
    for name, devices, seen in (("ROCR", "a,b", "None b"), ("CUDA", "-1", "-1 None")):
        given = {**of_rank, f"{name}_VISIBLE_DEVICES": devices, "SLURM_GPUS_ON_NODE": "2"}
        with task(job, shell, sys.executable, "-c", SHOW_GPUS, **srun(1, 2, 2), **given) as child:
            assert child.wait() == 0
        assert log(job, 1).splitlines()[-1] == seen


# A /dev of its own, with the device by which AMD's driver is known.
AMD = """mkdir "$0" && mount -t tmpfs none "$0" && touch "$0/null" "$0/kfd" &&
    mount --bind /dev/null "$0/null" && mount --rbind "$0" /dev && exec "$@"
"""


@needs_root
def test_on_amds_nodes_one_variable_tells_whose_gpus(job: Job, tmp_path: Path) -> None:
    shell = ["unshare", "--mount", "sh", "-c", AMD, str(tmp_path / "dev"), "sh"]
    told = {f"{name}_VISIBLE_DEVICES": "4,5" for name in ("CUDA", "ROCR")}
    told |= {"HPCRUN_GPU_VISIBILITY": "localid", "SLURM_GPUS_ON_NODE": "2"}
    with task(job, shell, sys.executable, "-c", SHOW_GPUS, **srun(1, 2, 2), **told) as child:
        assert child.wait() == 0
    assert log(job, 1) == "None 5\n"


LAUNCHERS = {
    "plain": (
        {"RANK": "7", "WORLD_SIZE": "9", "MASTER_ADDR": "stale"},
        ("0", "0", "0", "1", "1", "127.0.0.1", "12345"),
    ),
    "srun": (srun(5, 8, 4), ("5", "1", "1", "8", "4", "127.0.0.1", "12345")),
    "mpirun": (
        {
            "OMPI_COMM_WORLD_RANK": "3",
            "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_SIZE": "4",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            "HPCRUN_NODELIST": f"other {HOST}.cluster.example",
            "HPCRUN_MASTER_ADDR": "other",
        },
        ("3", "1", "1", "4", "2", "other", "12345"),
    ),
    "ibrun": (
        {**srun(5, 8, 4), "PMI_RANK": "3", "PMI_SIZE": "4", "HPCRUN_NPROC_PER_NODE": "2"},
        ("3", "1", "0", "4", "2", "127.0.0.1", "12345"),
    ),
    "ours": (srun(5, 8, 4), ("5", "1", "1", "8", "4", "127.0.0.1", "12345")),
    "torchrun_static": (
        {"RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "0", "WORLD_SIZE": "2"}
        | {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "n1", "MASTER_PORT": "12007"},
        ("1", "1", "0", "2", "2", "n1", "12007"),
    ),
    "torchrun": (
        {
            "RANK": "6",
            "LOCAL_RANK": "2",
            "GROUP_RANK": "1",
            "WORLD_SIZE": "8",
            "LOCAL_WORLD_SIZE": "4",
            "MASTER_ADDR": "elsewhere",
            "MASTER_PORT": "29400",
        },
        ("6", "2", "1", "8", "4", "elsewhere", "29400"),
    ),
}


@SHELLS
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_launchers_numbers_become_the_standard_names(
    job: Job, shell: Sequence[str], launcher: str
) -> None:
    given, expected = LAUNCHERS[launcher]
    show = f"import os; print([os.environ.get(n) for n in {NAMES}], os.environ['PYTHONUNBUFFERED'])"
    words = (sys.executable, "-c", show)
    rank = task(job, shell, *words, **{**given, "HPCRUN_LAUNCHER": launcher})
    assert status_of(rank) == 0
    assert log(job, int(expected[0])) == f"{list(expected)} 1\n"


@SHELLS
@pytest.mark.parametrize("kind", ["mpi", "pytorch"])
def test_azure_mls_names_of_ranks_are_those_of_open_mpi(
    job: Job, shell: Sequence[str], kind: str
) -> None:
    names = [f"OMPI_COMM_WORLD_{n}" for n in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")]
    show = f"import os; print([os.environ.get(n) for n in {names}])"
    rank = task(job, shell, sys.executable, "-c", show, HPCRUN_DISTRIBUTED=kind, **srun(5, 8, 4))
    assert status_of(rank) == 0
    expected = ["5", "8", "1", "4"] if kind == "mpi" else [None] * 4
    assert log(job, 5) == f"{expected}\n"


TENSORFLOW = {
    "HPCRUN_LAUNCHER": "tensorflow",
    "HPCRUN_NNODES": "3",
    "HPCRUN_WORLD_SIZE": "5",
    "HPCRUN_NODELIST": "n1 n2 n3",
}


@SHELLS
@pytest.mark.parametrize(
    ("place", "role", "task_is", "facts"),
    [
        (0, "", ("worker", 0), (0, 0, 0, 5, 2)),
        (2, "", ("worker", 2), (2, 0, 2, 5, 1)),
        (1, "ps", ("ps", 1), (4, 1, 1, 5, 2)),
    ],
)
def test_tensorflow_is_told_of_its_cluster(
    job: Job,
    shell: Sequence[str],
    place: int,
    role: str,
    task_is: tuple[str, int],
    facts: tuple[int, ...],
) -> None:
    show = f"import os; print(os.environ['TF_CONFIG'], *[os.environ[n] for n in {NAMES[:5]}])"
    told = {**srun(place, 3, 1), **TENSORFLOW, "HPCRUN_ROLE": role}
    assert status_of(task(job, shell, sys.executable, "-c", show, **told)) == 0
    config, *numbers = log(job, facts[0]).rsplit(maxsplit=5)
    assert tuple(map(int, numbers)) == facts
    assert json.loads(config) == {
        "cluster": {
            "worker": ["n1:12345", "n2:12345", "n3:12345"],
            "ps": ["n1:12346", "n2:12346"],
        },
        "task": {"type": task_is[0], "index": task_is[1]},
        "environment": "cloud",
    }


@SHELLS
@pytest.mark.parametrize(
    ("role", "how", "status"), [("ps", "TERM", 0), ("ps", "USR2", 0), ("worker", "TERM", 143)]
)
def test_a_parameter_server_that_is_told_to_end_has_not_failed(
    job: Job, shell: Sequence[str], role: str, how: str, status: int
) -> None:
    told = {**srun(0, 2, 1), **TENSORFLOW, "HPCRUN_ROLE": role}
    words = ("sh", "-c", "touch ready; exec sleep 600")
    rank = task(job, shell, *words, **told)
    until((job.files / "ready").exists)
    rank.send_signal(signal.Signals[f"SIG{how}"])
    assert status_of(rank) == status
    assert exits(job)[0][1] == str(status)


@SHELLS
@pytest.mark.parametrize("launcher", ["srun", "mpirun", "ibrun"])
def test_a_launcher_that_numbers_nothing_is_refused(
    job: Job, shell: Sequence[str], launcher: str
) -> None:
    rank = task(job, shell, "true", errors=subprocess.DEVNULL, HPCRUN_LAUNCHER=launcher)
    assert status_of(rank) == 1
    assert not job.spool.exists()


@SHELLS
def test_words_arrive_exactly(job: Job, shell: Sequence[str]) -> None:
    assert status_of(task(job, shell, sys.executable, "-c", SHOW, *NASTY)) == 0
    assert json.loads((job.files / "words.json").read_text()) == NASTY


FILLED = {
    "${{rank}}": "5",
    "--out=run-${{ rank }}-of-${{world_size}}.txt": "--out=run-5-of-8.txt",
    "${{local_rank}}/${{local_world_size}}@${{node_rank}}": "1/4@1",
    "tcp://${{master_addr}}:${{master_port}}": "tcp://127.0.0.1:12345",
    'it\'s ${{rank}} "$RANK" `id` $(id) * \n': 'it\'s 5 "$RANK" `id` $(id) * \n',
    "$${{rank}}": "${{rank}}",
    "$$${{rank}} ${{rank}}": "$${{rank}} 5",
    "$${{ anything }}${{rank}}": "${{ anything }}5",
    "${{rank": "${{rank",
    "}}${{rank}}": "}}5",
    "${{a{${{rank}}": "${{a{5",
    "${{rank}}$": "5$",
    "\udcff${{rank}}\udcc3\n": "\udcff5\udcc3\n",
}


@SHELLS
def test_placeholders_are_filled_in_each_rank_and_nothing_else_is(
    job: Job, shell: Sequence[str]
) -> None:
    words = (sys.executable, "-c", SHOW, "${{rank}}", *FILLED, *NASTY)
    told = {**srun(5, 8, 4), "HPCRUN_PLACEHOLDERS": "4"}
    assert status_of(task(job, shell, *words, **told)) == 0
    found = json.loads((job.files / "words.json").read_text())
    assert found == ["${{rank}}", *FILLED.values(), *NASTY]
    assert status_of(task(job, shell, sys.executable, "-c", SHOW, *FILLED, **srun(5, 8, 4))) == 0
    assert json.loads((job.files / "words.json").read_text()) == list(FILLED)


@SHELLS
def test_the_shim_and_the_check_agree_on_what_a_placeholder_is(
    job: Job, shell: Sequence[str]
) -> None:
    dice = random.Random(7)
    pieces = ("${{", "}}", "$", "{", "}", "rank", " ", "x", "node_rank", "ü\n", "\udcff")
    made = ["".join(dice.choices(pieces, k=dice.randint(1, 9))) for _ in range(2000)]
    words = [word for word in made if refusal(word) is None]
    told = {**srun(5, 8, 4), "HPCRUN_PLACEHOLDERS": "0"}
    assert status_of(task(job, shell, sys.executable, "-c", SHOW, *words, **told)) == 0
    found = json.loads((job.files / "words.json").read_text())
    for given, word in zip(words, found, strict=True):
        assert word == given or are_in([given]), given
    changed = [given for given, word in zip(words, found, strict=True) if word != given]
    assert len(changed) > 20 and are_in(changed)
    assert not any(
        are_in([word]) for given, word in zip(words, found, strict=True) if "$$" not in given
    )


@SHELLS
@pytest.mark.parametrize("status", [0, 1, 42, 126, 127, 255])
def test_the_status_is_kept(job: Job, shell: Sequence[str], status: int) -> None:
    before = time.time()
    assert status_of(task(job, shell, "sh", "-c", f"exit {status}")) == status
    ((rank, told, when, host),) = exits(job)
    assert (rank, told, host) == ("0", str(status), HOST)
    assert int(before) <= float(when.partition(".")[0]) <= time.time()


@SHELLS
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_signals_status_is_kept(job: Job, shell: Sequence[str], number: int) -> None:
    quiet = "import resource, os; resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
    words = (sys.executable, "-c", f"{quiet} os.kill(os.getpid(), {int(number)})")
    assert status_of(task(job, shell, *words, errors=subprocess.DEVNULL)) == 128 + number
    assert exits(job)[0][1] == str(128 + number)


@SHELLS
def test_a_command_that_is_not_there(job: Job, shell: Sequence[str]) -> None:
    assert status_of(task(job, shell, "no-such-command")) == 127
    assert log(job).endswith(f"\nhpcrun: rank 0 on {HOST} cannot start no-such-command\n")


@SHELLS
@pytest.mark.parametrize("status", [126, 127])
def test_a_command_that_ends_as_if_it_were_not_there(
    job: Job, shell: Sequence[str], status: int
) -> None:
    assert status_of(task(job, shell, "sh", "-c", f"exit {status}")) == status
    assert log(job) == ""


@SHELLS
@pytest.mark.parametrize("name", ["TERM", "INT", "USR1", "USR2", "HUP", "CONT"])
def test_signals_are_passed_on_once(job: Job, shell: Sequence[str], name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    rank = task(job, shell, sys.executable, "-uc", CATCH, str(int(number)), "15")
    until((job.files / "ready").exists)
    rank.send_signal(number)
    until(lambda: f"caught {int(number)}\n" in log(job))
    if number not in (signal.SIGTERM, signal.SIGINT):
        rank.terminate()
    assert status_of(rank) == 5
    once = [f"caught {n}" for n in dict.fromkeys([int(number), 15])]
    assert log(job).splitlines() == (once[:1] if number == signal.SIGINT else once)


@SHELLS
def test_many_signals_do_not_hide_the_status(job: Job, shell: Sequence[str]) -> None:
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "open('ready', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "raise SystemExit(33)\n"
    )
    rank = task(job, shell, sys.executable, "-c", code)
    until((job.files / "ready").exists)
    for _ in range(200):
        rank.send_signal(signal.SIGUSR1)
        time.sleep(0.001)
    time.sleep(0.2)
    (job.files / "go").touch()
    assert status_of(rank) == 33
    assert exits(job)[0][1] == "33"


@SHELLS
def test_the_command_has_default_signals_and_reads_nothing(job: Job, shell: Sequence[str]) -> None:
    if shell[0] == "busybox" and subprocess.run(["env", "--default-signal=INT", "true"]).returncode:
        pytest.skip("nothing here can take back what this shell ignores")
    show = "grep -E '^Sig(Blk|Ign)' /proc/self/status; cat"
    assert status_of(task(job, shell, "sh", "-c", show)) == 0
    assert [settable(line.split()[1]) for line in log(job).splitlines()] == [0, 0]


@SHELLS
def test_the_spool_is_private_and_never_anothers(job: Job, shell: Sequence[str]) -> None:
    show = 'echo "${HPCRUN_SPOOL-none}"'
    assert status_of(task(job, shell, "sh", "-c", show)) == 0
    assert job.spool.stat().st_mode & 0o777 == 0o700
    elsewhere = job.root / "elsewhere"
    elsewhere.mkdir()
    trap = job.root / "trap"
    trap.symlink_to(elsewhere)
    assert status_of(task(job, shell, "sh", "-c", show, HPCRUN_SPOOL=str(trap))) == 0
    assert log(job) == f"{job.spool}\nnone\n"
    assert list(elsewhere.iterdir()) == []


@SHELLS
def test_without_the_runs_folder_it_runs_all_the_same(job: Job, shell: Sequence[str]) -> None:
    gone = str(job.root / "gone" / "deep")
    (job.root / "gone").touch()
    quiet = subprocess.DEVNULL
    rank = task(job, shell, "sh", "-c", "exit 8", errors=quiet, HPCRUN_FILES=gone)
    assert status_of(rank) == 8
    assert exits(job)[0][1] == "8"


def parallel(job: Job, shell: Sequence[str], size: int, code: str) -> list[int]:
    """Ranks that are really there at once; their statuses."""
    words = (sys.executable, "-S", "-c", code)
    ranks = [task(job, shell, *words, **srun(rank, size, size)) for rank in range(size)]
    return [status_of(rank) for rank in ranks]


RANK = (
    "import os, sys\n"
    "rank = int(os.environ['RANK'])\n"
    "for n in range(50): print('rank', rank, 'line', n)\n"
    "print('unfinished', end='')\n"
    "sys.stderr.write('to stderr\\n')\n"
    "sys.exit(rank % 3)\n"
)


@SHELLS
def test_four_ranks_have_a_log_each(job: Job, shell: Sequence[str]) -> None:
    assert parallel(job, shell, 4, RANK) == [0, 1, 2, 0]
    for rank in range(4):
        lines = log(job, rank).splitlines()
        assert [line for line in lines if line.startswith("rank")] == [
            f"rank {rank} line {n}" for n in range(50)
        ]
        assert lines[-1] == "unfinishedto stderr"
    assert sorted((int(r), int(s)) for r, s, _, _ in exits(job)) == [(r, r % 3) for r in range(4)]


@SHELLS
def test_eighty_ranks_share_their_nodes_log(job: Job, shell: Sequence[str]) -> None:
    assert parallel(job, shell, 80, RANK) == [rank % 3 for rank in range(80)]
    (path,) = (job.files / "user_logs/1.0").iterdir()
    assert path.name == f"node-{HOST}.log"
    lines = path.read_text().splitlines()
    for rank in range(80):
        own = [line for line in lines if line.startswith(f"[{rank}] ")]
        expected = [f"[{rank}] rank {rank} line {n}" for n in range(50)]
        assert own == [*expected, f"[{rank}] unfinishedto stderr"]
    assert len(lines) == 80 * 51
    ended = sorted((int(r), int(s)) for r, s, _, _ in exits(job))
    assert ended == [(rank, rank % 3) for rank in range(80)]
    assert sorted(path.name for path in job.spool.iterdir()) == ["exits", "starts"]


def told_to_stop(shell: Sequence[str]) -> set[int]:
    """The status of a command that ends with 5 as its TERM comes, or what is left of it."""
    return {5, 143} if "bash" in shell else {5}


@SHELLS
def test_last_lines_survive_a_stop_of_the_whole_group(job: Job, shell: Sequence[str]) -> None:
    calm = CATCH.replace("    print(", "    signal.signal(number, signal.SIG_IGN)\n    print(")
    words = [*shell, str(job.sdk / "hpcrun/agent/task.sh"), sys.executable, "-uc", calm, "15"]
    rank = subprocess.Popen(words, env=job.environment(**srun(70, 80, 80)), start_new_session=True)
    until((job.files / "ready").exists)
    os.killpg(rank.pid, signal.SIGTERM)
    assert status_of(rank) in told_to_stop(shell)
    lines = (job.files / f"user_logs/1.0/node-{HOST}.log").read_text().splitlines()
    assert lines and set(lines) == {"[70] caught 15"}


@SHELLS
def test_a_status_that_the_shell_has_lost_is_not_waited_for(job: Job, shell: Sequence[str]) -> None:
    """bash 5.2 loses about every fifth status of a command that ends as its own trap is due."""
    once = CATCH.replace("    print(", "    signal.signal(number, signal.SIG_IGN)\n    print(")
    words = [*shell, str(job.sdk / "hpcrun/agent/task.sh"), sys.executable, "-ISuc", once, "15"]
    for _ in range(20):
        rank = subprocess.Popen(
            words, env=job.environment(**srun(70, 80, 80)), start_new_session=True
        )
        until((job.files / "ready").exists)
        (job.files / "ready").unlink()
        os.killpg(rank.pid, signal.SIGTERM)
        assert rank.wait(timeout=180) in told_to_stop(shell)


def test_eighty_ranks_under_the_agent(job: Job) -> None:
    """The whole line: every rank's end is a fact, and the first that fell is named."""
    script = job.root / "eighty.sh"
    script.write_text(
        "for rank in $(seq 0 79); do\n"
        '    SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &\n'
        "done\n"
        "wait\n"
        "exit 1\n"
    )
    code = "import os, sys, time; k = os.environ['RANK'] == '41'; k or time.sleep(2)\n"
    code += "if k: raise RuntimeError('bad rank')"
    words = ("bash", str(script), *job.shim, sys.executable, "-S", "-c", code)
    assert job.run(*words, **srun(0, 80, 80)) == 1
    ends = {fact.data["rank"]: fact.data["status"] for fact in job.facts("rank_ended")}
    assert ends == {rank: int(rank == 41) for rank in range(80)}
    assert job.fact("ended").data["evidence"][-1] == "RuntimeError: bad rank"
    verdict = job.folded().verdict
    assert verdict is not None and verdict.rank == 41
    assert not job.spool.exists()


def test_ranks_in_groups_of_their_own_end_too(job: Job) -> None:
    """As torchrun starts them; it is killed before it can tell them."""
    job.ask(agent={"kill_wait_seconds": 0.5})
    inner = "trap '' TERM; echo $$ > pid; while :; do sleep 1; done"
    start = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], start_new_session=True)"
    words = (*job.shim, "sh", "-c", inner)
    agent = job.start(sys.executable, "-c", f"{start}; time.sleep(600)", *words)
    pid = pid_in(job.files / "pid")
    agent.terminate()
    assert status_of(agent) == 143
    assert not alive(pid)
