"""The agent as it runs in a job: real processes, real signals."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun.state import Cause, State
from tests.agent_job import LOG_POINTS, Job, alive, kill, logged, pid_in, points, status_of, until
from tests.metrics_job import VERSIONS, interpreter
from tests.signal_masks import settable

ROOT = os.geteuid() == 0


# -- the ordinary run ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_tells_its_facts_in_order(tmp_path: Path, sdk: Path, version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    job = Job(tmp_path, sdk, python=python).make()
    assert subprocess.run([*job.agent, "check"], env=job.environment()).returncode == 0
    assert job.run(*job.shim, "sh", "-c", "echo trained", HPCRUN_JOB_ID="12@ada") == 0
    assert job.kinds() == ["started", "running", "finalizing", "ended"]
    started, ended = job.fact("started").data, job.fact("ended").data
    assert started["host"] == os.uname().nodename
    assert (started["job_id"], started["restart"]) == ("12@ada", 0)
    assert (ended["exit_code"], ended["cause"], ended["interrupted"]) == (0, "completed", False)
    assert job.fact("rank_ended").data["status"] == 0
    assert job.folded().state == State.COMPLETED
    assert (job.files / "user_logs/1.0/rank-0.log").read_text() == "trained\n"
    assert not job.spool.exists()
    assert job.batch_log.read_bytes() == b""


def test_it_runs_where_the_job_was_laid_and_reads_nothing(job: Job) -> None:
    assert job.run("sh", "-c", "pwd > place; cat > read; test -d outputs && test -d logs") == 0
    assert (job.files / "place").read_text() == f"{job.files}\n"
    assert (job.files / "read").read_text() == ""


@pytest.mark.parametrize("status", [0, 1, 2, 77, 126, 127, 128, 255])
def test_the_status_is_the_commands_own(job: Job, status: int) -> None:
    assert job.run(*job.shim, "sh", "-c", f"exit {status}") == status
    assert job.fact("ended").data["exit_code"] == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_signal_that_ends_the_command(job: Job, number: int) -> None:
    assert job.run("sh", "-c", f"kill -{int(number)} $$") == 128 + number
    ended = job.fact("ended").data
    assert (ended["exit_code"], ended["signal"], ended["cause"]) == (None, number, "signal")
    assert ended["interrupted"] is False


def test_a_signal_that_ends_the_rank_is_seen_through_the_shim(job: Job) -> None:
    assert job.run(*job.shim, "sh", "-c", "kill -9 $$") == 137
    verdict = job.folded().verdict
    assert verdict is not None
    assert (verdict.cause, verdict.signal, verdict.rank) == (Cause.SIGNAL, 9, 0)


@pytest.mark.parametrize("words", [["no-such-command"], ["./train.py"], ["/dev/null"]])
def test_a_command_that_cannot_be_started(job: Job, words: list[str]) -> None:
    (job.files / "train.py").write_text("no shebang, and no x bit")
    status = 127 if words == ["no-such-command"] else 126
    assert job.run(*words) == status
    ended = job.fact("ended").data
    assert (ended["cause"], ended["exit_code"]) == ("launch_failed", status)
    assert words[0] in ended["evidence"][0]


def test_a_launcher_that_gives_no_words(job: Job) -> None:
    assert job.run() == 127
    verdict = job.folded().verdict
    assert verdict is not None and verdict.cause is Cause.LAUNCH_FAILED
    assert verdict.evidence == ("the launcher's template gives no words in `command`",)


def test_a_command_whose_time_is_over_before_it_begins(job: Job) -> None:
    """Here its launcher takes as long for the preflight."""
    launcher = job.files / "launcher"
    launcher.write_text("#!/bin/sh\nsleep 4\n")
    launcher.chmod(0o755)
    job.ask(agent={"preflight": {"tasks": 1}, "max_duration_seconds": 2})
    assert job.run(str(launcher), *job.shim, "true", HPCRUN_MASTER_PORT="") == 1
    verdict = job.folded().verdict
    assert verdict is not None and verdict.cause is Cause.TIME_LIMIT
    assert verdict.sentence == "the run has taken its max_run_duration_seconds (2)"
    assert "running" not in job.kinds()


def test_a_launcher_that_begins_no_rank(job: Job) -> None:
    """What it said is the evidence; user code has no part in it."""
    assert job.run("sh", "-c", "echo 'step refused' >&2; exit 3", *job.shim, "true") == 3
    ended = job.fact("ended").data
    assert (ended["cause"], ended["exit_code"]) == ("launch_failed", 3)
    assert ended["evidence"][-1] == "step refused"
    verdict = job.folded().verdict
    assert verdict is not None
    assert verdict.sentence == "no rank began: the launcher ended with exit code 3"


@pytest.mark.parametrize("words", [["no-such-command"], ["./train.py"], ["/dev/null"]])
def test_a_rank_whose_command_is_not_there(job: Job, words: list[str]) -> None:
    (job.files / "train.py").write_text("no shebang, and no x bit")
    status = 127 if words == ["no-such-command"] else 126
    assert job.run(*job.shim, *words) == status
    verdict = job.folded().verdict
    assert verdict is not None
    assert (verdict.cause, verdict.exit_code, verdict.rank) == (Cause.LAUNCH_FAILED, status, 0)
    assert verdict.sentence == f"rank 0 on {os.uname().nodename} cannot start {words[0]}"
    assert "may not be executed there" in verdict.hint


NASTY = [
    "plain",
    "",
    " two  spaces ",
    "line\nbreak",
    "tab\t",
    "'single' \"double\"",
    "$(touch broken) `touch broken` $HOME ${HOME}",
    "*",
    "~",
    "\\",
    "a\\nb",
    "--",
    "-n",
    "a;b&c|d>e",
    "naïve ☃ 中文",
    "\udcff not utf-8",
    "!!",
    "#",
]
SHOW = "import os, sys, json; json.dump(sys.argv[1:], open('words.json', 'w'))"


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_words_arrive_exactly(job: Job, locale: str) -> None:
    environment = {"LC_ALL": locale, "LANG": ""}
    assert job.run(*job.shim, sys.executable, "-c", SHOW, *NASTY, **environment) == 0
    assert json.loads((job.files / "words.json").read_text()) == NASTY
    assert job.fact("running").data["command"][-len(NASTY) :] == NASTY
    assert not (job.files / "broken").exists()


def test_the_environment_arrives_exactly(job: Job) -> None:
    given = job.environment(LANG="C", LC_ALL="", LC_CTYPE="", WEIRD="a\nb=c'\"$(x)")
    with job.batch_log.open("ab") as log:
        words = [*job.agent, "run", "--", "cp", "/proc/self/environ", "environ"]
        subprocess.run(words, env=given, stderr=log, check=True)
    items = (job.files / "environ").read_bytes().split(b"\0")[:-1]
    assert dict(item.decode().split("=", 1) for item in items) == given


def test_the_command_has_default_signals_whatever_the_script_ignored(job: Job) -> None:
    show = "grep -E '^Sig(Blk|Ign)' /proc/self/status > signals"
    ignoring = ["bash", "-c", "trap '' USR1 USR2 HUP PIPE INT; exec \"$@\"", "bash"]
    for words in (["sh", "-c", show], [*job.shim, "sh", "-c", show]):
        with job.batch_log.open("ab") as log:
            whole = [*ignoring, *job.agent, "run", "--", *words]
            assert subprocess.run(whole, env=job.environment(), stderr=log).returncode == 0
        masks = [line.split()[1] for line in (job.files / "signals").read_text().splitlines()]
        assert [settable(mask) for mask in masks] == [0, 0]


def test_the_teardown_runs_after_the_command(job: Job) -> None:
    assert job.run("sh", "-c", "echo one > order; exit 4", teardown="echo two >> order") == 4
    assert (job.files / "order").read_text() == "one\ntwo\n"
    assert job.facts("problem") == []


def test_a_teardown_that_fails_is_a_problem_and_no_more(job: Job) -> None:
    assert job.run("true", teardown="exit 9") == 0
    assert job.fact("problem").data["message"] == "the teardown ended with status 9"
    assert job.folded().state == State.COMPLETED


def test_heartbeats_count(job: Job) -> None:
    job.ask(agent={"heartbeat_seconds": 0.2})
    agent = job.start("sh", "-c", "while ! test -e go; do sleep 0.1; done")
    until(lambda: len(job.facts("heartbeat")) >= 2)
    (job.files / "go").touch()
    assert status_of(agent) == 0
    counts = [fact.data["count"] for fact in job.facts("heartbeat")]
    assert counts == list(range(1, len(counts) + 1))


def test_the_umask_is_the_policys(job: Job) -> None:
    job.ask(agent={"umask": "0077"})
    assert job.run("sh", "-c", "umask > mask; touch outputs/model") == 0
    assert int((job.files / "mask").read_text(), 8) == 0o077
    assert (job.files / "outputs/model").stat().st_mode & 0o777 == 0o600


def test_a_run_without_run_json_takes_the_defaults(job: Job) -> None:
    (job.record / "run.json").unlink()
    assert job.run("true") == 0
    assert "run.json" in job.fact("problem").data["message"]


def test_what_the_command_leaves_behind_ends_with_it(job: Job) -> None:
    left = "echo $$ > pid; trap '' TERM; exec sleep 600"
    assert job.run("sh", "-c", f'sh -c "{left}" & while ! test -s pid; do sleep 0.1; done') == 0
    assert not alive(pid_in(job.files / "pid"))


# As daemons do: two forks, a session of their own, nothing of the parent's open.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        open("daemon", "w").write("%d\\n" % os.getpid())
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists("daemon"):
    time.sleep(0.01)
time.sleep(float(sys.argv[1]))
"""


