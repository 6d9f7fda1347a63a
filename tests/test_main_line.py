"""The main line on the real cluster: from run.yaml to a finished run in the history."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.lab import REPOSITORY, Lab, accounting, eventually, go_on

pytestmark = pytest.mark.cluster

TRAIN = """\
import os, sys, time
from hpcrun import Run

run = Run.get_context()
for step in range(5):
    run.log("loss", 1 / (step + 1), step=step)
run.tag("kind", "baseline")
os.makedirs("outputs", exist_ok=True)
open("outputs/model.txt", "w").write(os.uname().nodename)
print("trained on", os.uname().nodename, *sys.argv[1:], flush=True)
"""

RUN_YAML = """\
script: train.py
arguments: [--lr, 1e-3]
compute_target: test-cluster
experiment: line
display_name: a first run
tags: {group: tests}
resources: {time: 10m}
"""


@pytest.fixture(params=["accounting", "no accounting"], scope="module")
def either(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Lab]:
    """The cluster with slurmdbd, then without it."""
    with accounting(lab, request.param == "accounting"):
        yield lab


@pytest.fixture(scope="module")
def over_limit(either: Lab) -> str:
    """A run that reaches its time limit while other tests go on: Slurm looks every 30 s."""
    text = "import time\nprint('up', flush=True)\ntime.sleep(300)\n"
    run_id = either.submit(script(either, "limit", text))
    run = eventually(lambda: _running(either, run_id))
    # Slurm counts whole minutes; an administrator may set the end of a job that runs.
    limit = ["scontrol", "update", f"jobid={run['job_id']}", "EndTime=now+3"]
    done = either.cluster.run("root", limit, node="ctl")
    assert done.returncode == 0, done.stderr
    return run_id


@pytest.fixture
def source(lab: Lab, request: pytest.FixtureRequest) -> Path:
    """A user's folder with a run.yaml and a script."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())
    return lab.folder(name, {"run.yaml": RUN_YAML, "train.py": TRAIN})


def script(lab: Lab, name: str, text: str, yaml: str = RUN_YAML) -> Path:
    return lab.folder(name, {"run.yaml": yaml, "train.py": text})


def squeue(cluster: Cluster, job_id: str, field: str) -> str:
    return cluster.run("alice", ["squeue", "-h", "-j", job_id, "-o", field]).stdout.strip()


@pytest.mark.usefixtures("over_limit")
def test_a_run_from_submit_to_the_history(either: Lab, source: Path) -> None:
    said = either.ok("submit", cwd=source)
    run_id = re.search(r"submitted run (\S+) as job \d+ to test-cluster/main", said)[1]  # type: ignore[index]
    run = either.wait(run_id)
    assert (run["status"], run["experiment"], run["user"]) == ("Completed", "line", "alice")
    assert run["verdict"]["cause"] == "completed"
    assert (run["display_name"], run["tags"]) == (
        "a first run",
        {"group": "tests", "kind": "baseline"},
    )
    (attempt,) = run["attempts"]
    assert attempt["nodes"] and attempt["ranks"] == [
        {"rank": 0, "status": 0, "host": attempt["host"]}
    ]
    assert either.json("metrics", run_id) == {"loss": [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]}
    names = {file["name"] for file in either.json("files", run_id)}
    assert names == {"outputs/model.txt", "user_logs/1.0/rank-0.log", "user_logs/batch-1.log"}
    assert either.ok("logs", run_id) == f"trained on {attempt['host']} --lr 1e-3\n"
    copy = either.json("download", run_id, "outputs/model.txt", cwd=source)
    assert Path(copy["path"]).read_text() == attempt["host"]
    assert either.json("list", "-n", "1")[0]["run_id"] == run_id
    shown = either.ok("show", run_id)
    assert "Completed" in shown and "loss = 0.2 (5 values)" in shown


