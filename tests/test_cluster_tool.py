"""The test cluster itself, on the real thing: what other tests take for granted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, ClusterError
from tests.cluster.cluster import SWITCH
from tests.cluster.failure import InUse
from tests.cluster.hosts import holder
from tests.cluster.layout import MOST, Layout
from tests.cluster.processes import pid
from tests.lab import eventually

pytestmark = pytest.mark.cluster

_MPI_PROGRAM = r"""
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
    int rank, sum, length;
    char host[MPI_MAX_PROCESSOR_NAME];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    MPI_Get_processor_name(host, &length);
    printf("%d %s %d\n", rank, host, sum);
    MPI_Finalize();
    return 0;
}
"""


@pytest.fixture(autouse=True)
def _no_jobs(cluster: Cluster) -> Iterator[None]:
    cluster.drop_jobs()
    yield
    cluster.drop_jobs()


@pytest.fixture
def folder(cluster: Cluster, request: pytest.FixtureRequest) -> Path:
    """A folder of alice's that all hosts see."""
    path = cluster.shared / f"tool-{request.node.name}"
    alice(cluster, "rm", "-rf", str(path))
    alice(cluster, "mkdir", str(path))
    return path


def alice(cluster: Cluster, *words: str, cwd: Path | None = None, input: str | None = None) -> str:
    """What a command of alice's says on the login node; it must succeed."""
    done = cluster.run("alice", words, cwd=cwd, input=input)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def submit(cluster: Cluster, *words: str, cwd: Path | None = None, script: str) -> str:
    """The id of a new job of alice's."""
    text = f"#!/bin/bash\n{script}\n"
    return alice(cluster, "sbatch", "--parsable", *words, cwd=cwd, input=text).strip()


def job(cluster: Cluster, number: str, field: str) -> str:
    """One field of what the controller says about a job."""
    words = alice(cluster, "scontrol", "--oneliner", "show", "job", number).split()
    return dict(word.partition("=")[::2] for word in words)[field]


@pytest.mark.parametrize("host", ["login", "n1", "n2", "n3", "n4"])
def test_a_host_has_its_own_name_address_and_tmp(cluster: Cluster, host: str) -> None:
    def on(name: str, *words: str) -> str:
        return cluster.run("alice", words, node=name).stdout

    assert on(host, "hostname").strip() == host
    address = on(host, "getent", "hosts", host).split()[0]
    assert address in on(host, "ip", "-brief", "address", "show", "eth0")
    on(host, "touch", f"/tmp/only-{host}")
    others = {"login", "n1", "n2", "n3", "n4"} - {host}
    assert f"only-{host}" in on(host, "ls", "/tmp")
    assert not any(f"only-{host}" in on(other, "ls", "/tmp") for other in others)
    assert not Path(f"/tmp/only-{host}").exists()


def test_words_and_variables_arrive_exactly(cluster: Cluster) -> None:
    words = ["a  b", "", "$HOME", "'\"", "*", "é\n"]
    done = cluster.run("bob", ["printf", r"%s\0", *words], node="n2")
    assert done.stdout.split("\0")[:-1] == words
    environment = cluster.run("bob", ["env"], env={"MINE": "1 2"}).stdout.splitlines()
    assert "MINE=1 2" in environment
    assert {line.partition("=")[0] for line in environment} == {
        *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "MINE")
    }


def test_slurm_is_found_with_an_empty_environment(cluster: Cluster) -> None:
    assert "main" in alice(cluster, "env", "-i", "/usr/bin/sinfo")
    assert "main" in cluster.run("bob", ["env", "-i", "/usr/bin/sinfo"], node="n4").stdout


def test_a_job_on_two_nodes_sees_two_hosts_and_the_gpus_of_each(cluster: Cluster) -> None:
    words = [
        "srun",
        "--nodes=2",
        "--gres=gpu:4",
        "bash",
        "-c",
        "echo $(hostname) $CUDA_VISIBLE_DEVICES",
    ]
    lines = alice(cluster, *words).splitlines()
    assert len({line.split()[0] for line in lines}) == 2
    assert {line.split()[1] for line in lines} == {"0,1,2,3"}


def test_a_batch_job_starts_at_once_and_leaves_its_output(cluster: Cluster, folder: Path) -> None:
    number = submit(cluster, "--output=out", cwd=folder, script="hostname; id -un; sleep 60")
    eventually(lambda: job(cluster, number, "JobState") == "RUNNING")
    assert job(cluster, number, "AllocNode:Sid").startswith("login:")
    eventually(lambda: (folder / "out").exists() and "alice" in (folder / "out").read_text())


