"""Tests of the in-job Run: real processes, their journals, and what survives."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.fold import fold
from hpcrun.journal import Journal
from hpcrun.layout import Attempt, JournalKind
from hpcrun.metrics import Context, RankFacts, Run, RunEnvironmentException, azure_shape, metrics_of
from hpcrun.metrics.context import job_context
from tests.agent_job import small_disk
from tests.metrics_job import RUN_ID, VERSIONS, Job, interpreter


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path).make()


def read(job: Job) -> dict[str, object]:
    return {name: azure_shape(m) for name, m in metrics_of(job.facts()).items()}


EVERYTHING = """
import sys
from hpcrun.metrics import Run
run = Run.get_context()
assert run is Run.get_context()
with run:
    for step in range(3):
        run.log("loss", 1 / (step + 1), step=step)
    run.log("größe/\\n", 7)
    run.log_list("list", [1, float("nan")])
    run.log_list("list", range(2))
    run.log_row("row", a=1)
    run.log_row("row", b="x")
    run.log_table("table", {"x": [1, 2], "y": [3, 4]})
    run.tag("kind", "test")
    run.set_tags({"n": 1})
    run.add_properties({"p": "q"})
print(run.id, run.run_id, run.experiment_name, run.rank, run.world_size, run.output_directory)
print(run.get_metrics("loss"), run.tags["kind"], run.get_properties())
assert not {"numpy", "torch", "subprocess", "multiprocessing"} & set(sys.modules), sys.modules
"""
EXPECTED = {
    "loss": [1.0, 1 / 2, 1 / 3],
    "größe/\n": 7,
    "row": {"a": [1, None], "b": [None, "x"]},
    "table": {"x": [1, 2], "y": [3, 4]},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("spool", [True, False])
def test_everything_in_a_job(job: Job, version: str, spool: bool) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    output = job.python(EVERYTHING, python=python, spool=spool).stdout.splitlines()
    assert output[0] == f"{RUN_ID} {RUN_ID} digits 0 1 {job.root}/files/outputs"
    assert output[1] == f"{{'loss': [1.0, {1 / 2}, {1 / 3}]}} test {{'p': 'q'}}"
    metrics = read(job)
    assert str(metrics.pop("list")) == "[1.0, nan, 0.0, 1.0]"
    assert metrics == EXPECTED
    facts = job.facts(kind=JournalKind.FACTS)
    assert [f.kind for f in facts] == ["tags", "tags", "properties"]
    request = {"run_id": RUN_ID, "experiment": "digits", "user": "u", "target": "", "created": 0}
    record = fold(request, facts)
    assert record.tags == {"kind": "test", "n": "1"}
    assert record.properties == {"p": "q"}
    used, empty = (job.spool, job.record) if spool else (job.record, job.spool)
    assert len(list(used.iterdir())) == 2
    assert not empty.exists() or not list(empty.iterdir())


def test_writer_and_spool_folder(job: Job) -> None:
    code = "from hpcrun.metrics import Run; import os\nRun.get_context().log('x', 1)\n"
    code += "print(os.getpid(), os.uname().nodename.split('.')[0])"
    pid, host = job.python(code, HPCRUN_ATTEMPT="2.1").stdout.split()
    assert os.listdir(job.spool) == [f"rank-0-2.1-{host}-{pid}.metrics.jsonl"]
    assert stat.S_IMODE(job.spool.stat().st_mode) == 0o700
    assert job.facts()[0].attempt == Attempt(2, 1)


def test_spool_that_is_not_ours_is_not_used(job: Job) -> None:
    (job.root / "elsewhere").mkdir()
    job.spool.symlink_to(job.root / "elsewhere")
    job.python("from hpcrun.metrics import Run; Run.get_context().log('x', 1)")
    assert len(job.facts(job.record)) == 1
    assert not list((job.root / "elsewhere").iterdir())


def test_nothing_is_made_before_the_first_record(job: Job) -> None:
    job.python("from hpcrun.metrics import Run; Run.get_context().flush()")
    assert not job.spool.exists()
    assert not list(job.record.iterdir())


def test_only_rank_0_records(job: Job) -> None:
    code = (
        "import logging; logging.basicConfig(level=logging.DEBUG)\n"
        "from hpcrun.metrics import Run; run = Run.get_context()\n"
        "run.log('x', run.rank); run.log('x', [1, 2]) if run.rank else None; run.tag('a', 'b')"
    )
    output = [job.python(code, RANK=str(r), WORLD_SIZE="3").stderr for r in range(3)]
    assert read(job) == {"x": 0}
    assert [text.count("records nothing") for text in output] == [0, 1, 1]


def test_without_guard_every_rank_records(job: Job) -> None:
    code = (
        "from hpcrun.metrics import Run; run = Run.get_context(rank_guard=False)\n"
        "run.log('x', run.rank * 10, step=0)"
    )
    for rank in (2, 0, 1):
        job.python(code, RANK=str(rank), WORLD_SIZE="3")
    metric = metrics_of(job.facts())["x"]
    assert (metric.values, metric.ranks) == ([0, 10, 20], [0, 1, 2])


def test_offline_run_records(job: Job) -> None:
    code = (
        "from hpcrun.metrics import Run; run = Run.get_context(); import os\n"
        "assert not os.path.exists('.hpcrun')\n"
        "run.log('x', 0.5, step=3); run.tag('a', 'b'); run.flush(); os.chdir('/')\n"
        "run.log('x', 0.25, step=4)\n"
        "assert run is Run.get_context()\n"
        "print(run.id, run.output_directory, run.experiment_name)\n"
        "print(run.get_metrics(), dict(run.tags))"
    )
    output = job.python(code, HPCRUN_RUN_ID="").stdout.splitlines()
    run_id, outputs, experiment = output[0].split()
    assert re.fullmatch(r"offline_\d{10}_[0-9a-f]{8}", run_id)
    assert (outputs, experiment) == (str(job.root / "outputs"), "offline")
    assert output[1] == "{'x': [0.5, 0.25]} {'a': 'b'}"
    folder = job.root / ".hpcrun" / "offline" / run_id
    request = json.loads((folder / "run.json").read_text())
    assert request["run_id"] == run_id
    assert fold(request, job.facts(folder, kind=JournalKind.FACTS)).tags == {"a": "b"}


def test_offline_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HPCRUN_")]:
        monkeypatch.delenv(name)
    with pytest.raises(RunEnvironmentException, match=r"HPCRUN_RUN_ID, HPCRUN_RECORD"):
        Run.get_context(allow_offline=False)


@pytest.mark.parametrize(
    ("variable", "value"), [("HPCRUN_ATTEMPT", "x"), ("HPCRUN_RUN_ID", "x"), ("HPCRUN_FILES", "")]
)
def test_malformed_variable_is_named(job: Job, variable: str, value: str) -> None:
    with pytest.raises(RunEnvironmentException, match=variable):
        job_context({**job.environment(), variable: value})


def test_end_of_a_script(job: Job) -> None:
    code = (
        "from hpcrun.metrics import Run; run = Run.get_context()\n"
        "run.complete(); run.cancel(); run.fail('disk', error_code='E1')\n"
        "with run:\n    raise KeyError('k')"
    )
    job.python(code, status=1)
    facts = job.facts(kind=JournalKind.FACTS)
    assert [(f.kind, f.data["message"]) for f in facts] == [
        ("problem", "E1: disk"),
        ("problem", "KeyError('k')"),
    ]


def test_tags_of_the_request_are_seen(job: Job) -> None:
    request = {"tags": {"a": "1", "b": "2"}, "display_name": "mine"}
    (job.record / "run.json").write_text(json.dumps(request))
    code = (
        "from hpcrun.metrics import Run; run = Run.get_context(); run.tag('b', '3')\n"
        "print(dict(run.tags), run.name)"
    )
    assert job.python(code).stdout == "{'a': '1', 'b': '3'} mine\n"


# -- processes and threads ------------------------------------------------------------------------


def test_forked_child_has_its_own_file(job: Job) -> None:
    code = """
