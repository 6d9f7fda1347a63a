"""python3 -m tests.record_outputs: writes down what the Slurm of the test cluster says.

Needs the cluster up. hpcrun asks, through wrappers that keep what it asked and what it was told, so
that tests/recorded/<command>/<release>.json holds exactly what its parsers get. Needs nothing but
the standard library: another release comes up where it is installed, such as in a chroot.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.cluster import Cluster
from tests.cluster import accounting as dbd
from tests.cluster.layout import PATH

RECORDED = Path(__file__).with_name("recorded")
HPCRUN = Path(__file__).resolve().parents[1] / "hpcrun"
USER = "alice"
NAME = f"recorded_{int(time.time())}_0123abcd"

REFUSED = {
    "partition": "--partition=nope",
    "account": "--account=nope",
    "qos": "--qos=nope",
    "gpus": "--gres=gpu:9",
    "gpu-type": "--gres=gpu:moon:1",
    "memory": "--mem=999G",
    "license": "--licenses=nope",
    "constraint": "--constraint=nope",
    "node-name": "--nodelist=n99",
    "reservation": "--reservation=nope",
    "dependency": "--dependency=afterok:x",
    "array": "--array=5-x",
    "time": "--time=soon",
    "node-count": "--nodes=many",
    "number": "--cpus-per-task=x",
    "option": "--no-such-option",
    "value": "--mem",
    "flag": "--gres-flags=moon",
}
"""Directives that no Slurm takes, by the name of the case."""

SCRIPTS = {"no-shebang": "true\n", "dos": "#!/bin/bash\r\ntrue\r\n", "empty": ""}

NODE_LISTS = (
    "n1,n[3-4]",
    "n[08-11]",
    "n[001-003,010]x",
    "r[0-1]n[1-2]-ib",
    "a,b[1,3-5]c[08-10],d",
)

COMMANDS = ("sbatch", "squeue", "scontrol", "sacct", "scancel", "srun", "sacctmgr")

EAT = "python3 -c 'x = bytearray(400 << 20); print(len(x))'"

_WRAPPER = """\
#!/usr/bin/python3
import json, subprocess, sys
words = [{name!r}, *sys.argv[1:]]
done = subprocess.run(["/usr/bin/" + words[0], *words[1:]], capture_output=True, encoding="utf-8")
said = {{"words": words, "status": done.returncode, "output": done.stdout, "error": done.stderr}}
with open({log!r}, "a") as stream:
    stream.write(json.dumps(said) + "\\n")
sys.stdout.write(done.stdout)
sys.stderr.write(done.stderr)
sys.exit(done.returncode)
"""

_PRELUDE = """\
import os, sys
from pathlib import PurePosixPath
from hpcrun.errors import SchedulerError
from hpcrun.ports import JobId, Submission
from hpcrun.scheduler.inventory import take_inventory
from hpcrun.scheduler.slurm import Slurm
slurm = Slurm()
try:
    {act}
except SchedulerError as error:
    print(error, file=sys.stderr)
"""

SUBMIT = """slurm.submit(Submission(
        PurePosixPath(sys.argv[1]), "job", PurePosixPath("/"), PurePosixPath("/log")))"""
JOBS = "slurm.jobs()"
LIVES = "slurm.lives(JobId(sys.argv[1]))"
FIND = "slurm.find(sys.argv[1])"
INVENTORY = "take_inventory(os.environ)"
CANCEL = "slurm.cancel(JobId(sys.argv[1]))"

UNKNOWN_TO_ALL = {"scontrol": "echo 'Invalid job id specified' >&2; exit 1", "squeue": "exit 0"}
"""A controller that has forgotten all jobs, so that sacct alone is asked."""


class Recorder:
    """What Slurm says to hpcrun, by command and case. folder: where alice works."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.jobs: dict[str, str] = {}
        self.cases: dict[str, dict[str, Any]] = {}

    def as_user(self, *words: str, user: str = USER) -> str:
        """What a command prints; it must succeed."""
        done = self.cluster.run(user, words, cwd=self.folder)
        if done.returncode:
            raise RuntimeError(f"{words}: {done.stderr}")
        return done.stdout.strip()

    def job(self, case: str, body: str, *words: str, user: str = USER) -> str:
        """The id of a new job, whose log is its own."""
        script = self.script(case, body)
        base = ["sbatch", "--parsable", "--mem=50", "--output=/dev/null"]
        base += [] if any(word.startswith("--nodelist") for word in words) else ["--exclude=n4"]
        self.jobs[case] = self.as_user(*base, *words, str(script), user=user)
        return self.jobs[case]

    def script(self, name: str, body: str) -> Path:
        """An executable script of that name."""
        path = self.folder / f"{name}.sh"
        path.write_text(f"#!/bin/bash\n{body}\n")
        return path

    def ask(self, case: str, act: str, *arguments: str, blind: bool = False) -> None:
        """Has hpcrun ask. What each command says last is a case of that name.

        case: empty where each is to be one of its own, by its words.
        """
        bin = self.folder / f"bin-{case}-{time.time_ns()}"
        log = bin / "log"
        self.as_user("mkdir", str(bin))
        for name in COMMANDS:
            text = _WRAPPER.format(name=name, log=str(log))
            if blind and name in UNKNOWN_TO_ALL:
                text = f"#!/bin/bash\n{UNKNOWN_TO_ALL[name]}\n"
            (bin / name).write_text(text)
            (bin / name).chmod(0o755)
        env = {"PYTHONPATH": str(self.folder / "code"), "PATH": f"{bin}:{PATH}"}
        words = ["/usr/bin/python3", "-c", _PRELUDE.format(act=act), *arguments]
        done = self.cluster.run(USER, words, cwd=self.folder, env=env, timeout=200)
        if done.returncode:
            raise RuntimeError(done.stderr)
        for line in log.read_text().splitlines():
            said = json.loads(line)
            name, *words = said["words"]
            self.cases.setdefault(name, {})[case or " ".join(words)] = said

    def states(self) -> Mapping[str, str]:
        """The state of each job that the controller holds, by its case."""
        words = ("squeue", "--noheader", "--states=all", "--Format", "JobID:|,State:|")
        lines = self.as_user(*words, user="root").splitlines()
        found = {line.split("|")[0].strip(): line.split("|")[1].strip() for line in lines}
        return {case: found.get(number, "") for case, number in self.jobs.items()}

    def wait(self, state: str, *cases: str, seconds: float = 90) -> None:
        """Until jobs are in a state."""
        deadline = time.monotonic() + seconds
        while {case: self.states()[case] for case in cases} != dict.fromkeys(cases, state):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{cases} are not {state}: {self.states()}")
            time.sleep(0.2)


