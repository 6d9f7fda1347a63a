"""That a run hears in time that its time is nearly over: from Slurm, the agent, in the ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from hpcrun.agent.stop import Stop as Told
from hpcrun.errors import PlanError
from hpcrun.metrics.stop import Stop
from hpcrun.plan import Plan, Stopping
from hpcrun.workflow.request import agent_settings
from tests.agent_job import Job, status_of, until
from tests.make_plan import SITE, from_yaml, plan, script, shipped, site

# -- what is asked ------------------------------------------------------------------------------


def of(text: str, where: str = SITE) -> Plan:
    return plan(from_yaml(f"script: train.py\n{text}"), site(where))


def flags(made: Plan) -> list[str]:
    return [line.text for line in made.directives if line.flag == "--signal"]


@pytest.mark.parametrize(
    ("text", "lead"),
    [
        ("", 120),
        ("stop: {checkpoint_time: 20s}", 120),
        ("stop: {checkpoint_time: 5m}", 390),
        ("stop: {lead: 10m}", 600),
        ("stop: {lead: 30s, checkpoint_time: 5m}", 30),
        ("resources: {time: 6m}", 120),
        ("resources: {time: 5m}", 90),
        ("resources: {time: 5m}\nstop: {checkpoint_time: 10m}", 90),
        ("resources: {time: 12h}\nstop: {checkpoint_time: 20h}", 21540),
        ("resources: {time: 24h}\nstop: {checkpoint_time: 20h}", 43140),
    ],
)
def test_the_lead(text: str, lead: int) -> None:
    made = of(text)
    assert replace(made.stopping, checkpoint=None) == Stopping(timedelta(seconds=lead))
    assert flags(made) == [f"--signal=B:USR1@{lead}"]
    assert agent_settings(made)["stop_after_seconds"] is None


def test_a_time_that_is_too_short_for_any_lead() -> None:
    made = of("resources: {time: 2m}", SITE.replace(", min: 5m", ""))
    assert made.stopping.lead is None and flags(made) == []
    assert ("stop", "not told: the time limit is too short", "default") in made.choices


@pytest.mark.parametrize(
    ("lead", "sentence"),
    [
        ("1h", "a lead of 0-01:00:00 asked, and the time limit is 0-01:00:00"),
        ("20h", "a lead of 0-20:00:00 asked, and Slurm knows at most 0-18:12:15"),
    ],
)
def test_a_lead_that_cannot_be(lead: str, sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        of(f"stop: {{lead: {lead}}}\nresources: {{time: {'1h' if lead == '1h' else '24h'}}}")
    assert sentence in str(caught.value) and "run.yaml:2" in str(caught.value)


def test_where_slurm_does_not_tell_the_agent_does() -> None:
    forbids = SITE.replace(
        "scheduler:\n", "scheduler:\n  directives: {forbid: {--signal: it confuses the epilog}}\n"
    )
    made = of("stop: {lead: 5m, signal: usr2}", forbids)
    assert flags(made) == []
    assert made.stopping == Stopping(timedelta(minutes=5), own_clock=True, signal="USR2")
    told = agent_settings(made)
    assert (told["stop_after_seconds"], told["stop_signal"]) == (3600 - 300, "USR2")
    local = plan(from_yaml("script: a.py\nresources: {time: 10m}"), shipped("local"), "local")
    assert agent_settings(local)["stop_after_seconds"] == 600 - 120


# -- the agent ----------------------------------------------------------------------------------

ASK = """\
import os, sys, time
from hpcrun import Run
run = Run.get_context()
if run.should_stop(): raise SystemExit(9)
open("ready", "w").close()
while not run.should_stop(): time.sleep(0.01)
open("stopped", "w").close()
"""
GOES_ON = """\
import time
from hpcrun import Run
run = Run.get_context()
while not run.should_stop(): time.sleep(0.01)
"""


def asking(job: Job, code: str = ASK) -> list[str]:
    return [*job.shim, "env", f"PYTHONPATH={job.sdk}", sys.executable, "-c", code]


def test_a_warning_reaches_the_script(job: Job) -> None:
    agent = job.start(*asking(job))
    until((job.files / "ready").exists)
    assert agent.poll() is None and not (job.files / "stopped").exists()
    agent.send_signal(signal.SIGUSR1)
    assert status_of(agent) == 0
    assert (job.files / "stopped").exists()
    assert job.fact("stop_requested").data == {"why": "time_limit"}
    assert job.fact("stopping").data == {}
    assert job.fact("ended").data["cause"] == "completed"
    assert not job.spool.exists()


def test_a_warning_that_came_before_the_agent(job: Job) -> None:
    assert job.run(*asking(job), HPCRUN_WARNED="yes") == 9
    assert job.fact("stop_requested").data == {"why": "time_limit"}


def test_the_agents_own_clock(job: Job) -> None:
    job.ask(agent={"stop_after_seconds": 1.0})
    assert job.run(*asking(job, GOES_ON)) == 0
    assert job.fact("stop_requested").data == {"why": "time_limit"}


def test_term_does_not_end_who_asks_but_answers(job: Job) -> None:
    agent = job.start(*asking(job))
    until((job.files / "ready").exists)
    agent.terminate()
    assert status_of(agent) == 0
    assert (job.files / "stopped").exists()
    assert job.fact("stop_requested").data == {"why": "interrupted"}


def test_a_new_keeper_hears_what_the_old_one_was_told(job: Job) -> None:
    agent = job.start(*asking(job))
    until((job.files / "ready").exists)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    keeper = int(children.read_text().split()[0])
    os.kill(keeper, signal.SIGSTOP)
    agent.send_signal(signal.SIGUSR1)
    until(lambda: job.facts("stop_requested"))
    os.kill(keeper, signal.SIGKILL)
    assert status_of(agent) == 0


def test_a_helper_marks_its_own_node(job: Job) -> None:
    script, other = job.root / "launcher", job.root / "other"
    script.write_text(f'#!/bin/sh\nexport HPCRUN_SPOOL={other}\nexec "$@"\n')
    script.chmod(0o755)
    job.ask(agent={"node_helpers": [str(script)]})
    wait = f"touch ready; while ! test -e {other}/stop; do sleep 0.05; done"
    agent = job.start("sh", "-c", wait)
    until((job.files / "ready").exists)
    agent.send_signal(signal.SIGUSR1)
    assert status_of(agent) == 0
    assert not other.exists()


CATCH = """\
import os, signal, sys, time
time.sleep(float(sys.argv[2]))
caught = []
signal.signal(signal.SIGUSR2, lambda number, frame: caught.append(number))
open("ready", "w").close()
for _ in range(3000):
    if caught: break
    time.sleep(0.01)