def test_render_is_byte_for_byte_what_submit_sends(lab: Lab, source: Path) -> None:
    run_id = f"line_{int(time.time())}_0123abcd"
    rendered = lab.ok("render", "--run-id", run_id, cwd=source)
    assert lab.submit(source, "--run-id", run_id) == run_id
    run = lab.wait(run_id)
    assert Path(run["record"], "script.sh").read_text() == rendered
    held = lab.cluster.run("alice", ["scontrol", "write", "batch_script", run["job_id"], "-"])
    assert held.stdout.rstrip("\n") == rendered.rstrip("\n")


def test_explain_tells_every_value_and_its_origin(lab: Lab, source: Path) -> None:
    words = ("explain", "--set", "resources.memory=2G", "--target", "test-cluster/short")
    done = lab.json(*words, "--set", "resources.time=90s", cwd=source)
    choices = {c["name"]: (c["value"], c["origin"]) for c in done["choices"]}
    assert choices["target"] == ("test-cluster/short", "--target")
    assert choices["experiment"] == ("line", "run.yaml:4")
    assert choices["memory per node"] == ("2G", "--set resources.memory")
    assert choices["partition"] == ("short", "target test-cluster/short")
    assert choices["nodes"] == ("1", "default")
    assert "default-environment" in choices["environment"][0]


def test_two_nodes_see_all_their_ranks(lab: Lab) -> None:
    text = (
        TRAIN + "print(os.environ['RANK'], os.environ['WORLD_SIZE'], os.environ['MASTER_ADDR'])\n"
    )
    source = script(lab, "two-nodes", text)
    more = ("--set", "distributed_job_config={kind: mpi, node_count: 2, process_count_per_node: 2}")
    run = lab.wait(lab.submit(source, *more))
    assert run["status"] == "Completed"
    (attempt,) = run["attempts"]
    first, second = attempt["nodes"]
    assert [rank["host"] for rank in attempt["ranks"]] == [first, first, second, second]
    for rank in range(4):
        log = lab.ok("logs", "--rank", str(rank), run["run_id"])
        assert log.splitlines()[-1] == f"{rank} 4 {first}"
    assert lab.json("metrics", run["run_id"])["loss"] == [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]


def example(lab: Lab, name: str) -> Path:
    folder = REPOSITORY / "examples" / name
    files = {f.name: f.read_text() for f in folder.iterdir() if f.suffix in (".py", ".yaml")}
    return lab.folder(f"example-{name}", files)