import os, threading
from hpcrun.metrics import Run
run = Run.get_context()
run.log("x", -1)
stop = threading.Event()
def busy():
    while not stop.is_set():
        run.log("busy", 1)
thread = threading.Thread(target=busy); thread.start()
children = []
for child in range(8):
    pid = os.fork()
    if pid == 0:
        for i in range(50):
            run.log("x", child * 100 + i)
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 8
stop.set(); thread.join()
"""
    # 3.12 and later warn of a fork with threads, which is the point here.
    job.python("import warnings; warnings.simplefilter('ignore')\n" + code)
    assert len(job.pages()) == 9
    assert sum(page.bad_lines for page in job.pages()) == 0
    values = [f.data["v"] for f in job.facts() if f.data["m"] == "x"]
    assert sorted(values) == [-1] + [c * 100 + i for c in range(8) for i in range(50)]


def test_threads_share_one_file(job: Job) -> None:
    code = """
import sys, threading
sys.setswitchinterval(1e-5)
from hpcrun.metrics import Run
run = Run.get_context()
def work(n):
    for i in range(500):
        run.log("t%d" % n, i)
        run.log_row("rows", n=n, i=i)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
"""
    job.python(code)
    assert len(job.pages()) == 1
    facts = job.facts()
    assert [f.number for f in facts] == list(range(1, 8001))
    metrics = read(job)
    assert all(metrics[f"t{n}"] == list(range(500)) for n in range(8))


def test_rank_set_after_the_first_call_is_seen(job: Job) -> None:
    code = """
