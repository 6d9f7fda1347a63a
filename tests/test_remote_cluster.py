"""The commands from a laptop: the real ssh, the real sshd, and what goes wrong between them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.layout import JUMP
from tests.far import Far, other_version
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
compute_target: test-cluster
experiment: remote
resources: {time: 10m}
"""

TRAIN = """\
import pathlib, sys, time
from hpcrun import Run

run = Run.get_context()
run.log("loss", 0.5, step=0)
pathlib.Path("outputs").mkdir(exist_ok=True)
pathlib.Path("outputs/model.txt").write_text("a model")
print("caf\\u00e9, and no line end", end="", flush=True)
"""

# Now and then it stands in the midst of a character.
TALK = """\
import pathlib, sys, time
stop = pathlib.Path(sys.argv[1])
for number in range(100000):
    for piece in (b"line %d \\xe2" % number, b"\\x82", b"\\xac\\xf0\\x9f", b"\\x98\\x80\\n"):
        sys.stdout.buffer.write(piece)
        sys.stdout.flush()
    if stop.exists():
        break
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def ended(lab: Lab) -> str:
    """The id of a run that has ended."""
    source = lab.folder("remote", {"run.yaml": RUN_YAML, "train.py": TRAIN})
    run_id = lab.submit(source)
    assert lab.wait(run_id)["status"] == "Completed"
    return run_id


@pytest.fixture
def talking(lab: Lab) -> Iterator[tuple[str, Path]]:
    """The id of a run that goes on and talks, and the file that ends it."""
    stop = lab.cluster.shared / "stop"
    stop.unlink(missing_ok=True)
    source = lab.folder("talking", {"run.yaml": RUN_YAML, "train.py": TALK})
    yield lab.submit(source, "--", str(stop)), stop
    stop.touch()


def test_each_command_says_there_what_it_says_here(far: Far, ended: str) -> None:
    for words in (
        ("list", "-e", "remote"),  # others go on meanwhile
        ("show", "--json", ended),
        ("metrics", ended),
        ("logs", ended),
        ("wait", ended),
        ("show", "none-of-this-name"),
        ("list", "--no-such-option"),
    ):
        here, there = far.lab.run(*words), far.run(*words)
        told = (there.returncode, there.stdout, there.stderr)
        assert told == (here.returncode, here.stdout, here.stderr), words


def test_the_workspace_may_be_named_by_a_variable_or_the_project(far: Far, ended: str) -> None:
    named = f"far:{far.lab.workspace}"
    words = [f"{far.lab.venv}/bin/hpcrun", "show", "--json", ended]
    done = far.laptop.run(words, env={"HPCRUN_WORKSPACE": named})
    assert json.loads(done.stdout)["run_id"] == ended
    far.laptop.write("project/.hpcrun/config.json", json.dumps({"workspace": named}))
    done = far.laptop.run(words, cwd=far.laptop.home / "project")
    assert json.loads(done.stdout)["run_id"] == ended
    # So it is where what starts it has closed what it does not need.
    words = ["bash", "-c", f"{shlex.join(far.words('show', '--json', ended))} <&- 2>&-"]
    assert json.loads(far.laptop.run(words).stdout)["run_id"] == ended


def test_a_list_is_one_login_and_one_question(far: Far, ended: str) -> None:
    # What goes up is written down by what stands in front of ssh.
    env = far.in_front_of_ssh('tee -a "$HOME/up" | exec /usr/bin/ssh "$@"\n')
    before = far.logins()
    assert far.json("list", env=env)[0]["run_id"]
    assert far.logins() == before + 1
    # The far side greets; both of these go up at once; what comes back is the answer.
    frames = [json.loads(line) for line in (far.laptop.home / "up").read_text().splitlines()]
    assert [frame[0] for frame in frames] == ["Hello", "Request"]


@pytest.mark.parametrize(("policy", "logins"), [("recommended", 1), ("allowed", 2), ("refused", 2)])
def test_connections_are_shared_by_the_policy_of_the_site(
    far: Far, ended: str, policy: str, logins: int
) -> None:
    more = "credential_lifetime: 1h\n  credential_command: card new"
    far.site(policy, more=f"multiplex: {policy}\n  {more}")
    before, env = far.logins(), {"XDG_RUNTIME_DIR": f"{far.laptop.home}/\u00fc 1%"}
    for _ in range(2):
        assert ended in far.ok("list", site=policy, env=env)
    assert far.logins() == before + logins
    sockets = [*far.laptop.home.glob("\u00fc 1%/hpcrun/*")]
    assert len(sockets) == (policy == "recommended")
    for socket in sockets:
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        # A login of an hour ago is told before what it was made with ends.
        os.utime(socket, (time.time() - 3400,) * 2)
        told = far.run("list", site=policy, env=env).stderr
        assert "with is good for 3 more minutes at most; `card new` gets a new one" in told


def test_csh_banners_noise_and_a_jump_host_do_no_harm(far: Far, ended: str) -> None:
    far.site("csh", host="csh")
    done = far.run("show", "--json", ended, site="csh")
    assert json.loads(done.stdout)["run_id"] == ended and done.stderr == ""
    far.site("behind", host="behind")
    assert ended in far.ok("list", site="behind")
    profile = far.lab.cluster.home("alice") / ".bashrc"
    noise = "printf '\\033[2J\\033[31mWELCOME \\007'; echo oh >&2; false\n"
    try:
        profile.write_text(noise)
        assert far.run("show", "--json", ended).stdout == done.stdout
        profile.write_text(f"{noise}exit 3\n")
        ends = far.run("list")
        assert ends.returncode == 6 and "hpcrun did not begin on far: exit code 3" in ends.stderr
        for redirects, told in (
            ("exec 1>&2", "comes on standard error: a profile there redirects it"),
            ("exec >/dev/null", "standard output is no connection"),
        ):
            profile.write_text(f"{noise}{redirects}\n")
            done = far.run("list")
            assert done.returncode == 6 and told in done.stderr, done.stderr
    finally:
        profile.unlink()


def test_without_hpcrun_there_it_is_told_how_to_bring_it(far: Far) -> None:
    for host in ("login", "csh"):
        words = [f"{far.lab.venv}/bin/hpcrun", "-w", f"{host}:", "list"]
        done = far.laptop.run(words)
        assert done.returncode == 6
        told = f"hpcrun: there is no hpcrun on {host} (`hpcrun site bootstrap {host}` brings it"
        assert done.stderr.startswith(told)


def test_versions_that_differ_are_told_with_what_to_do(far: Far, ended: str) -> None:
    from hpcrun import __version__ as here
    from hpcrun.transport.wire import PROTOCOL

    bring = "`hpcrun site bootstrap {0}` brings this one there"
    update = "update this machine's: pip install hpcrun-slurm=={1}"
    for version, protocol, told, code in (
        ("0.0.9", PROTOCOL, "hpcrun: {2} here, {1} on {0}; " + bring, 0),
        ("9.0", PROTOCOL, "hpcrun: {2} here, {1} on {0}; " + update, 0),
        ("0.0.9", PROTOCOL - 1, "on {0} (protocol {3}) do not understand each other (" + bring, 6),
        ("9.0", PROTOCOL + 1, "on {0} (protocol {3}) do not understand each other (" + update, 6),
    ):
        site = f"of-{version.replace('.', '-')}-{protocol}"
        folder = far.lab.cluster.shared / site
        python = f"env PYTHONPATH={other_version(far.lab, folder, version, protocol)}"
        far.site(site, command=f"{python} {far.lab.python} -m hpcrun")
        words = told.format(site, version, here, protocol)
        done = far.run("list", site=site)
        assert done.returncode == code and words in done.stderr, (done.stderr, words)
        assert (ended in done.stdout) == (code == 0)
        # At a terminal as well; and nothing is done by who is not understood.
        at = far.terminal(far.words("shell", ended, site=site))
        at.shows(re.escape(words))
        assert at.ends() == (code or 7)
        shutil.rmtree(folder)
    at = far.terminal([f"{far.lab.venv}/bin/hpcrun", "-w", "login:", "shell", ended])
    at.shows("hpcrun: there is no hpcrun on login .`hpcrun site bootstrap login` brings it")
    assert at.ends() == 6


def test_a_login_that_is_refused_is_tried_once_and_told(far: Far) -> None:
    far.site("certified", host="certified", more="credential_command: key sign")
    before = far.laptop.layout.output("sshd").read_text().count("Connection closed by")
    done = far.run("list", site="certified")
    assert done.returncode == 6 and done.stdout == ""
    assert "did not let you in (publickey); it was tried once (`key sign` gets" in done.stderr

    def after() -> int:
        return far.laptop.layout.output("sshd").read_text().count("Connection closed by")

    eventually(lambda: after() > before)  # sshd writes it down in its own time
    assert after() == before + 1
    far.laptop.certify("+20m")
    more = "auth: certificate\n  credential_command: key sign"
    far.site("certified", host="certified", more=more)
    done = far.run("list", site="certified")
    assert done.returncode == 0
    soon = r"good for (19|20) more minutes; `key sign` gets a new one"
    assert re.search(soon, done.stderr)
    # So it is where the certificate is with the agent alone.
    aside = "mv id_certified-cert.pub gone; exec"
    add = "cd ~/.ssh && ssh-add -q id_certified &&"
    words = ["ssh-agent", "bash", "-c", f'{add} {aside} "$@"', "bash"]
    done = far.laptop.run([*words, *far.words("list", site="certified")])
    assert re.search(soon, done.stderr), done.stderr


def test_host_keys_are_never_taken_on_trust(far: Far) -> None:
    far.laptop.change_host_key()
    done = far.run("list")
    assert done.returncode == 6 and "is another than the one you know" in done.stderr
    (far.laptop.home / ".ssh/known_hosts").write_text("")
    done = far.run("list")
    assert done.returncode == 6 and "is not known here" in done.stderr
    assert (far.laptop.home / ".ssh/known_hosts").read_text() == ""


def test_a_host_that_does_not_answer_is_told(far: Far) -> None:
    far.site("closed", host="login, port: 9")
    done = far.run("list", site="closed")
    assert done.returncode == 6 and "refuses connections at port 9" in done.stderr
    assert not far.run("list", site="nowhere.invalid").stdout
    jump = far.laptop.layout.address(JUMP)
    far.site("by-closed", host="login, proxy_jump: 'jump:9'")
    done = far.run("list", site="by-closed")
    assert done.returncode == 6 and f"{jump} (on the way to login) refuses" in done.stderr
    far.site("by-jump", host="login.invalid, proxy_jump: jump")
    done = far.run("list", site="by-jump")
    assert done.returncode == 6 and "does not get through to login.invalid" in done.stderr
    known = far.laptop.home / ".ssh/known_hosts"
    lines = known.read_text().splitlines(keepends=True)
    known.write_text("".join(line for line in lines if jump not in line))
    far.site("behind", host="behind")
    done = far.run("list", site="behind")
    assert done.returncode == 6 and "a jump host on the way to behind is not known" in done.stderr


@contextlib.contextmanager
def following(
    far: Far, run_id: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Lena follows a run, into the files `out` and `err` of her home."""
    out, err = far.laptop.home / "out", far.laptop.home / "err"
    words = far.words("logs", "-f", run_id)
    with (
        out.open("w") as to,
        err.open("w") as told,
        far.laptop.popen(words, stdout=to, stderr=told, env=env) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def test_a_followed_log_goes_on_after_a_cut_and_a_restart(
    far: Far, talking: tuple[str, Path]
) -> None:
    run_id, stop = talking
    out, err = far.laptop.home / "out", far.laptop.home / "err"
    with following(far, run_id) as process:
        eventually(lambda: b"line 20 " in out.read_bytes())
        far.laptop.restart_login()
        eventually(lambda: "it is tried again" in err.read_text())
        size = out.stat().st_size
        eventually(lambda: out.stat().st_size > size)
        far.laptop.link(False)
        eventually(lambda: err.read_text().count("it is tried again") == 2)
        far.laptop.link(True)
        size = out.stat().st_size
        eventually(lambda: out.stat().st_size > size)
        stop.touch()
        assert process.wait(180) == 0
    assert out.read_bytes().decode() == far.lab.ok("logs", run_id)
    assert far.lab.json("show", run_id)["status"] == "Completed"
    assert "password" not in err.read_text()
    eventually(lambda: far.served() == "", 130)


def test_logins_keep_their_gap_and_one_that_is_refused_is_the_last(
    far: Far, talking: tuple[str, Path]
) -> None:
    run_id, _ = talking
    out, err, times = (far.laptop.home / name for name in ("out", "err", "times"))
    far.site("far", gap=3)
    noted = '[ "$1" = -G ] || date +%s.%N >>"$HOME/times"; exec /usr/bin/ssh "$@"\n'
    env = far.in_front_of_ssh(noted)  # -G asks for the configuration
    with following(far, run_id, env) as process:
        eventually(lambda: b"line 5 " in out.read_bytes())
        far.laptop.restart_login()
        eventually(lambda: len(times.read_text().split()) >= 2)
        size = out.stat().st_size
        eventually(lambda: out.stat().st_size > size)
        far.laptop.change_host_key()
        assert process.wait(180) == 6
    assert "is another than the one you know" in err.read_text()
    # One that comes while sshd begins anew is refused, and tried again.
    logins = [*map(float, times.read_text().split())]
    assert len(logins) >= 3 and all(later - login >= 3 for login, later in pairwise(logins))


def test_a_wait_is_taken_up_again(far: Far, talking: tuple[str, Path]) -> None:
    run_id, stop = talking
    words = far.words("wait", run_id)
    with far.laptop.popen(words) as waiting:
        try:
            eventually(lambda: len(far.served().split()) == 2)  # greeted, and at work
            before = {*far.served().split()}
            far.laptop.restart_login()
            eventually(lambda: not before & {*far.served().split()})
            at_work = eventually(lambda: len(found := far.served().split()) == 2 and found)
            # What serves it is killed: its command is not left alone either.
            far.lab.cluster.run("alice", ["kill", "-KILL", at_work[0]])
            eventually(lambda: not {*at_work} & {*far.served().split()})
        finally:
            stop.touch()
        out, err = waiting.communicate(timeout=180)
    assert waiting.returncode == 0 and out == f"run {run_id}: Completed\n"
    assert err.count("it is tried again") == 2


def test_who_goes_away_leaves_nothing_behind(far: Far, talking: tuple[str, Path]) -> None:
    run_id, _ = talking
    out = far.laptop.home / "out"
    with following(far, run_id) as process:
        eventually(lambda: b"line 1 " in out.read_bytes())
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == 130
    assert f"run {run_id} goes on; cancel it with" in (far.laptop.home / "err").read_text()
    eventually(lambda: far.served() == "")
    with following(far, run_id) as process:
        eventually(lambda: b"line 1 " in out.read_bytes())
        process.kill()
    eventually(lambda: far.served() == "")
    assert far.lab.json("show", run_id)["status"] == "Running"


def at_terminal(far: Far, *words: str, typed: str) -> tuple[int, Any]:
    """What a command shows at a terminal, where somebody types."""
    command = ["script", "-qec", shlex.join(far.words(*words)), "/dev/null"]
    done = far.laptop.run(command, input=typed)
    return done.returncode, done.stdout


def test_questions_are_asked_here_and_answered_there(far: Far, lab: Lab) -> None:
    source = lab.folder("asked", {"run.yaml": RUN_YAML, "train.py": TRAIN})
    run_id = lab.submit(source)
    lab.wait(run_id)
    code, shown = at_terminal(far, "delete", run_id, typed="n\n")
    assert code == 0 and "[y/N]" in shown and lab.json("show", run_id)["run_id"] == run_id
    code, shown = at_terminal(far, "delete", run_id, typed="y\n")
    assert code == 0 and "[y/N]" in shown
    assert lab.run("show", run_id).returncode == 9


def test_a_shell_beside_a_job_has_the_terminal_of_the_laptop(
    far: Far, talking: tuple[str, Path]
) -> None:
    run_id, _ = talking
    eventually(lambda: far.lab.json("show", run_id)["status"] == "Running")
    for site, host in (("far", "login"), ("alone", "behind")):
        far.site(site, host=host)
        at = far.terminal(far.words("shell", run_id, site=site))
        at.shows(rf"\[{run_id} n\d\]")
        at.type("tty; echo $HPCRUN_RUN_ID $((6 * 7)); stty size\n")
        at.shows(r"/dev/pts/\d+\r\n" + run_id + r" 42\r\n33 101\r\n")
        at.type("exit 3\n")
        assert at.ends() == 3
    done = far.run("shell", run_id, "--", "sh", "-c", "tty; echo $HPCRUN_RUN_ID; exit 4")
    assert (done.returncode, done.stdout) == (4, f"not a tty\n{run_id}\n"), done.stderr
    at = far.terminal(far.words("shell", "none-of-this-name"))
    at.shows("hpcrun: .*none-of-this-name")
    assert at.ends() == 9


def test_a_one_time_code_is_asked_for_once(far: Far) -> None:
    far.site("code", host="code", more="auth: publickey_otp\n  multiplex: allowed")
    words = [f"{far.lab.venv}/bin/hpcrun", "-w", "code:", "list"]
    # Who does not have one stops it, and the terminal is as it was.
    at = far.terminal(["bash", "-c", f"{shlex.join(words)}; stty -a"])
    at.shows("One-time password")
    at.type("\x03")
    at.shows(r"[^-]echo ")
    assert at.ends() == 0
    at = far.terminal(words)
    at.shows("One-time password")
    at.type(f"{far.laptop.code()}\n")
    shown = at.shows(r"(?s).*(no runs|run +status|there (is|are) no).*").group()
    assert at.ends() == 0
    assert "One-time" not in shown + at.shown