def test_digits_with_torch_ddp_on_two_nodes(lab: Lab) -> None:
    source = example(lab, "digits_ddp")
    words = ("-t", "test-cluster", "--set", f"environment={lab.venv}")
    run = lab.wait(lab.submit(source, *words))
    assert run["status"] == "Completed", lab.ok("show", run["run_id"])
    metrics = lab.json("metrics", run["run_id"])
    assert metrics["world_size"] == 4
    assert metrics["hosts"] == sorted(run["attempts"][0]["nodes"]) and len(metrics["hosts"]) == 2
    assert metrics["accuracy"][-1] > 0.9 and len(metrics["accuracy"]) == 15
    for rank in range(4):
        node = run["attempts"][0]["nodes"][rank // 2]
        log = lab.ok("logs", "--rank", str(rank), run["run_id"])
        assert f"rank {rank} of 4 on {node}" in log
    names = {file["name"] for file in lab.json("files", run["run_id"])}
    assert "outputs/model.pt" in names


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_mpi_on_two_nodes(lab: Lab, launcher: str) -> None:
    source = example(lab, "mpi")
    words = ("-t", "test-cluster", "--set", f"environment={lab.venv}")
    more = ("--set", f"distributed_job_config.launcher={launcher}")
    run = lab.wait(lab.submit(source, *words, *more))
    assert run["status"] == "Completed", lab.ok("show", run["run_id"])
    metrics = lab.json("metrics", run["run_id"])
    assert (metrics["world_size"], len(metrics["hosts"])) == (4, 2)
    assert metrics["pi"][-1] == pytest.approx(3.1416, abs=0.02)
    for rank in range(4):
        assert f"rank {rank} of 4" in lab.ok("logs", "--rank", str(rank), run["run_id"])


# -- ends ---------------------------------------------------------------------------------------


def test_an_exit_code_and_the_traceback_behind_it(either: Lab) -> None:
    source = script(either, "fails", "print('so far'); raise ValueError('no such column: x')\n")
    run = either.wait(either.submit(source))
    assert (run["status"], run["verdict"]["cause"]) == ("Failed", "exit_code")
    assert (run["verdict"]["exit_code"], run["verdict"]["rank"]) == (1, 0)
    assert run["verdict"]["evidence"][-1] == "ValueError: no such column: x"
    done = either.run("wait", run["run_id"])
    assert done.returncode == 20 and "exit code 1" in done.stderr


def test_a_rank_that_dies_by_a_signal_ends_the_step(lab: Lab) -> None:
    text = (
        "import os, signal, time\n"
        "if os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "time.sleep(100)\n"
    )
    source = script(lab, "rank-dies", text)
    more = ("--set", "distributed_job_config={kind: mpi, node_count: 2}")
    run = lab.wait(lab.submit(source, *more))
    verdict = run["verdict"]
    assert (run["status"], verdict["cause"], verdict["rank"]) == ("Failed", "signal", 1)
    assert verdict["signal"] == 11 and "rank 1" in verdict["sentence"]


def test_out_of_memory_of_a_rank(either: Lab) -> None:
    source = script(either, "memory", "hold = [bytearray(50 << 20) for _ in range(40)]\n")
    more = ("--set", "resources.memory=300M", "--set", "distributed_job_config={kind: mpi}")
    run = either.wait(either.submit(source, *more))
    assert (run["status"], run["verdict"]["cause"]) == ("Failed", "out_of_memory")
    assert "memory" in run["verdict"]["sentence"]


def test_cancel_by_the_user(either: Lab) -> None:
    text = "import time\nprint('up', flush=True)\ntime.sleep(300)\n"
    run_id = either.submit(script(either, "cancel", text))
    eventually(lambda: either.json("show", run_id)["status"] == "Running")
    either.ok("cancel", run_id)
    run = either.wait(run_id)
    assert (run["status"], run["verdict"]["cause"]) == ("Canceled", "canceled")
    assert run["verdict"]["sentence"] == "the run was canceled by alice"
    assert either.run("wait", run_id).returncode == 21


@pytest.fixture
def accounted(lab: Lab) -> Iterator[Lab]:
    """The cluster with slurmdbd, whatever another test is going on with."""
    with accounting(lab, True):
        yield lab


def test_who_canceled_is_the_schedulers_word(accounted: Lab) -> None:
    lab = accounted
    text = "import time\nprint('up', flush=True)\ntime.sleep(300)\n"
    for who in ("alice", "root"):
        run_id = lab.submit(script(lab, f"cancel-{who}", text))
        run = eventually(lambda name=run_id: _running(lab, name))
        assert lab.cluster.run(who, ["scancel", run["job_id"]]).returncode == 0
        ended = lab.wait(run_id)
        assert ended["verdict"]["sentence"] == f"the run was canceled by {who}"


def _running(lab: Lab, run_id: str) -> Any:
    run = lab.json("show", run_id)
    return run if run["status"] == "Running" else None


def test_what_heeds_no_cancel_has_ended_when_it_was_killed(either: Lab) -> None:
    """Its agent is killed with it, and writes no end: the scheduler is asked at once."""
    text = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True)\ntime.sleep(300)\n"
    )
    run_id = either.submit(script(either, "heeds-no-cancel", text))
    eventually(lambda: "up" in either.run("logs", run_id).stdout)
    either.ok("cancel", run_id)
    run = either.wait(run_id)
    assert (run["status"], run["verdict"]["cause"]) == ("Canceled", "canceled")