def main() -> int:
    """0 once all is written down."""
    cluster = Cluster()
    if not cluster.is_up():
        print("bring it up first: python3 -m tests.cluster up", file=sys.stderr)
        return 1
    version = cluster.run(USER, ["sbatch", "--version"]).stdout.strip()
    match = re.search(r"(\d+\.\d+)\.\d+", version)
    if match is None:
        raise RuntimeError(version)
    with _folder(cluster) as folder:
        recorder = Recorder(cluster, folder)
        for part in (_jobs, _submissions, _cancels, _knowledge, _troubles):
            print(part.__name__, file=sys.stderr, flush=True)
            part(recorder)
    for command, cases in sorted(recorder.cases.items()):
        path = RECORDED / command / f"{match[1]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "release": version,
            "user": cluster.layout.uid(USER),
            "jobs": recorder.jobs,
            "cases": cases,
        }
        path.write_text(json.dumps(told, indent=1) + "\n")
    return 0


@contextlib.contextmanager
def _folder(cluster: Cluster) -> Iterator[Path]:
    """A folder of alice's with a copy of hpcrun; the jobs that she began end with it."""
    cluster.drop_jobs()
    folder = cluster.shared / "recorded"
    shutil.rmtree(folder, ignore_errors=True)
    cluster.run(USER, ["mkdir", str(folder)])
    out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HPCRUN, folder / "code" / "hpcrun", ignore=out)
    subprocess.run(["chmod", "-R", "a+rX", str(folder / "code")], check=True)
    try:
        yield folder
    finally:
        cluster.drop_jobs()
        shutil.rmtree(folder)