def test_a_daemon_ends_with_the_run(job: Job) -> None:
    assert job.run(*job.shim, sys.executable, "-c", DAEMON, "0") == 0
    assert not alive(pid_in(job.files / "daemon"))
    assert job.facts("problem") == []
    assert not job.spool.exists()


def test_a_daemon_ends_with_a_run_that_is_told_to_stop(job: Job) -> None:
    agent = job.start(*job.shim, sys.executable, "-c", DAEMON, "600")
    pid = pid_in(job.files / "daemon")
    agent.terminate()
    assert status_of(agent) == 143
    assert not alive(pid)


def test_a_daemon_ends_with_a_run_whose_agent_is_killed(job: Job) -> None:
    agent = job.start(*job.shim, sys.executable, "-c", DAEMON, "600")
    pid = pid_in(job.files / "daemon")
    kill(agent.pid)
    status_of(agent)
    until(lambda: job.facts("ended"))
    assert not alive(pid)
    until(lambda: not job.spool.exists())


def test_processes_of_another_run_are_left_alone(job: Job, tmp_path: Path, sdk: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Job(tmp_path / "other", sdk).make()
    first = other.start("sh", "-c", "echo $$ > pid; while ! test -e go; do sleep 0.1; done")
    pid = pid_in(other.files / "pid")
    assert job.run(*job.shim, sys.executable, "-c", DAEMON, "0") == 0
    assert alive(pid)
    (other.files / "go").touch()
    assert status_of(first) == 0


def test_in_slurm_daemons_are_left_to_slurm(job: Job) -> None:
    job.ask(target="cluster/gpu")
    assert job.run(*job.shim, sys.executable, "-c", DAEMON, "0", SLURM_JOB_ID="7") == 0
    pid = pid_in(job.files / "daemon")
    assert alive(pid)
    kill(pid)


def test_the_last_words_are_the_evidence(job: Job) -> None:
    code = "def train():\n    raise ValueError('loss is nan')\nprint('epoch 1')\ntrain()\n"
    assert job.run(*job.shim, sys.executable, "-c", code) == 1
    evidence = job.fact("ended").data["evidence"]
    assert evidence[0] == "Traceback (most recent call last):"
    assert evidence[-1] == "ValueError: loss is nan"


# -- signals ------------------------------------------------------------------------------------

CATCH = (
    "import signal, sys, time\n"
    "def caught(number, frame):\n"
    "    print('caught', number, flush=True)\n"
    "    if number in (2, 15): sys.exit(5)\n"
    "for number in map(int, sys.argv[1:]): signal.signal(number, caught)\n"
    "open('ready', 'w').close()\n"
    "while True: time.sleep(0.05)\n"
)
"""What comes just before a sleep is heard after it."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_is_passed_on_once(job: Job, number: int) -> None:
    job.ask(agent={"kill_wait_seconds": 60})
    agent = job.start(*job.shim, sys.executable, "-uc", CATCH, str(int(number)))
    until((job.files / "ready").exists)
    agent.send_signal(number)
    assert status_of(agent) == 5
    assert (job.files / "user_logs/1.0/rank-0.log").read_text() == f"caught {int(number)}\n"
    assert job.fact("signal").data == {"signal": number, "name": signal.Signals(number).name}
    ended = job.fact("ended").data
    assert (ended["exit_code"], ended["interrupted"]) == (5, True)
    assert job.folded().awaits_scheduler


@pytest.mark.parametrize(("end", "status"), [("kill -TERM $$", 143), ("exit 42", 42)])
def test_a_command_that_ends_as_a_stop_comes_was_stopped(job: Job, end: str, status: int) -> None:
    """By the same stop, before the agent has a word; or it asks for a next attempt in vain."""
    job.ask(agent={"requeue": {"exit_code": 42, "max_attempts": 2}})
    words = f"echo $$ > pid; kill -STOP $PPID; kill -TERM $PPID; {end}"
    with job.start("sh", "-c", words) as agent:
        command = pid_in(job.files / "pid")
        until(lambda: not alive(command))
        agent.send_signal(signal.SIGCONT)
        assert status_of(agent) == status
    assert job.fact("ended").data["interrupted"] is True
    assert job.folded().awaits_scheduler


def test_a_command_that_will_not_stop_is_killed(job: Job) -> None:
    job.ask(agent={"kill_wait_seconds": 0.5})
    agent = job.start(
        *job.shim, "sh", "-c", "trap '' TERM; echo $$ > pid; while :; do sleep 1; done"
    )
    pid = pid_in(job.files / "pid")
    agent.terminate()
    assert status_of(agent) == 137
    assert not alive(pid)
    ended = job.fact("ended").data
    assert (ended["signal"], ended["interrupted"]) == (9, True)


def test_a_wrapper_that_dies_at_once_leaves_its_child_time(job: Job) -> None:
    job.ask(agent={"kill_wait_seconds": 60})
    child = f'{sys.executable} -uc "$0" 15; true'
    agent = job.start(*job.shim, "bash", "-c", child, CATCH)
    until((job.files / "ready").exists)
    agent.terminate()
    assert status_of(agent) == 143
    assert (job.files / "user_logs/1.0/rank-0.log").read_text() == "caught 15\n"


def test_warnings_are_facts_and_end_nothing(job: Job) -> None:
    agent = job.start("sh", "-c", "touch ready; while ! test -e go; do sleep 0.1; done")
    until((job.files / "ready").exists)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGCONT):
        agent.send_signal(number)
        name = signal.Signals(number).name
        until(lambda name=name: name in [f.data["name"] for f in job.facts("signal")])
    (job.files / "go").touch()
    assert status_of(agent) == 0
    assert job.fact("ended").data["interrupted"] is False


def test_a_stop_that_comes_before_the_command(job: Job) -> None:
    """The script may be told to stop while it prepares: nothing is started any more."""
    words = ["env", "--block-signal=TERM", *job.agent, "run", "--", "touch", "started"]
    if subprocess.run(["env", "--block-signal=TERM", "true"]).returncode:
        pytest.skip("this env cannot block signals")
    with job.batch_log.open("ab") as log:
        blocked = ["bash", "-c", 'kill -TERM $$; exec "$@"', "bash"]
        outer = ["env", "--block-signal=TERM", *blocked, *words[2:]]
        assert subprocess.run(outer, env=job.environment(), stderr=log).returncode == 143
    assert not (job.files / "started").exists()
    ended = job.fact("ended").data
    assert (ended["signal"], ended["interrupted"]) == (15, True)


def test_the_time_limit_is_kept_where_no_scheduler_does(job: Job) -> None:
    job.ask(agent={"time_limit_seconds": 0.5, "kill_wait_seconds": 60})
    assert job.run(*job.shim, "sleep", "600") == 143
    ended = job.fact("ended").data
    assert (ended["cause"], ended["interrupted"]) == ("time_limit", False)
    verdict = job.folded().verdict
    assert verdict is not None and verdict.cause == Cause.TIME_LIMIT


def test_a_teardown_that_hangs_ends_when_told_to_stop(job: Job) -> None:
    job.ask(agent={"kill_wait_seconds": 0.5})
    agent = job.start("true", teardown="touch hangs; sleep 600")
    until((job.files / "hangs").exists)
    agent.terminate()
    assert status_of(agent) == 0
    assert job.fact("problem").data["message"] == "the teardown ended with status 137"


def test_srun_and_the_kill_are_left_to_slurm(job: Job) -> None:
    """srun answers TERM by killing its ranks, which Slurm itself has told to stop."""
    job.ask(target="cluster/gpu", agent={"kill_wait_seconds": 0.2})
    tools = job.root / "bin"
    tools.mkdir()
    (tools / "srun").write_text('#!/bin/sh\ntouch ready\nexec "$@"\n')
    (tools / "srun").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    command = ("srun", "sh", "-c", "trap 'echo told > told' TERM; sleep 2; exit 6")
    agent = job.start(*command, PATH=path, SLURM_JOB_ID="7")
    until((job.files / "ready").exists)
    agent.terminate()
    assert status_of(agent) == 6
    assert not (job.files / "told").exists()
    assert job.fact("started").data["job_id"] == "7"
    assert job.fact("ended").data["interrupted"] is True


def test_the_dead_are_not_waited_for(job: Job) -> None:
    """In a container without init nobody reaps them: here this process is to, and does not."""
    job.ask(target="cluster/gpu")
    libc, subreaper = ctypes.CDLL(None), 36
    assert libc.prctl(subreaper, 1) == 0
    try:
        words = "sleep 600 & echo $! > pid; wait"
        with job.start("sh", "-c", words, SLURM_JOB_ID="7") as agent:
            orphan = pid_in(job.files / "pid")
            agent.terminate()
            try:
                until(lambda: agent.poll() is not None)
            finally:
                agent.kill()
        assert os.waitpid(orphan, os.WNOHANG) == (orphan, signal.SIGTERM)
    finally:
        libc.prctl(subreaper, 0)


# -- attempts, nodes ----------------------------------------------------------------------------


def test_a_requeue_appends_to_what_is_there(job: Job) -> None:
    command = [*job.shim, sys.executable, "-c", LOG_POINTS, "20", "0"]
    assert job.run(*command) == 0
    (job.files / "outputs/checkpoint").write_text("20")
    second = job.again("1.1")
    assert second.run(*command) == 0
    assert second.fact("started").data["restart"] == 1
    assert len(list(job.record.glob("agent-1.*.jsonl"))) == 2
    assert len(points(job).splitlines()) == len(points(second).splitlines()) == 20
    assert (job.files / "outputs/checkpoint").read_text() == "20"
    assert second.folded().attempt.restart == 1


def other_node(job: Job, launcher: str) -> list[str]:
    """Words that start the helper with another spool, as on another node."""
    script = job.root / "launcher"
    script.write_text(f'#!/bin/sh\nexport HPCRUN_SPOOL={job.root}/other\n{launcher} "$@"\n')
    script.chmod(0o755)
    return [str(script)]


def test_a_helper_keeps_another_node(job: Job) -> None:
    job.ask(agent={"node_helpers": other_node(job, "exec")})
    other = job.root / "other"
    fill = f"while ! test -d {other}; do sleep 0.1; done\n"
    fill += (
        f"echo point > {other}/rank-1-1.0-other-1.jsonl; echo '1 3 1700000000.5 o' > {other}/exits"
    )
    assert job.run("sh", "-c", fill) == 0
    assert (job.record / "rank-1-1.0-other-1.jsonl").read_text() == "point\n"
    assert job.fact("rank_ended").data == {
        "rank": 1,
        "status": 3,
        "host": "o",
        "time": 1700000000.5,
    }
    assert not other.exists()
    assert job.facts("problem") == []


def test_a_helper_that_fails_is_a_problem_and_no_more(job: Job) -> None:
    job.ask(agent={"node_helpers": other_node(job, "exit 3; ")})
    # Until it is told; the record holds these words, too.
    is_told = f"grep -q 'nodes ended with statu[s]' {job.record}/agent-*.jsonl"
    assert job.run("sh", "-c", f"while ! {is_told}; do sleep 0.1; done") == 0
    assert job.fact("problem").data["message"] == "the helpers on other nodes ended with status 3"


def test_helpers_that_cannot_start_are_a_problem_and_no_more(job: Job) -> None:
    job.ask(agent={"node_helpers": ["no-such-launcher"]})
    assert job.run("true") == 0
    assert "helpers" in job.fact("problem").data["message"]


def test_a_helper_flushes_at_term_once_its_ranks_are_gone(job: Job) -> None:
    with job.batch_log.open("ab") as log:
        words = [*job.agent, "node"]
        null = subprocess.DEVNULL
        helper = subprocess.Popen(words, env=job.environment(), stdin=null, stdout=log, stderr=log)
        until(job.spool.exists)
        code = [sys.executable, "-c", LOG_POINTS, "2000", "0.001"]
        rank = subprocess.Popen([*job.shim, *code], env=job.environment())
        until(lambda: logged(job) > 10)
        helper.terminate()
        helper.terminate()
        assert status_of(rank) == 0
        assert status_of(helper) == 0
    assert len(points(job).splitlines()) == 2000
    assert job.fact("rank_ended").data["status"] == 0
    assert not job.spool.exists()


# -- check, and what the agent cannot do --------------------------------------------------------


def check(job: Job, **more: str) -> subprocess.CompletedProcess[str]:
    words = [*job.agent, "check"]
    return subprocess.run(words, env=job.environment(**more), capture_output=True, text=True)


def test_check_refuses_with_a_sentence(job: Job) -> None:
    gone = check(job, HPCRUN_RECORD=str(job.root / "gone"))
    assert gone.returncode == 1
    assert gone.stderr.startswith("hpcrun: cannot write to ") and gone.stderr.count("\n") == 1
    unset = check(job, HPCRUN_RECORD="")
    assert (unset.returncode, unset.stderr.count("\n")) == (1, 1)
    assert "HPCRUN_RECORD is not set" in unset.stderr


def test_check_leaves_nothing_behind(job: Job) -> None:
    before = sorted(job.record.iterdir())
    assert check(job).returncode == 0
    assert sorted(job.record.iterdir()) == before


def test_an_agent_that_fails_still_runs_the_command(job: Job) -> None:
    job.ask(agent={"heartbeat_seconds": "often"})
    assert job.run("sh", "-c", "touch ran; exit 6") == 6
    assert (job.files / "ran").exists()
    assert b"the agent failed" in job.batch_log.read_bytes()


def test_a_record_that_is_gone_ends_nothing(job: Job) -> None:
    job.ask(agent={"kill_wait_seconds": 0.5})
    command = "touch ready; while ! test -e go; do sleep 0.1; done; exit 7"
    agent = job.start("sh", "-c", command)
    until((job.files / "ready").exists)
    job.record.rename(job.root / "elsewhere")
    (job.files / "go").touch()
    assert status_of(agent) == 7


def test_an_act_that_is_unknown(job: Job) -> None:
    result = subprocess.run([*job.agent, "dance"], capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(("line", "knows"), [("kill $$", True), ("exit 3", False)])
def test_slurm_is_asked_who_sent_a_term_that_this_agent_has_not_heard_of(
    job: Job, line: str, knows: bool
) -> None:
    """The ranks may hear it before, or their launcher may have ended the others since one fell."""
    job.ask(target="cluster/gpu")
    both = f'"$@" sh -c "{line}"; exit 143'.replace("$$", "\\$\\$")
    assert job.run("sh", "-c", both, "sh", *job.shim, SLURM_JOB_ID="7") == 143
    assert job.fact("ended").data["interrupted"] is knows
    attempt = job.folded()
    assert attempt.awaits_scheduler is knows and attempt.verdict is not None