open("caught", "w").write(str(caught))
"""


@pytest.mark.parametrize("late", ["0", "2"])
def test_a_signal_goes_to_the_rank_once_it_catches_it(job: Job, late: str) -> None:
    job.ask(agent={"stop_signal": "USR2"})
    agent = job.start(*job.shim, sys.executable, "-c", CATCH, "-", late)
    until((job.files / "ready").exists if late == "0" else lambda: job.facts("running"))
    agent.send_signal(signal.SIGUSR1)
    assert status_of(agent) == 0
    assert (job.files / "caught").read_text() == f"[{int(signal.SIGUSR2)}]"


@pytest.mark.parametrize("before", ["", "trap 'echo bye' EXIT; "])
def test_a_signal_goes_to_what_a_shell_has_started(job: Job, before: str) -> None:
    """A bash that has a trap on EXIT seems to catch it, too, and would die."""
    job.ask(agent={"stop_signal": "USR2"})
    line = before + '"$0" -c "$1" - 2; exit $?'
    agent = job.start(*job.shim, "bash", "-c", line, sys.executable, CATCH)
    until(lambda: job.facts("running"))
    agent.send_signal(signal.SIGUSR1)
    assert status_of(agent) == 0
    assert (job.files / "caught").read_text() == f"[{int(signal.SIGUSR2)}]"


SHIM = """\
import os, signal, sys, time
signal.signal(signal.SIGUSR2, lambda *_: open("early", "w").close())
child = os.fork()
if child == 0:
    while not os.path.exists("on"): time.sleep(0.01)
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], "-", "0"])
ticks = open("/proc/self/stat").read().rpartition(") ")[2].split()[19]
open("starts", "w").write(f"0 {os.getpid()} {ticks}\\n")
os.waitpid(child, 0)
"""


def test_a_signal_does_not_go_to_a_shim_that_is_yet_to_become_the_rank(tmp_path: Path) -> None:
    """For a moment the rank is a copy of its shim, with handlers for all signals."""
    process = subprocess.Popen([sys.executable, "-c", SHIM, CATCH], cwd=tmp_path)
    until(lambda: (tmp_path / "starts").exists() and (tmp_path / "starts").read_text())
    stop = Told(str(tmp_path), int(signal.SIGUSR2))
    for _ in range(5):
        stop.tell()
    (tmp_path / "on").touch()
    until((tmp_path / "ready").exists)
    stop.tell()
    process.wait(180)
    assert (tmp_path / "caught").read_text() == f"[{int(signal.SIGUSR2)}]"
    assert not (tmp_path / "early").exists()


def test_a_rank_that_does_not_catch_the_signal_lives(job: Job) -> None:
    job.ask(agent={"stop_signal": "USR2"})
    agent = job.start(*job.shim, "sleep", "4")
    until(lambda: job.facts("running"))
    agent.send_signal(signal.SIGUSR1)
    assert status_of(agent) == 0


def test_a_forked_child_can_be_ended_by_term(tmp_path: Path) -> None:
    code = (
        "import multiprocessing, os, sys, time\n"
        "from hpcrun.metrics import Run\n"
        "run = Run.get_context()\n"
        "assert not run.should_stop()\n"
        "process = multiprocessing.get_context('fork').Process\n"
        "for _ in range(200):\n"
        "    child = process(target=time.sleep, args=(600,))\n"
        "    child.start(); child.terminate(); child.join()\n"
        "    assert child.exitcode == -15 and not run.should_stop()\n"
        "os.kill(os.getpid(), 15)\n"
        "assert run.should_stop()\n"
    )
    root = Path(__file__).resolve().parents[1]
    words = [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_term_while_the_interpreter_ends_changes_no_status(tmp_path: Path) -> None:
    """Python gives TERM its default back before it takes the modules apart."""
    code = (
        "import os\n"
        "from hpcrun.metrics import Run\n"
        "Run.get_context().should_stop()\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid()): kill(pid, 15)\n"
        "late = Late()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env).returncode == 0


def test_a_handler_of_the_scripts_own_stays(job: Job) -> None:
    code = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(7))\n" + ASK.replace(
        "import os, sys, time\n", ""
    )
    # The mark would be seen as well: it is told to a spool that this process does not look at.
    words = [*job.shim, "env", f"PYTHONPATH={job.sdk}", "HPCRUN_SPOOL=", sys.executable, "-c", code]
    agent = job.start(*words)
    until((job.files / "ready").exists)
    agent.terminate()
    assert status_of(agent) == 7


# -- in the script --------------------------------------------------------------------------------


def bash(made: Plan, sdk: Path) -> subprocess.Popen[bytes]:
    """The script of a plan, as Slurm runs it on a node that is this machine."""
    made = replace(made, sdk=str(sdk))
    Path(made.paths.record).mkdir(parents=True)
    Path(made.paths.user_logs).mkdir(parents=True)
    Path(made.paths.script).write_text(script(made))
    host = os.uname().nodename
    env = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": host}
    return subprocess.Popen(["/bin/bash", made.paths.script], env=env, stderr=subprocess.PIPE)


def test_a_signal_while_the_script_prepares_is_not_lost(tmp_path: Path, sdk: Path) -> None:
    early = SITE.replace("scheduler:\n", "setup: [kill -USR1 $$]\nscheduler:\n")
    text = "command: while ! test -e $HPCRUN_SPOOL/stop; do sleep 0.05; done\n"
    around = {"workspace": str(tmp_path), "python": sys.executable}
    process = bash(plan(from_yaml(text), site(early), **around), sdk)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 0, said


def test_a_signal_does_not_end_a_script_without_its_agent(tmp_path: Path, sdk: Path) -> None:
    text = "command: touch up; sleep 2; touch done\n"
    made = plan(from_yaml(text), workspace=str(tmp_path), python="/no/such/python")
    process = bash(made, sdk)
    until(Path(made.paths.files, "up").exists)
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    assert Path(made.paths.files, "done").exists()


# -- one answer for all -------------------------------------------------------------------------


def test_every_looks_seldom(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    stop = Stop(str(tmp_path / "stop"))
    assert [stop.agreed(3) for _ in range(6)] == [False, False, True, True, True, True]
    (tmp_path / "stop").unlink()
    assert stop.agreed(1)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        stop.agreed(0)