def test_cancel_while_it_waits(lab: Lab, source: Path) -> None:
    run_id = lab.submit(source, "--set", "sbatch={hold: null}")
    run = lab.json("show", run_id)
    assert (run["status"], run["reason"]) == ("Queued", "JobHeldUser")
    lab.ok("cancel", run_id)
    run = lab.wait(run_id)
    assert (run["status"], run["verdict"]["cause"]) == ("Canceled", "canceled")


def test_the_time_limit(either: Lab, over_limit: str) -> None:
    run = either.wait(over_limit)
    assert (run["status"], run["verdict"]["cause"]) == ("Failed", "time_limit"), run


def test_a_requeue_is_a_second_attempt_of_the_same_run(either: Lab) -> None:
    lab = either
    text = (
        "import os, time\nfrom hpcrun import Run\nrun = Run.get_context()\n"
        "first = os.environ['HPCRUN_ATTEMPT'] == '1.0'\n"
        "for step in range(3): run.log('loss', 1 if first else 2, step=step)\n"
        "print('up', flush=True)\n"
        "time.sleep(300 if first else 0)\n"
    )
    run_id = lab.submit(script(lab, "requeue", text))
    run = eventually(lambda: (r := lab.json("show", run_id))["status"] == "Running" and r)
    eventually(lambda: lab.json("metrics", run_id).get("loss") == [1, 1, 1])
    assert lab.cluster.run("alice", ["scontrol", "requeue", run["job_id"]]).returncode == 0
    go_on(lab, run["job_id"])
    run = lab.wait(run_id)
    assert [a["attempt"] for a in run["attempts"]] == ["1.0", "1.1"]
    assert run["status"] == "Completed"
    requeued = run["attempts"][0]["verdict"]
    how = {
        True: " by `scontrol requeue`",
        False: "; accounting is off, so nobody says why",
    }
    assert requeued["sentence"] == "the job was requeued" + how[lab.cluster.has_accounting()]
    assert requeued["cause"] == "requeued"
    assert lab.json("metrics", run_id) == {"loss": [2, 2, 2]}
    logs = [f["name"] for f in lab.json("files", run_id) if f["name"].endswith("rank-0.log")]
    assert logs == ["user_logs/1.0/rank-0.log", "user_logs/1.1/rank-0.log"]


def test_an_exit_code_asks_slurm_for_the_next_attempt(either: Lab) -> None:
    # The first rank that ends so ends the others.
    text = (
        "import os, time\nfrom hpcrun import Run\nrun = Run.get_context()\n"
        "first = os.environ['HPCRUN_ATTEMPT'] == '1.0'\n"
        "run.log('loss', 1, step=0 if first else 1)\n"
        "logged = 'outputs/logged-' + os.environ['HPCRUN_ATTEMPT']\n"
        "run.rank == 0 and open(logged, 'w').close()\n"
        "while not os.path.exists(logged): time.sleep(0.05)\n"
        "while not (first or os.path.exists('outputs/go')): time.sleep(0.05)\n"
        "raise SystemExit(42 if first else 0)\n"
    )
    two_nodes = ("--set", "distributed_job_config={kind: mpi, node_count: 2}")
    run_id = either.submit(script(either, "exit-code", text), *two_nodes)
    run = eventually(lambda: len((r := either.json("show", run_id))["attempts"]) == 2 and r)
    assert run["status"] in ("Queued", "Starting", "Running", "Finalizing")
    Path(run["files"], "outputs/go").touch()
    go_on(either, run["job_id"])
    run = either.wait(run_id)
    assert run["status"] == "Completed", either.ok("show", run_id)
    first, second = run["attempts"]
    assert (first["attempt"], second["attempt"]) == ("1.0", "1.1")
    assert first["job_id"] == second["job_id"]
    requeued = first["verdict"]
    assert (requeued["cause"], second["verdict"]["cause"]) == ("requeued", "completed")
    assert requeued["sentence"] == "the command asked for a requeue with exit code 42"
    assert either.json("metrics", run_id) == {"loss": [1, 1]}


