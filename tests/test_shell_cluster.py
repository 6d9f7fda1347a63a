"""Shells and connections beside jobs, on the real cluster, through real terminals."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hpcrun.layout import UserPaths
from tests.lab import Lab, eventually
from tests.terminal import Terminal

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
compute_target: test-cluster
experiment: shell
environment: {environment_variables: {COLOR: "dark  blue"}}
distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 2}
resources: {gpus_per_node: 2, memory: 600M, time: 10m}
sbatch: {nodelist: "n1,n2"}
"""

# Rank 2, the first on the second node, serves what lies in its folder.
TRAIN = """\
import http.server, os, signal, threading, time
rank = int(os.environ["RANK"])
open(f"outputs/{rank}", "w").write(os.environ["CUDA_VISIBLE_DEVICES"])
if rank == 2:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    open("outputs/big", "wb").write(os.urandom(3_000_000))
    open("outputs/port", "w").write(str(server.server_address[1]))
while not os.path.exists(os.environ["HPCRUN_FILES"] + "/go"):
    time.sleep(0.1)
"""


FETCH = """\
import hashlib, sys, urllib.request
print(hashlib.sha256(urllib.request.urlopen(sys.argv[1]).read()).hexdigest())
"""


class Job:
    """A run on two nodes that goes on until it is let go."""

    def __init__(self, lab: Lab, run: Any) -> None:
        self.lab = lab
        self.run_id: str = run["run_id"]
        self.files = Path(run["files"])
        self.record = Path(UserPaths.of(str(lab.workspace), "alice").active, self.run_id)

    def shell(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.lab.run("shell", self.run_id, *words, **more)

    def said(self, *words: str) -> str:
        done = self.shell(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def let_go(self) -> Any:
        (self.files / "go").touch()
        return self.lab.wait(self.run_id)


@contextlib.contextmanager
def begun(lab: Lab, name: str) -> Iterator[Job]:
    source = lab.folder(name, {"run.yaml": RUN_YAML, "train.py": TRAIN})
    job = Job(lab, lab.json("submit", cwd=source))
    eventually(lambda: (job.files / "outputs/port").exists() and len(list_ranks(job)) == 4)
    try:
        yield job
    finally:
        lab.ok("cancel", job.run_id)


def list_ranks(job: Job) -> list[str]:
    return [path.name for path in (job.files / "outputs").iterdir() if path.name.isdigit()]


@pytest.fixture(scope="module")
def job(lab: Lab) -> Iterator[Job]:
    with begun(lab, "shell") as job:
        yield job


def terminal_of(job: Job, *words: str) -> Terminal:
    """`hpcrun shell` at a terminal."""
    command = [str(job.lab.venv / "bin/hpcrun"), "shell", job.run_id, *words]
    environ = job.lab.environment(TERM="xterm-256color")
    del environ["COLUMNS"]
    return Terminal(job.lab.cluster.words("alice", ["setsid", "-c", *command], env=environ))


ENVIRONMENT = 'echo "$COLOR|$PWD|$(hostname)|$CUDA_VISIBLE_DEVICES|$RANK|$HPCRUN_RUN_ID"; umask'


def test_a_command_has_the_runs_environment(job: Job) -> None:
    first, second = (
        job.said(*node, "--", "bash", "-c", ENVIRONMENT).split("\n")[0].split("|")
        for node in ((), ("--node", "1"))
    )
    gpus = [(job.files / "outputs" / rank).read_text() for rank in "02"]
    assert first == ["dark  blue", str(job.files), "n1", gpus[0], "", job.run_id]
    assert second == ["dark  blue", str(job.files), "n2", gpus[1], "", job.run_id]
    assert job.said("--", "python", "-c", "import sys; print(sys.prefix)") == str(job.lab.venv)


def test_a_rank_has_its_own(job: Job) -> None:
    told = job.said("--rank", "3", "--", "bash", "-c", ENVIRONMENT).split("\n")[0].split("|")
    assert (told[2], told[4]) == ("n2", "3")
    done = job.shell("--rank", "3", "--node", "n1", "--", "true")
    assert done.returncode == 255
    assert f"no rank 3 of run {job.run_id} runs on n1" in done.stderr


def test_input_output_and_exit_code_are_the_commands(job: Job) -> None:
    done = job.shell("--", "sh", "-c", "cat; echo err >&2; exit 7", input="a\nb")
    assert (done.returncode, done.stdout) == (7, "a\nb")
    assert "err\n" in done.stderr
    assert job.shell(input="exit 5\n").returncode == 5
    assert job.shell("--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    done = job.shell("--", "no-such-command", "a b")
    assert done.returncode == 127
    assert "cannot start no-such-command" in done.stderr
    nasty = ["", " a  b ", ":", "'\"$HOME`x`", "naïve\n☃", "--", "-N4"]
    printed = job.said("--", "python", "-c", "import sys; print(sys.argv[1:])", *nasty)
    assert printed == repr(nasty)


def test_what_cannot_be(job: Job, tmp_path: Path) -> None:
    for words, code, said in (
        (("--node", "n3"), 2, "it is on n1, n2"),
        (("--rank", "4"), 2, "0 to 3"),
        (("-L", "x"), 2, "is no port"),
    ):
        done = job.shell(*words, "--", "true")
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    done = job.shell("--", "true", user="bob")
    assert done.returncode == 10, done.stderr
    waiting = job.lab.folder("shell-held", {"run.yaml": RUN_YAML, "train.py": TRAIN})
    run_id = job.lab.submit(waiting, "--set", "sbatch={hold: null}")
    done = job.lab.run("shell", run_id, "-L", "80", "--", "true")
    job.lab.ok("cancel", run_id)
    assert done.returncode == 7
    assert f"run {run_id} is Queued: its job is on no node yet" in done.stderr, done.stderr


SITE = """\
schema_version: 1
id: test-cluster
title: Ours
inherits: [test-cluster]
sources: [{url: https://example.org/rules, grade: A, fields: [ssh]}]
"""


@pytest.mark.parametrize(
    ("rule", "words", "said"),
    [
        (
            "ssh: {port_forwarding: false}",
            ("-L", "80"),
            "Ours does not allow port forwarding (says https://example.org/rules)",
        ),
        (
            "scheduler: {directives: {forbid: {--overlap: one step at a time}}}",
            (),
            "nothing runs beside a job (one step at a time)",
        ),
    ],
)
def test_a_site_may_forbid_it(job: Job, rule: str, words: tuple[str, ...], said: str) -> None:
    site = {".hpcrun/config.json": "{}", ".hpcrun/site_configs/test-cluster.yaml": SITE + rule}
    done = job.shell(*words, "--", "true", cwd=job.lab.folder("shell-forbidden", site))
    assert (done.returncode, said in done.stderr) == (3, True), done.stderr


def test_a_shell_in_a_terminal(job: Job) -> None:
    with_terminal = terminal_of(job)
    with_terminal.shows(rf"\[{job.run_id} n1\]")
    with_terminal.type("tty; stty size; echo $TERM $COLOR; echo mark\n")
    with_terminal.shows(r"/dev/pts/\d+\r\n33 101\r\nxterm-256color dark blue\r\nmark")
    with_terminal.type("sleep 1000\n")
    with_terminal.shows("sleep 1000\r\n")
    eventually(lambda: "sleep 1000" in job.lab.cluster.run("root", ["ps", "-eo", "args"]).stdout)
    with_terminal.type("\x03")
    with_terminal.type("echo after=$?\n")
    with_terminal.shows("after=130")
    with_terminal.type("exit 9\n")
    assert with_terminal.ends() == 9


def test_a_port_of_the_node_is_one_of_the_login_node(job: Job) -> None:
    port = (job.files / "outputs/port").read_text()
    terminal = terminal_of(job, "--node", "1", "-L", f"0:{port}")
    here = terminal.shows(rf"127\.0\.0\.1:(\d+) is port {port} of n2").group(1)
    fetch = [job.lab.python, "-c", FETCH, f"http://127.0.0.1:{here}/outputs/big"]
    done = job.lab.cluster.run("alice", fetch)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == sha256((job.files / "outputs/big").read_bytes()).hexdigest()
    terminal.shows(rf"\[{job.run_id} n2\]")
    terminal.type("exit\n")
    assert terminal.ends() == 0
    assert "Connection refused" in job.lab.cluster.run("alice", fetch).stderr


def test_what_goes_on_beside_a_run_does_it_no_harm(job: Job) -> None:
    """Not what takes all memory, nor a step that is killed."""
    eat = "b = []\nwhile True: b.append(bytearray(10_000_000))"
    # The keeper looks every second, at control groups that are still there.
    done = job.shell("--", "sh", "-c", 'python -c "$0"; echo $?; sleep 3', eat)
    assert done.stdout == "137\n"
    assert re.search("oom|out.of.memory", done.stderr, re.I), done.stderr
    terminal = terminal_of(job)
    terminal.shows(rf"\[{job.run_id} n1\]")
    words = ["squeue", "--steps", "--noheader", "--user=alice", "--Format=StepID:20,StepName:20"]
    lines = job.lab.cluster.run("alice", words).stdout.split("\n")
    own = [line.split()[0] for line in lines if "python" in line]
    number = max(own, key=lambda step: int(step.partition(".")[2]))
    # scancel may fail, and say `No error` (22.05).
    kill = ["scancel", "--signal=KILL", number]
    eventually(lambda: job.lab.cluster.run("alice", kill) and terminal.is_over())
    assert terminal.ends() != 0
    run = job.let_go()
    assert (run["status"], len(list_ranks(job))) == ("Completed", 4)
    facts = "".join(path.read_text() for path in job.record.glob("*.jsonl"))
    assert '"k":"ended"' in facts
    assert "out_of_memory" not in facts


def test_a_cancel_does_not_wait_for_a_shell(lab: Lab) -> None:
    with begun(lab, "shell-canceled") as job:
        terminal = terminal_of(job, "--node", "n2")
        terminal.shows(rf"\[{job.run_id} n2\]")
        terminal.type("trap 'echo hung up > outputs/trap' EXIT; echo mark\n")
        terminal.shows("\rmark\r\n")
        lab.ok("cancel", job.run_id)
        assert lab.wait(job.run_id)["status"] == "Canceled"
        assert terminal.ends() == 128 + 15
        assert re.search(rf"run {job.run_id} is (Finalizing|Cancel)", terminal.shown), (
            terminal.shown
        )
        assert (job.files / "outputs/trap").read_text() == "hung up\n"  # it was not killed
        done = lab.run("shell", job.run_id)
        assert (done.returncode, "has ended (Canceled)" in done.stderr) == (7, True)
