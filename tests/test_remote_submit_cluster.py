"""Submitting from a laptop: one job or none, whatever is cut, and the client says which."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.campaign import Figures, seeded, times
from tests.far import Far
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
arguments: [--lr, "1e-3"]
compute_target: test-cluster
experiment: sent
resources: {time: 10m}
"""

TRAIN = """\
import sys
from lib.words import WORDS
print(WORDS, *sys.argv[1:])
"""

FILES = {
    "run.yaml": RUN_YAML,
    "train.py": TRAIN,
    "lib/words.py": "WORDS = 'trained elsewhere'\n",
    ".gitignore": "*.ckpt\n",
    "big.ckpt": "not sent",
}


LATE = """\
import time

now = time.time
time.time = lambda: now() - 3600

from hpcrun.cli.main import main

main()
"""


@pytest.fixture
def project(far: Far) -> Path:
    return far.project("project", FILES)


def new_id() -> str:
    """An id that a run of this test's may have."""
    return f"sent_{int(time.time())}_{os.urandom(4).hex()}"


def jobs(lab: Lab, name: str) -> list[str]:
    """All jobs of a name that Slurm knows of."""
    words = ["squeue", "-h", "-t", "all", "-n", name, "-o", "%i"]
    return lab.cluster.run("alice", words).stdout.split()


def test_a_run_from_the_laptop_to_the_history(far: Far, project: Path) -> None:
    # The laptop's clock is an hour late.
    late = far.laptop.write("late.py", LATE)
    words = far.words("submit", "--follow", "--", "--epochs", "3")
    done = far.laptop.run([far.lab.python, str(late), *words[1:]], cwd=project)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    run_id = re.search(r"submitted run (\S+) as job \d+ to test-cluster/main", said)[1]  # type: ignore[index]
    assert said.endswith("trained elsewhere --lr 1e-3 --epochs 3\n")
    assert time.time() - int(run_id.split("_")[1]) < 600
    run = far.lab.json("show", run_id)
    assert (run["status"], run["user"]) == ("Completed", "alice")
    sent = {line.split("\t")[0] for line in far.ok("snapshot", run_id).splitlines()[1:]}
    assert sent == {"run.yaml", "train.py", "lib/words.py", ".gitignore"}
    assert not [*(far.laptop.home / ".cache/hpcrun/pending").iterdir()]
    assert not [*(Path(run["record"]).parent).glob(".given-*.*.*")]


def test_what_is_wrong_is_said_there_and_nothing_is_brought(far: Far, project: Path) -> None:
    here = far.lab.folder("wrong", FILES)
    for words in (
        ("--set", "compute_target=test-cluster/none"),
        ("--set", "resources.time=100d", "--set", "script=none.py"),
        ("--after", "none"),
        ("--set", "resources.tiem=3"),
    ):
        at_login = far.lab.run("submit", *words, cwd=here)
        done = far.run("submit", *words, cwd=project)
        told = (done.returncode, done.stderr.replace(str(project), str(here)))
        assert told == (at_login.returncode, at_login.stderr) and done.returncode in (2, 3)
    assert far.json("list", "--experiment", "sent-none") == []


def test_render_and_explain_are_of_the_far_side(far: Far, project: Path) -> None:
    run_id = "sent_1795654926_4c009ed1"
    script = far.ok("render", "--run-id", run_id, cwd=project)
    assert script.startswith("#!/bin/bash\n") and f"#SBATCH --job-name={run_id}" in script
    choices = {c["name"]: c["value"] for c in far.json("explain", cwd=project)["choices"]}
    assert choices["source folder"] == str(project)
    assert choices["target"] == "test-cluster/main"
    listed = far.json("explain", "--files", cwd=project)["files"]
    assert {file["path"] for file in listed} == FILES.keys() - {"big.ckpt"}


def test_files_of_the_project_go_along(far: Far) -> None:
    more = {
        "run.yaml": RUN_YAML.replace("test-cluster", "lab/own"),
        ".hpcrun/site_configs/lab.yaml": "schema_version: 1\nid: lab\ninherits: [test-cluster]\n"
        "default_target: own\ntargets: {own: {partition: main}}\n",
        ".hpcrun/templates/sbatch.sh.j2": "{% extends 'parent/sbatch.sh.j2' %}\n"
        "{% block setup %}export OWN=1\n{% endblock %}\n",
    }
    project = far.project("with-files", FILES | more)
    script = far.ok("render", cwd=project)
    assert "export OWN=1" in script and "--partition=main" in script