def test_preempted_runs_go_on_as_their_next_attempts(accounted: Lab) -> None:
    """The batch script hears nothing at first: only steps get TERM, and a rank may heed it."""
    lab = accounted
    text = (
        "import os, signal, sys, time\nfirst = os.environ['HPCRUN_ATTEMPT'] == '1.0'\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('up', flush=True)\n"
        "time.sleep(300 if first else 0)\n"
    )
    source = script(lab, "preempted", text)
    low = ("-t", "test-cluster/low", "--set", "resources.exclusive=true")
    two_nodes = ("--set", "distributed_job_config={kind: mpi, node_count: 2}")
    ids = [lab.submit(source, *low, *more) for more in ((), two_nodes)]
    runs = [eventually(lambda name=run_id: _running(lab, name)) for run_id in ids]
    whole = ["sbatch", "-p", "high", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1"]
    done = lab.cluster.run("bob", whole, cwd=lab.cluster.shared)
    assert done.returncode == 0, done.stderr
    for run in runs:
        go_on(lab, run["job_id"])
    for run_id in ids:
        run = lab.wait(run_id)
        first, second = run["attempts"]
        assert run["status"] == "Completed", run
        assert (first["attempt"], second["attempt"]) == ("1.0", "1.1")
        assert first["verdict"]["cause"] == "preempted", first
        assert first["verdict"]["sentence"] == "the job was preempted"


def test_a_second_job_of_a_submission_is_a_duplicate(lab: Lab, source: Path) -> None:
    run = lab.wait(lab.submit(source))
    again = ["sbatch", "--parsable", f"{run['record']}/script.sh"]
    job_id = lab.cluster.run("alice", again).stdout.strip()
    eventually(lambda: squeue(lab.cluster, job_id, "%T") in ("COMPLETED", ""))
    batch = lab.ok("logs", "--batch", run["run_id"])
    assert f"job {job_id} is a duplicate" in batch
    assert lab.json("show", run["run_id"]) == run


# -- people -------------------------------------------------------------------------------------


def test_follow_writes_each_byte_once_and_ctrl_c_leaves_the_run_alive(lab: Lab) -> None:
    text = (
        "import os, time\n"
        "for n in range(200):\n"
        "    print('line', n, flush=True)\n"
        "    time.sleep(0.05)\n"
        "    while n == 100 and not os.path.exists('outputs/go'): time.sleep(0.05)\n"
    )
    source = script(lab, "follow", text)
    words = [str(lab.venv / "bin/hpcrun"), "submit", "--follow"]
    env = lab.environment()
    with lab.cluster.popen("alice", words, cwd=source, env=env) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        run_id = lines[0].split()[2]
        assert lines[1:] == [f"line {n}\n" for n in range(4)]
        process.send_signal(2)
        _, error = process.communicate(timeout=180)
    assert process.returncode == 130 and f"hpcrun cancel {run_id}" in error
    run = lab.json("show", run_id)
    assert run["status"] == "Running"
    Path(run["files"], "outputs/go").touch()
    followed = lab.run("logs", "-f", run_id)
    assert followed.returncode == 0
    assert followed.stdout == "".join(f"line {n}\n" for n in range(200))
    part = lab.json("logs", "--offset", "7", run_id)
    assert (part["offset"], part["text"][:6]) == (7, "line 1")
    assert part["next_offset"] == len(followed.stdout)


def test_another_user_of_the_group_reads_and_cannot_change(lab: Lab, source: Path) -> None:
    run_id = lab.wait(lab.submit(source))["run_id"]
    assert lab.json("show", run_id, user="bob")["status"] == "Completed"
    assert lab.json("metrics", run_id, user="bob")["loss"][0] == 1.0
    assert "trained" in lab.ok("logs", run_id, user="bob")
    assert lab.json("list", user="bob") == [] or all(
        run["user"] == "bob" for run in lab.json("list", user="bob")
    )
    assert run_id in [run["run_id"] for run in lab.json("list", "-u", "alice", user="bob")]
    for command in ("cancel", "clean"):
        refused = lab.run(command, run_id, user="bob")
        assert refused.returncode == 10 and "alice's" in refused.stderr


def test_contradictions_are_told_at_once_and_nothing_is_written(lab: Lab, source: Path) -> None:
    before = [run["run_id"] for run in lab.json("list")]
    yaml = RUN_YAML.replace(
        "{time: 10m}", "\n  time: 3-00:00:00\n  gpus_per_node: 5\n  memory: 1T\n"
    )
    (source / "run.yaml").write_text(yaml)
    done = lab.run("submit", cwd=source)
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("hpcrun: run.yaml:") for line in lines)
    assert "run.yaml:9: 5 GPUs per node" in done.stderr and "have 4" in done.stderr
    assert "3-00:00:00" in done.stderr and "1-00:00:00" in done.stderr
    assert [run["run_id"] for run in lab.json("list")] == before


