"""The keeper's own metrics in real jobs: followed files under kills, the node, its GPUs."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpcrun.agent import memory
from hpcrun.agent.nvml import GpuWatch, chosen_gpus
from hpcrun.agent.system import Sampler, busy_ticks, disk_bytes, network_bytes
from hpcrun.layout import Attempt
from hpcrun.metrics import azure_shape, metrics_of
from hpcrun.metrics.system import system_metrics, use_of
from hpcrun.record import Fact
from hpcrun.state import State
from tests.agent_job import Job, alive, kill, kill_at_once, pid_in, status_of, until
from tests.metrics_job import VERSIONS, interpreter

KILLS = 12

# Logs for so many points from where the file ends, a line at a time, some of them in two parts.
TRAIN = """
import os, sys, time
first, last, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
out = os.open("logs/m.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
table = os.open("outputs/m.csv", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
if not os.fstat(table).st_size:
    os.write(table, b"step,b\\n")
open("pid", "w").write("%d\\n" % os.getpid())
for number in range(first, last):
    if number % 20 == 0 and os.path.exists("enough"):
        break
    os.write(out, b'{"step": %d, ' % number)
    os.write(table, b"%d,%d\\n" % (number, number))
    time.sleep(pause)
    os.write(out, b'"a": %d}\\n' % number)
"""

PATTERNS = [{"pattern": "logs/*.jsonl"}, {"pattern": "outputs/*.csv"}]


def make(root: Path, sdk: Path, python: str = sys.executable, **agent: Any) -> Job:
    given = {"kill_wait_seconds": 5, "metric_files": PATTERNS, "sample_seconds": 0, **agent}
    return Job(root, sdk, python=python).make(agent=given)


@pytest.fixture
def job(tmp_path: Path, sdk: Path) -> Job:
    return make(tmp_path, sdk)


def train(job: Job, first: int, last: int, pause: float = 0.0) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", TRAIN, str(first), str(last), str(pause)]
    return job.start(*job.shim, *words)


def keeper_of(agent: int) -> int:
    """The agent's other child that runs its program."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return next(int(c) for c in children if b"\0run\0" in Path(f"/proc/{c}/cmdline").read_bytes())


def values(job: Job, name: str) -> list[int]:
    """The values of a metric, in the order of the journals; each fact counts."""
    return [f.data["v"] for f in job.facts("metric") if f.data["m"] == name]


# -- followed files -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_files_are_followed_while_they_are_written(tmp_path: Path, sdk: Path, version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    job = make(tmp_path, sdk, python)
    agent = train(job, 0, 400, 0.02)
    until(lambda: len(values(job, "a")) > 0)
    assert agent.poll() is None
    assert status_of(agent) == 0
    assert values(job, "a") == values(job, "b") == list(range(400))
    assert {f.writer for f in job.facts("metric")} == {f"node-{os.uname().nodename}-1.0"}
    assert job.facts("problem") == []
    assert job.folded().state == State.COMPLETED


def test_a_keeper_that_is_killed_at_any_moment_doubles_no_point(tmp_path: Path, sdk: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        seeds = range(KILLS // 2)
        list(pool.map(lambda seed: keepers_killed(tmp_path / str(seed), sdk, seed), seeds))


def keepers_killed(root: Path, sdk: Path, seed: int) -> None:
    """Two kills, after points had been written and before the last of them."""
    root.mkdir()
    job = make(root, sdk)
    agent = train(job, 0, 10**6, 0.001)
    chance = random.Random(seed)
    for number in (1, 2):
        count = len(values(job, "a"))
        until(lambda count=count: len(values(job, "a")) > count)
        time.sleep(chance.uniform(0, 1.2))
        kill(keeper_of(agent.pid))
        until(lambda number=number: len(job.facts("problem")) == number)
    (job.files / "enough").touch()
    assert status_of(agent) == 0
    rows = (job.files / "outputs/m.csv").read_bytes().count(b"\n") - 1
    assert values(job, "a") == values(job, "b") == list(range(rows)), seed
    assert not job.spool.exists()


def test_a_requeue_after_a_kill_of_everything(tmp_path: Path, sdk: Path) -> None:
    """Each point is there once, as one of the attempt that wrote it."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda seed: requeued(tmp_path / str(seed), sdk, seed), range(KILLS)))


def requeued(root: Path, sdk: Path, seed: int) -> None:
    root.mkdir()
    job = make(root, sdk)
    agent = train(job, 0, 10**6, 0.001)
    trainer = pid_in(job.files / "pid")
    until(lambda: values(job, "b"))
    time.sleep(random.Random(seed).uniform(0, 1.2))
    kill_at_once(agent.pid, keeper_of(agent.pid), trainer)
    agent.wait()
    until(lambda: not alive(trainer))
    rows = (job.files / "outputs/m.csv").read_bytes().count(b"\n") - 1
    text = (job.files / "logs/m.jsonl").read_bytes()
    assert 0 < len(values(job, "b")) <= rows
    again = job.again("1.1")
    assert status_of(train(again, rows, rows + 50)) == 0
    table = [(f.attempt, f.data["v"]) for f in job.facts("metric") if f.data["m"] == "b"]
    first, second = Attempt(1, 0), Attempt(1, 1)
    assert table == [
        *((first, n) for n in range(rows)),
        *((second, n) for n in range(rows, rows + 50)),
    ], seed
    # Where the kill cut a line, what follows on the same line is lost with it.
    lines = text.count(b"\n")
    cut = [] if text.endswith(b"\n") else [rows]
    whole = [*range(lines), *(n for n in range(rows, rows + 50) if n not in cut)]
    assert values(job, "a") == whole, seed
    assert again.fact("metric_files").data["marks"].keys() == {"logs/m.jsonl", "outputs/m.csv"}


def test_what_fails_in_following_costs_nothing_else(tmp_path: Path, sdk: Path) -> None:
    job = make(tmp_path, sdk, metric_files=[{"form": "of another version"}], sample_seconds=0.1)
    assert status_of(train(job, 0, 10)) == 0
    (problem,) = job.facts("problem")
    assert "the metric files are not followed any more: KeyError" in problem.data["message"]
    assert not job.spool.exists()
    assert job.fact("drained")
    assert job.folded().state == State.COMPLETED
    again = job.again("1.1")
    assert status_of(train(again, 0, 10)) == 0


# -- the node -------------------------------------------------------------------------------------

BUSY = "import time; e = time.time() + 2.5; x = bytearray(80 << 20)\nwhile time.time() < e: pass"


def test_what_the_node_does_is_measured(tmp_path: Path, sdk: Path) -> None:
    job = make(tmp_path, sdk, sample_seconds=0.5)
    assert status_of(job.start(*job.shim, sys.executable, "-c", BUSY)) == 0
    samples = [fact.data for fact in job.facts("system")]
    assert samples
    for data in samples:
        assert data["host"] == os.uname().nodename
        assert 0 < data["cpu_percent"] <= 100
        assert data["cpus"] == os.cpu_count()
        assert 80 << 20 < data["memory_bytes"] < data["memory_limit_bytes"]
        # There is no GPU here: that is unknown, not idle.
        assert not [name for name in data if name.startswith("gpu")]
    assert max(data["cpu_percent"] for data in samples) > 80 / data["cpus"]
    assert metrics_of(job.facts()) == {}


def test_nothing_is_measured_where_nobody_wants_it(job: Job) -> None:
    assert status_of(job.start(*job.shim, sys.executable, "-c", BUSY)) == 0
    assert job.facts("system") == []
    assert list(job.record.glob("node-*.metrics.jsonl")) == []


def test_idle_and_waiting_cpus_are_not_busy() -> None:
    assert busy_ticks(["cpu  1 20 300 4000 50000 600 7 8 9 9", "cpu0 1 1 1 1 1 1 1 1 0 0"]) == 936


def test_disks_and_network_of_the_kernels_tables() -> None:
    disks = [
        "   8       0 sda 100 0 2048 5 200 0 4096 9 0 0 0",
        "   8       1 sda1 100 0 2048 5 200 0 4096 9 0 0 0",
        "   7       0 loop0 1 0 8 0 0 0 0 0 0 0 0",
    ]
    assert disk_bytes(disks, ["sda"]) == {"sda": (2048 * 512, 4096 * 512)}
    network = [
        "Inter-|   Receive                                                |  Transmit",
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets",
        "    lo: 900 9 0 0 0 0 0 0 900 9 0 0 0 0 0 0",
        "  ib0:1000 1 0 0 0 0 0 0 2000 2 0 0 0 0 0 0",
    ]
    assert network_bytes(network) == {"ib0": (1000, 2000)}


@pytest.mark.parametrize("unified", [False, True])
def test_a_jobs_own_share_of_its_control_group(
    tmp_path: Path, unified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files as kernels write them; Slurm's real groups are measured on the test cluster."""
    files = {
        "cpuacct.usage": "5000000000\n",
        "cpuset.cpus": "0-1,4\n",
        "memory.usage_in_bytes": "3000\n",
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.stat": "cache 1\ntotal_inactive_file 1000\n",
    }
    if unified:
        files = {
            "cpu.stat": "usage_usec 5000000\nuser_usec 1\n",
            "cpuset.cpus.effective": "0-1,4\n",
            "memory.current": "3000\n",
            "memory.max": "max\n",
            "memory.stat": "anon 1\ninactive_file 1000\n",
        }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    group = memory.JobGroup(str(tmp_path), unified)
    monkeypatch.setattr("hpcrun.agent.system.job_group", lambda controller: group)
    begin = time.monotonic()
    sampler = Sampler()
    name, text = next(iter(files.items()))
    (tmp_path / name).write_text(text.replace("5", "6", 1))  # a second more
    time.sleep(0.5)
    data = sampler.sample()
    seconds = time.monotonic() - begin
    assert (data["of"], data["cpus"], data["memory_bytes"]) == ("job", 3, 2000)
    assert "memory_limit_bytes" not in data
    assert 100 / seconds / 3 * 0.9 <= data["cpu_percent"] <= 100 / 0.5 / 3


def test_a_group_of_another_controller() -> None:
    """Version 1, as Slurm 22.05 makes them."""
    memberships = ["4:memory:/slurm/uid_1/job_7/step_0", "2:cpuacct,cpu:/slurm/uid_1/job_7/step_0"]
    mounts = [
        ["cgroup", "/sys/fs/cgroup/memory", "cgroup", "rw,memory", "0", "0"],
        ["cgroup", "/sys/fs/cgroup/cpu", "cgroup", "rw,cpu,cpuacct", "0", "0"],
    ]
    for controller, place in (("memory", "memory"), ("cpuacct", "cpu")):
        (group,) = memory.job_groups(memberships, mounts, controller)
        assert group.path == f"/sys/fs/cgroup/{place}/slurm/uid_1/job_7"


# -- GPUs: a library that stands in for the hardware, with the functions of NVIDIA's --------------

NVML = """
#include <string.h>
#include <unistd.h>
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;
static int cards[3] = {0, 1, 2};
static int begun = 0;
int nvmlInit_v2(void) { begun = 1; return INIT; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return begun ? 0 : 1; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = &cards[index]; return index < 3 ? 0 : 2;
}
int nvmlDeviceGetUUID(void *device, char *name, unsigned length) {
    if (length < 6) return 7;
    strcpy(name, "GPU-a"); name[4] += *(int *)device; return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, Utilization *answer) {
    int card = *(int *)device;
    if (WAIT) sleep(WAIT);
    if (card == 1) return 3;  /* not supported, as for a MIG device */
    answer->gpu = card ? 90 : 0; answer->memory = 7; return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *answer) {
    answer->total = 80ULL << 30; answer->used = (1ULL + *(int *)device) << 30;
    answer->free = answer->total - answer->used; return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { *milliwatts = 61500; return 0; }
"""


@pytest.fixture
def nvml(tmp_path: Path) -> Any:
    """Compiles the library; gives its path. wait: s that a question takes. init: its answer."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc to compile the stand-in for NVIDIA's library")

    def compiled(wait: int = 0, init: int = 0, source: str = NVML) -> str:
        library = tmp_path / f"libnvidia-ml-{wait}-{init}-{len(source)}.so.1"
        words = ["gcc", "-shared", "-fPIC", f"-DWAIT={wait}", f"-DINIT={init}", "-x", "c", "-"]
        subprocess.run([*words, "-o", str(library)], input=source.encode(), check=True)
        return str(library)

    return compiled


def test_gpus_as_the_library_tells_them(nvml: Any) -> None:
    watch = GpuWatch(nvml())
    for _ in range(2):
        assert watch.sample() == {
            "gpu_percent": [0, None, 90],
            "gpu_memory_bytes": [1 << 30, 2 << 30, 3 << 30],
            "gpu_memory_limit_bytes": [80 << 30] * 3,
            "gpu_watts": [61.5] * 3,
        }
    assert GpuWatch(nvml(), "GPU-b").sample()["gpu_memory_bytes"] == [2 << 30]
    assert "gpu_percent" not in GpuWatch(nvml(), "1").sample()


def test_a_library_that_fails_or_is_none_tells_nothing(nvml: Any, tmp_path: Path) -> None:
    broken = "int nvmlInit_v2(void) { return 0; }"
    for library in (nvml(init=9), str(tmp_path / "none.so"), nvml(source=broken)):
        watch = GpuWatch(library)
        assert (watch.sample(), watch.sample()) == ({}, {})


def test_a_driver_that_hangs_holds_nobody_up(nvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcrun.agent.nvml.PATIENCE", 0.1)
    watch = GpuWatch(nvml(wait=2))
    before = {*threading.enumerate()}
    assert [watch.sample() for _ in range(3)] == [{}] * 3
    assert len({*threading.enumerate()} - before) == 1


@pytest.mark.parametrize(
    ("visible", "places"),
    [
        (None, [0, 1, 2]),
        ("", [0, 1, 2]),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("GPU-bb", [1]),
        ("7", [0, 1, 2]),
        ("NoDevFiles", [0, 1, 2]),
    ],
)
def test_which_gpus_are_the_jobs(visible: str | None, places: list[int]) -> None:
    assert chosen_gpus(["GPU-aa", "GPU-bb", "GPU-cc"], visible) == places


def test_a_job_tells_how_long_its_gpus_were_idle(tmp_path: Path, sdk: Path, nvml: Any) -> None:
    job = make(tmp_path, sdk, sample_seconds=0.5)
    words = [*job.shim, sys.executable, "-c", BUSY]
    assert status_of(job.start(*words, HPCRUN_NVML=nvml(), CUDA_VISIBLE_DEVICES="")) == 0
    use = use_of(job.facts("system"))
    assert (use.gpus, use.idle) == (2, 50.0)
    found = system_metrics(job.facts("system"))
    host = os.uname().nodename
    busy = azure_shape(found[f"system/{host}/gpu2_percent"])
    assert busy == 90 or set(busy) == {90}  # type: ignore[arg-type]
    assert f"system/{host}/gpu1_percent" not in found


def test_unknown_is_never_idle() -> None:
    data = {"host": "n1", "cpus": 4, "cpu_percent": 50.0, "gpu_percent": [None, 0]}
    facts = [Fact("system", Attempt(1), 0.0, n, data) for n in (1, 2)]
    facts.append(
        Fact("system", Attempt(1), 0.0, 3, {"host": "n2", "cpus": 12, "cpu_percent": 90.0})
    )
    use = use_of(facts)
    assert (use.gpus, use.idle, use.cpus) == (1, 100.0, 16)
    assert use.cpu == pytest.approx((4 * 50 * 2 + 12 * 90) / 20)
    assert use_of([]) == (0, 0, None, None, None, 0, None)