import os
from hpcrun.metrics import Run
Run.get_context().log("x", 0)
os.environ.update(RANK="1", WORLD_SIZE="2")
Run.get_context().log("x", 1)
Run.get_context(rank_guard=False).log("y", 1)
os.environ.update(LOCAL_RANK="1")
Run.get_context(rank_guard=False).log("y", 2)
"""
    job.python(code)
    assert read(job) == {"x": 0, "y": [1, 2]}


# -- what survives --------------------------------------------------------------------------------

ACKNOWLEDGING = """
import os
from hpcrun.metrics import Run
run = Run.get_context()
number = 0
while True:
    if number % 10 == 9:
        run.log_row("row", n=number)
    else:
        run.log("x", number, step=number)
    os.write(1, b"%d\\n" % number)
    number += 1
"""


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("spool", [True, False])
def test_nothing_acknowledged_is_lost_by_a_kill(job: Job, seed: int, spool: bool) -> None:
    chance = random.Random(seed)
    process = subprocess.Popen(
        [sys.executable, "-c", ACKNOWLEDGING], env=job.environment(spool), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    told = process.stdout.readline()
    killer = threading.Timer(chance.uniform(0, 0.05), process.send_signal, [signal.SIGKILL])
    killer.start()
    told += process.stdout.read()
    killer.join()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    acknowledged = told.split(b"\n")[:-1]
    recorded = {f.data["v"] if "s" in f.data else f.data["v"]["n"] for f in job.facts()}
    assert {int(number) for number in acknowledged} - recorded == set()
    assert len(recorded) - len(acknowledged) in (0, 1)
    assert sum(page.bad_lines for page in job.pages()) == 0


def test_flush_waits_for_the_record(job: Job) -> None:
    code = (
        "from hpcrun.metrics import Run; run = Run.get_context()\n"
        "run.log('x', 1); run.tag('a', 'b'); print('logged', flush=True)\n"
        "run.flush(); print('flushed', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=job.environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "logged\n"
    time.sleep(0.2)
    assert process.poll() is None
    job.mirror()
    assert process.stdout.readline() == "flushed\n"
    assert process.wait() == 0
    process.stdout.close()


def test_flush_warns_when_the_time_is_over(job: Job) -> None:
    code = (
        "from hpcrun.metrics import Run; run = Run.get_context()\n"
        "run.log('x', 1); run.flush(timeout_seconds=0.1)"
    )
    assert "not all records" in job.python(code).stderr


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    with small_disk(tmp_path / "small", "64k") as disk:
        yield disk


FILLING = """
import os, sys
from hpcrun.metrics import Run
small = sys.argv[1]
run = Run.get_context()
for i in range(2000):
    run.log("x", i, step=i)