def test_an_unchanged_source_is_stored_once(lab: Lab, source: Path) -> None:
    first, second = (lab.wait(lab.submit(source)) for _ in range(2))
    one, two = (run["properties"]["ContentSnapshotId"] for run in (first, second))
    assert one == two
    assert Path(first["files"], "train.py").read_text() == TRAIN
    Path(first["files"], "train.py").write_text("changed by the job's owner")
    assert Path(second["files"], "train.py").read_text() == TRAIN


def test_the_job_works_in_its_own_folder(lab: Lab) -> None:
    text = "import os\nopen('made', 'w').write(os.getcwd())\n"
    source = script(lab, "own-folder", text)
    run = lab.wait(lab.submit(source))
    assert not (source / "made").exists()
    assert Path(run["files"], "made").read_text() == run["files"]


def test_the_python_api_on_the_login_node(lab: Lab, source: Path) -> None:
    code = """
import json
from hpcrun import Experiment, Run, ScriptRunConfig, Workspace

workspace = Workspace.from_config()
src = ScriptRunConfig(source_directory=".", script="train.py", arguments=["--lr", 0.1])
src.run_config.target = "test-cluster/short"
run = Experiment(workspace, "api").submit(src, tags={"a": "b"})
details = run.wait_for_completion(show_output=True)
print("RESULT" + json.dumps([
      details["status"], details["target"], run.get_metrics(), run.get_tags(),
      list(run.get_file_names()), run.get_status(), run.get_detailed_status()["status"],
      Run.get(workspace, run.id).id == run.id, len(run.get_snapshot_id())]))
"""
    done = lab.cluster.run(
        "alice", [lab.python, "-c", code], cwd=source, env=lab.environment(), timeout=120
    )
    assert done.returncode == 0, done.stderr
    result: Any = json.loads(done.stdout.partition("RESULT")[2])
    assert result[:2] == ["Completed", "test-cluster/short"]
    assert result[2]["loss"] == [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert result[3] == {"a": "b", "kind": "baseline"}
    assert "outputs/model.txt" in result[4]
    assert result[5:] == ["Completed", "Completed", True, 64]
    assert "trained on" in done.stdout and "Execution Summary" in done.stdout


def test_the_real_login_by_ssh(lab: Lab, source: Path) -> None:
    line = f"cd {source} && HPCRUN_WORKSPACE={lab.workspace} {lab.venv}/bin/hpcrun submit --follow"
    done = subprocess.run(
        [*lab.cluster.ssh_words("alice"), line], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "trained on" in done.stdout