def test_memory_beyond_the_limit_kills(cluster: Cluster) -> None:
    hungry = "/usr/bin/python3 -c 'x = bytearray(300_000_000); print(len(x))'"
    number = submit(cluster, "--mem=100M", "--output=/dev/null", script=f"exec {hungry}")
    eventually(lambda: job(cluster, number, "JobState") == "OUT_OF_MEMORY")


def test_main_does_not_preempt_low(cluster: Cluster) -> None:
    low = submit(cluster, "--partition=low", "--nodes=4", "--exclusive", script="sleep 300")
    eventually(lambda: job(cluster, low, "JobState") == "RUNNING")
    main = submit(cluster, script="true")
    time.sleep(2)
    assert job(cluster, main, "JobState") == "PENDING"
    assert job(cluster, low, "JobState") == "RUNNING"


def test_short_has_a_limit_of_two_minutes(cluster: Cluster) -> None:
    number = submit(cluster, "--partition=short", "--time=10", script="true")
    eventually(lambda: job(cluster, number, "Reason") == "PartitionTimeLimit")
    alice(cluster, "scancel", number)
    number = submit(cluster, "--partition=short", "--time=2", script="true")
    eventually(lambda: job(cluster, number, "JobState") == "COMPLETED")


def test_users_are_apart_and_share_one_folder(cluster: Cluster, folder: Path) -> None:
    mine = cluster.run("bob", ["touch", str(cluster.home("alice") / "bob-was-here")])
    assert mine.returncode != 0
    assert "Permission denied" in mine.stderr
    assert cluster.run("bob", ["touch", str(folder / "bob-was-here")]).returncode != 0
    assert cluster.run("bob", ["ls", str(folder)]).returncode == 0
    own = cluster.shared / "tool-bob"
    assert cluster.run("bob", ["mkdir", "-p", str(own)]).returncode == 0
    assert cluster.run("bob", ["id", "-nG"]).stdout.split() == ["bob", "lab"]
    assert cluster.run("alice", ["rmdir", str(own)]).returncode != 0
    assert cluster.run("bob", ["rmdir", str(own)]).returncode == 0


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_the_real_sshd_lets_users_in_by_key(cluster: Cluster, user: str) -> None:
    command = 'hostname; id -un; pwd; srun bash -c "hostname | tr -d 1-4"; ls /sys/fs/cgroup >&2'
    done = subprocess.run(
        [*cluster.ssh_words(user), command], capture_output=True, text=True, timeout=180
    )
    assert done.stdout.split() == ["login", user, str(cluster.home(user)), "n"], done.stderr
    assert done.stderr.split()


def test_the_login_node_is_reached_from_a_node(cluster: Cluster) -> None:
    words = ["bash", "-c", "exec 3<>/dev/tcp/login/22; head -n 1 <&3"]
    assert cluster.run("alice", words, node="n1").stdout.startswith("SSH-2.0-")


@pytest.mark.parametrize(
    "launch",
    [["srun", "--mpi=pmix"], ["mpirun"]],
    ids=["srun", "mpirun"],
)
def test_mpi_over_two_nodes(cluster: Cluster, folder: Path, launch: list[str]) -> None:
    alice(cluster, "tee", "sum.c", cwd=folder, input=_MPI_PROGRAM)
    alice(cluster, "mpicc", "sum.c", "-o", "sum", cwd=folder)
    words = ["salloc", "--quiet", "--nodes=2", "--ntasks-per-node=2", *launch, "./sum"]
    lines = sorted(line.split() for line in alice(cluster, *words, cwd=folder).splitlines())
    assert [(rank, total) for rank, _, total in lines] == [(str(n), "6") for n in range(4)]
    assert len({host for _, host, _ in lines}) == 2


def test_a_program_is_left_running(cluster: Cluster) -> None:
    with cluster.popen("alice", ["sleep", "300"], node="n2") as process:
        line = Path(f"/proc/{process.pid}/cmdline")
        eventually(lambda: line.read_bytes() == b"sleep\x00300\x00")
        process.kill()


def test_the_controller_is_away_and_comes_back(cluster: Cluster) -> None:
    number = submit(cluster, script="sleep 300")
    eventually(lambda: job(cluster, number, "JobState") == "RUNNING")
    cluster.stop_controller()
    assert not cluster.is_up()
    assert "is DOWN" in cluster.run("alice", ["scontrol", "ping"]).stdout
    cluster.start_controller()
    assert cluster.is_up()
    assert job(cluster, number, "JobState") == "RUNNING"