UP = 'exec 4<&0; exec /usr/bin/ssh "$@" < <(exec {} <&4 4<&-) 4<&-'
DOWN = 'exec /usr/bin/ssh "$@" > >(exec {})'
"""ssh, of which what goes up, or comes down, goes through a command: its end cuts the line."""

CUT_ONCE = """\
case "$*" in *-G*) exec /usr/bin/ssh "$@";; esac
mkdir "$HOME/cut" 2>/dev/null || exec /usr/bin/ssh "$@"
{cut}
"""


@pytest.mark.campaign
def test_a_submission_cut_at_any_byte_is_one_job_or_none(
    far: Far, project: Path, figures: Figures
) -> None:
    ended = {"one": 0, "none": 0}
    for chance in seeded("remote submit", times(100, 4)):
        up = UP.format(f"dd bs=1 status=none count={chance.randrange(1200, 2200)}")
        down = DOWN.format(f"dd bs=1 status=none count={chance.randrange(4500, 6000)}")
        env = far.in_front_of_ssh(CUT_ONCE.format(cut=chance.choice([up, down])))
        (far.laptop.home / "cut").exists() and (far.laptop.home / "cut").rmdir()
        run_id = new_id()
        done = far.run("submit", "--json", "--run-id", run_id, cwd=project, env=env)
        told = (done.returncode, done.stdout, done.stderr)
        there = jobs(far.lab, run_id)
        if done.returncode == 0:
            assert json.loads(done.stdout)["job_id"] == there[0] and len(there) == 1, told
            ended["one"] += 1
        else:
            assert done.returncode == 6 and there == [], told
            assert "is lost" in done.stderr or "there is no run" in done.stderr, told
            assert far.run("show", run_id).returncode == 9
            ended["none"] += 1
        assert not [*(far.laptop.home / ".cache/hpcrun").glob("pending/*")]
    figures.tell("a submission from a laptop, cut at a byte", **ended)


PATH = "/usr/local/bin:/usr/bin:/bin"
SLOW_SBATCH = """\
#!/bin/sh
PATH={path} sbatch "$@"
touch {mark}
exec sleep 60
"""

LAST_WORDS = """\
case "$*" in *rsync*) exec /usr/bin/ssh "$@";; esac
mkdir "$HOME/cut" 2>/dev/null || exit 255
{cut}
"""


@pytest.mark.parametrize(
    ("cut", "jobs_there"),
    ids=["never arrives", "is never told"],
    argvalues=[
        # The request to submit never arrives; what is submitted is never told.
        (UP.format("""sed -u '/"submit"/Q'"""), 0),
        (DOWN.format("sed -u '/submitted run/Q'"), 1),
    ],
)
def test_the_next_contact_says_what_became_of_it(
    far: Far, project: Path, cut: str, jobs_there: int
) -> None:
    env = far.in_front_of_ssh(LAST_WORDS.format(cut=cut))
    run_id = new_id()
    pending = far.laptop.home / f".cache/hpcrun/pending/{run_id}.json"
    err = far.laptop.home / "err"
    words = far.words("submit", "--run-id", run_id)
    with (
        err.open("w") as told,
        far.laptop.popen(words, cwd=project, env=env, stderr=told) as submitting,
    ):
        eventually(lambda: "it is asked what became of run" in err.read_text())
        submitting.kill()
    assert pending.exists() and len(jobs(far.lab, run_id)) == jobs_there
    done = far.run("list")
    became = f"it has one job, {jobs(far.lab, run_id)[0]}" if jobs_there else "there is no run"
    assert f"hpcrun: the submission of {run_id} was cut: {became}" in done.stderr
    assert done.returncode == 0 and not pending.exists() and far.run("list").stderr == ""
    assert len(jobs(far.lab, run_id)) == jobs_there