def _jobs(recorder: Recorder) -> None:
    """Jobs in every state that can be made in a minute, and what is told of them."""
    job = recorder.job
    job("limit", "sleep 300", "--time=1")
    job("preempted", "sleep 300", "--partition=low", "--nodelist=n3", "--exclusive", "--no-requeue")
    job("running", "sleep 300", "--nodes=2", "--nodelist=n[1-2]", "--licenses=solver")
    job("node-fails", "sleep 300", "--nodelist=n4", "--no-requeue")
    job("canceled", "sleep 300")
    job("canceled-by-root", "sleep 300")
    job("requeued", "sleep 300", "--requeue")
    recorder.wait("RUNNING", *recorder.jobs)
    job("pushes", "true", "--partition=high", "--nodelist=n3", "--exclusive")
    recorder.as_user("scancel", recorder.jobs["canceled"])
    root = ("scontrol", "update", f"jobid={recorder.jobs['limit']}", "EndTime=now")
    recorder.as_user(*root, user="root")
    recorder.as_user("scancel", recorder.jobs["canceled-by-root"], user="root")
    down = ("scontrol", "update", "nodename=n4", "reason=recorded", "state=down")
    recorder.as_user(*down, user="root")

    job("completed", "true", f"--job-name={NAME}")
    job("exit-code", "exit 7")
    job("high-exit-code", "exit 200")
    job("signal", "kill -9 $$")
    job("step-memory", f"srun -n1 --mem=50 {EAT}\nexit 0", "--exclude=n3,n4")
    job("memory", f"{EAT}\nexit 0")
    job("no-log-folder", "true", "--output=/nowhere/log")
    words = ("--job-name=a UserId=1 JobState=RUNNING", "--comment=JobState=RUNNING NodeList=n9")
    job("hostile-name", "exit 3", *words)
    job("array", "exit $SLURM_ARRAY_TASK_ID", "--array=0-3%2")

    job("held", "true", "--hold")
    job("held-canceled", "true", "--hold")
    recorder.as_user("scancel", recorder.jobs["held-canceled"])
    job("held-array", "true", "--hold", "--array=1-5:2%1")
    job("begins-later", "true", "--begin=now+1hour")
    job("asks-too-much-time", "true", "--partition=short", "--time=10")
    job("waits-for-license", "true", "--licenses=solver")
    job("waits-for-job", "true", f"--dependency=afterok:{recorder.jobs['running']}")
    never = f"--dependency=afterok:{recorder.jobs['node-fails']}"
    job("waits-for-ever", "true", never)
    job("dependency-fails", "true", never, "--kill-on-invalid-dep=yes")
    het = recorder.script("het", "true")
    base = ("sbatch", "--parsable", "--hold", "--mem=50", "--output=/dev/null")
    recorder.jobs["het"] = recorder.as_user(*base, "-n1", ":", "--mem=50", "-n1", str(het))
    recorder.wait("COMPLETED", "completed", "pushes", "step-memory")
    recorder.wait("PREEMPTED", "preempted")
    recorder.wait("NODE_FAIL", "node-fails")
    recorder.wait("TIMEOUT", "limit")
    recorder.as_user("scontrol", "requeue", recorder.jobs["requeued"])
    recorder.wait("PENDING", "requeued")
    # What a job waits for is written down when the scheduler looks at it next.
    time.sleep(3)
    recorder.ask("all", JOBS)
    recorder.ask("named", FIND, NAME)
    recorder.ask("named-in-records", FIND, NAME, blind=True)
    recorder.as_user("scancel", recorder.jobs["requeued"])
    recorder.wait("CANCELLED", "requeued")
    asked = {case: number for case, number in recorder.jobs.items() if "array" not in case}
    for task in range(4):
        asked[f"array-{task}"] = f"{recorder.jobs['array']}_{task}"
    asked["unknown"] = "4000000"
    for case, number in asked.items():
        recorder.ask(case, LIVES, number)
        # For the records of those that live, and as they are when the controller has forgotten.
        recorder.ask(case, LIVES, number, blind=True)
    recorder.cluster.mend_node("n4")


def _submissions(recorder: Recorder) -> None:
    """What sbatch says when it takes a job, and when it does not."""
    for case, directive in REFUSED.items():
        text = f"#SBATCH {directive}\n#SBATCH --output=/dev/null\ntrue"
        recorder.ask(case, SUBMIT, str(recorder.script(f"refused-{case}", text)))
    for case, text in SCRIPTS.items():
        path = recorder.folder / f"{case}.sh"
        path.write_text(text)
        recorder.ask(case, SUBMIT, str(path))
    taken = "#SBATCH --output=/dev/null --hold\ntrue"
    recorder.ask("taken", SUBMIT, str(recorder.script("taken", taken)))
    clusters = f"#SBATCH --clusters=hpcrun\n{taken}"
    recorder.ask("taken-by-a-named-cluster", SUBMIT, str(recorder.script("clusters", clusters)))


def _cancels(recorder: Recorder) -> None:
    """What scancel says."""
    number = recorder.job("bobs", "sleep 300", user="bob")
    recorder.ask("held", CANCEL, recorder.jobs["held"])
    recorder.ask("ended", CANCEL, recorder.jobs["completed"])
    recorder.ask("unknown", CANCEL, "4000000")
    recorder.ask("another-users", CANCEL, number)
    recorder.as_user("scancel", number, user="bob")


def _knowledge(recorder: Recorder) -> None:
    """What Slurm tells of its cluster, and how it expands node lists."""
    recorder.ask("", INVENTORY)
    cases = recorder.cases["scontrol"]
    for text in NODE_LISTS:
        words = ["scontrol", "show", "hostnames", text]
        output = recorder.as_user(*words) + "\n"
        cases[f"node list {text}"] = {"words": words, "status": 0, "output": output, "error": ""}


def _troubles(recorder: Recorder) -> None:
    """What is said without slurmdbd, without accounting, and without a controller."""
    cluster, ended = recorder.cluster, recorder.jobs["exit-code"]
    cluster.stop_controller()
    script = str(recorder.folder / "taken.sh")
    asked = ((SUBMIT, script), (JOBS,), (LIVES, ended), (CANCEL, ended))
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(recorder.ask, "controller-away", *words) for words in asked]:
            done.result()
    dbd.stop_accounting(cluster.layout)
    recorder.ask("records-away", LIVES, ended, blind=True)
    dbd.start_accounting(cluster.layout)
    cluster.start_controller()
    cluster.set_accounting(False)
    recorder.ask("no-accounting", LIVES, ended, blind=True)
    cluster.set_accounting(True)


if __name__ == "__main__":
    sys.exit(main())