def test_a_cut_link_is_noticed_and_mended(cluster: Cluster) -> None:
    ping = ["bash", "-c", "exec 3<>/dev/tcp/login/22"]
    cluster.node_link("n4", False)
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.run("alice", ping, node="n4", timeout=1)
    cluster.node_link("n4", True)
    # For a moment, a neighbour that did not answer is still taken to be gone.
    eventually(lambda: cluster.run("alice", ping, node="n4").returncode == 0)


def test_accounting_is_switched_off_and_on(cluster: Cluster) -> None:
    def account(number: str) -> str:
        return alice(cluster, "sacct", "-nXP", "-j", number, "-o", "account,user,state").strip()

    before = submit(cluster, script="true")
    eventually(lambda: account(before) == "lab|alice|COMPLETED")
    going_on = submit(cluster, script="sleep 300")
    eventually(lambda: job(cluster, going_on, "JobState") == "RUNNING")
    try:
        cluster.set_accounting(False)
        assert not cluster.has_accounting()
        during = submit(cluster, script="true")
        eventually(lambda: job(cluster, during, "JobState") == "COMPLETED")
        assert job(cluster, going_on, "JobState") == "RUNNING"
        refused = cluster.run("alice", ["sacct"])
        assert "accounting storage is disabled" in refused.stderr
    finally:
        cluster.set_accounting(True)
    assert account(before) == "lab|alice|COMPLETED"
    after = submit(cluster, script="true")
    eventually(lambda: account(after) == "lab|alice|COMPLETED")


@pytest.fixture
def twin(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Another cluster, of a number that nobody has, and quick to come up."""
    monkeypatch.setenv(SWITCH, "0")
    layouts = (Layout(number, cluster.layout.base) for number in reversed(range(MOST)))
    twin = Cluster(next(layout for layout in layouts if not layout.root.exists()))
    twin.up()
    yield twin
    twin.down()


def test_a_cluster_that_crashes_goes_away_whole_and_leaves_its_twin_alone(
    cluster: Cluster, twin: Cluster
) -> None:
    with twin.in_use(), pytest.raises(InUse, match=f"cluster {twin.layout.number} is in use"):
        twin.down()
    numbers = [submit(one, "--nodes=4", script="sleep 300") for one in (cluster, twin)]
    for one, number in zip((cluster, twin), numbers, strict=True):
        eventually(lambda one=one, number=number: job(one, number, "JobState") == "RUNNING")
    assert alice(cluster, "id", "-u") != alice(twin, "id", "-u")
    assert alice(cluster, "id", "-un") == alice(twin, "id", "-un") == "alice\n"

    # Not even the name of a host or a mount tells whose this is.
    words = ["unshare", "--mount", "--uts", "sleep", "300"]
    with twin.popen("root", words, node="n2") as stray:
        line = Path(f"/proc/{stray.pid}/cmdline")
        eventually(lambda: line.read_bytes() == b"sleep\x00300\x00")
        holding = pid(twin.layout, holder("n2"))
        assert holding is not None
        os.kill(holding, signal.SIGKILL)
        eventually(lambda: not twin.is_up())
        try:
            twin.down()
            assert stray.wait(60) == -signal.SIGKILL
        finally:
            stray.kill()
    assert not twin.root.exists()
    assert str(twin.root) not in Path("/etc/passwd").read_text()
    left = [f"hpcrunbr{twin.layout.number}", f"hpcrun{twin.layout.number}-*"]
    assert not [found for name in left for found in Path("/sys/class/net").glob(name)]
    # No deeper: groups of other clusters' jobs go while they are listed.
    assert not list(Path("/sys/fs/cgroup").glob(f"*/hpcrun-{twin.layout.number}"))
    assert cluster.is_up()
    assert job(cluster, numbers[0], "JobState") == "RUNNING"


@pytest.mark.parametrize(("text", "after"), [("-1", 0), ("10", 0), ("two", 0), ("9", 1)])
def test_a_cluster_has_one_of_ten_numbers(
    monkeypatch: pytest.MonkeyPatch, text: str, after: int
) -> None:
    monkeypatch.setenv("HPCRUN_CLUSTER", text)
    with pytest.raises(ClusterError, match=rf"must be 0 to 9: {text}"):
        Layout.default(after)