assert os.statvfs(small).f_bavail == 0
if sys.argv[2] == "room":
    os.unlink(os.path.join(small, "ballast"))
run.log("x", 2000, step=2000)
"""


@pytest.mark.parametrize("then", ["room", "still full"])
def test_full_spool(job: Job, small_disk: Path, then: str) -> None:
    """With room again the spool takes all; without, the record does at the exit."""
    (small_disk / "ballast").write_bytes(b"x" * 32768)
    (small_disk / "more").write_bytes(b"x" * 1)
    spool = small_disk / "spool"
    size = 2000 if then == "still full" else 500
    code = FILLING.replace("2000", str(size))
    result = job.python(code, small_disk, then, HPCRUN_SPOOL=str(spool))
    assert result.stderr.count("cannot be written") == 1
    facts = job.facts(job.record, spool)
    assert metrics_of(facts)["x"].values == list(range(size + 1))
    assert len(list(job.record.iterdir())) == (0 if then == "room" else 1)
    assert sum(page.bad_lines for page in job.pages(job.record, spool)) <= 1


def test_full_record_loses_aloud(job: Job, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 65536)
    code = (
        "from hpcrun.metrics import Run; run = Run.get_context()\n"
        "for i in range(10): run.log('x', i)"
    )
    result = job.python(code, spool=False, HPCRUN_RECORD=str(small_disk))
    assert f"10 records of run {RUN_ID} are lost" in result.stderr


def test_record_that_appears_late_gets_all(job: Job) -> None:
    code = (
        "from hpcrun.metrics import Run; run = Run.get_context(); import os\n"
        "for i in range(10): run.log('x', i)\n"
        "os.rename('aside', 'record'); run.log('x', 10)\n"
        "print(len(os.listdir('record')))"
    )
    job.record.rename(job.root / "aside")
    result = job.python(code, spool=False)
    assert (result.stdout, result.stderr.count("cannot be written")) == ("1\n", 1)
    assert read(job) == {"x": list(range(11))}


def test_what_memory_cannot_hold_is_told_as_loss(job: Job) -> None:
    code = """
import os
import hpcrun.metrics.spool as spool
spool.WAITING_LIMIT = 5
from hpcrun.metrics import Run
run = Run.get_context()
for i in range(8):
    run.log("x", i)
os.rename("aside", "record")
run.log("x", 8)
run.log("x", 9)
"""
    job.record.rename(job.root / "aside")
    job.python(code, spool=False)
    loss = [f.data["count"] for f in job.facts(kind=JournalKind.FACTS) if f.kind == "loss"]
    values = read(job)["x"]
    assert isinstance(values, list)
    assert values[:5] == [0, 1, 2, 3, 4]
    assert values[-1] == 9
    assert sum(loss) == 10 - len(values) > 0


def test_journal_heals_a_torn_line_after_a_failed_write(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 61440)
    journal = Journal(str(small_disk / "w.jsonl"), Attempt(1))
    with pytest.raises(OSError, match="space"):
        for _ in range(1000):
            journal.append("heartbeat", {"count": 1})
    ballast.unlink()
    last = journal.append("heartbeat", {"count": 2})
    journal.close()
    job = Job(small_disk.parent)
    page = job.pages(small_disk, kind=JournalKind.FACTS)[0]
    assert page.facts[-1].data == {"count": 2}
    assert page.facts[-1].number == last.number
    assert len({f.number for f in page.facts}) == len(page.facts)
    assert page.bad_lines <= 1


def test_two_runs_of_one_process_share_one_writer(job: Job) -> None:
    context = Context(
        RUN_ID, "digits", Attempt(1), RankFacts(), str(job.record), None, "/", "/", False
    )
    first, second = Run(context), Run(context)
    first.log("x", 1)
    second.log("x", 2)
    first.log("x", 3)
    assert first.get_metrics() == {"x": [1, 2, 3]}
    assert [f.number for f in job.facts()] == [1, 2, 3]