def test_who_stops_a_submission_is_told_what_became_of_it(far: Far, project: Path) -> None:
    # Slurm has taken it, and does not say so.
    run_id = new_id()
    slow, mark = far.lab.cluster.shared / "slow", far.lab.cluster.home("alice") / run_id
    slow.mkdir(exist_ok=True)
    (slow / "sbatch").write_text(SLOW_SBATCH.format(path=PATH, mark=mark))
    (slow / "sbatch").chmod(0o755)
    far.site("slow", command=f"env PATH={slow}:{PATH} {far.lab.venv}/bin/hpcrun")
    words = far.words("submit", "--run-id", run_id, site="slow")
    with far.laptop.popen(words, cwd=project) as submitting:
        eventually(mark.exists)
        submitting.send_signal(signal.SIGINT)
        out, err = submitting.communicate(timeout=180)
    (job,) = jobs(far.lab, run_id)
    assert submitting.returncode == 130 and out == ""
    assert f"hpcrun: the submission of {run_id} was cut: it has one job, {job}" in err
    mark.unlink()
    # It is killed there, alone: as its like is on a login node that has no memory left.
    words[words.index(run_id)] = run_id = new_id()
    with far.laptop.popen(words, cwd=project) as submitting:
        eventually(mark.exists)
        end = ["pkill", "--newest", "-KILL", "-u", "alice", "-f", "hpcrun serve"]
        assert far.lab.cluster.run("alice", end).returncode == 0
        out, err = submitting.communicate(timeout=180)
    (job,) = jobs(far.lab, run_id)
    assert submitting.returncode == 0 and f"submitted run {run_id} as job {job}" in out
    assert f"signal 9 has ended the command there; it is asked what became of run {run_id}" in err
    shutil.rmtree(slow)
    mark.unlink()
    # The request does not come there; meanwhile another command looks at that place.
    cut = UP.format("""sed -u -e '/"submit"/d' -e "/Interrupt/w $HOME/heard\"""")
    env = far.in_front_of_ssh(LAST_WORDS.format(cut=cut))
    run_id = new_id()
    pending = far.laptop.home / f".cache/hpcrun/pending/{run_id}.json"
    heard = far.laptop.home / "heard"
    with far.laptop.popen(
        far.words("submit", "--run-id", run_id), cwd=project, env=env
    ) as submitting:
        eventually(pending.exists)
        assert far.run("list").stderr == "" and pending.exists()
        submitting.send_signal(signal.SIGINT)
        eventually(lambda: heard.exists() and heard.read_text())
        submitting.send_signal(signal.SIGINT)
        _, err = submitting.communicate(timeout=180)
    assert submitting.returncode == 130 and f"run {run_id} is not known yet: the next" in err
    assert f"the submission of {run_id} was cut: there is no run" in far.run("list").stderr
    # Of what cannot be known is told, and nothing is held up by it.
    place = "far:/proc/none"
    far.laptop.write(f".cache/hpcrun/pending/{run_id}.json", json.dumps({"place": place}))
    done = far.laptop.run([f"{far.lab.venv}/bin/hpcrun", "-w", place, "list"])
    assert done.returncode == 0 and f"run {run_id} is not known yet: far: " in done.stderr


@pytest.mark.parametrize(("name", "code"), [("HUP", 129), ("INT", 130)])
def test_a_submission_that_is_told_to_end_ends_what_it_has_begun(
    far: Far, name: str, code: int
) -> None:
    project = far.project("project", {**FILES, "large": os.urandom(1 << 20).hex()})
    far.laptop.slow(2_000)

    def begun() -> str:
        """The folder of links that rsync reads, while it does."""
        words = ["pgrep", "-a", "-u", "lena", "^rsync$"]
        found = re.search(r"\S+/hpcrun-push-[^/ ]+", far.laptop.run(words).stdout)
        return found[0] if found else ""

    with far.laptop.popen(far.words("submit"), cwd=project) as submitting:
        folder = eventually(begun)
        submitting.send_signal(signal.Signals[f"SIG{name}"])
        out, err = submitting.communicate(timeout=180)
    told = (submitting.returncode, out, err.rstrip())
    assert told == (code, "", "hpcrun: nothing was submitted")
    assert begun() == "" and far.laptop.run(["test", "-e", folder]).returncode == 1
    eventually(lambda: far.served() == "")


def test_a_target_says_where_its_run_goes(far: Far, project: Path) -> None:
    far.site("test-cluster", more="multiplex: refused\ninherits: [test-cluster]")
    for name in ("ssh", "sh", "git", "rsync", "env"):  # Slurm's commands are not among them
        far.laptop.home.joinpath("bin").mkdir(exist_ok=True)
        far.laptop.home.joinpath("bin", name).symlink_to(f"/usr/bin/{name}")
    words = [f"{far.lab.venv}/bin/hpcrun", "submit", "--json", "-t", "test-cluster"]
    done = far.laptop.run(words, cwd=project, env={"PATH": f"{far.laptop.home}/bin"})
    assert done.returncode == 0, done.stderr
    assert "there is no Slurm here; the run history is test-cluster:" in done.stderr
    run = json.loads(done.stdout)
    assert len(jobs(far.lab, run["run_id"])) == 1
    home = far.lab.cluster.home("alice")
    assert run["record"].startswith(f"{home}/hpcrun/")
