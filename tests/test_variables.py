"""Names that a run may not give its variables: what shells and our scripts do with them, really."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hpcrun.variables import RANKS, SCRIPTS, SHELLS, refusal

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = "export {name}='a b:0'; cd /; f() {{ :; }}; f; exec sh -c 'cd /; exec env -0'"


@pytest.mark.parametrize(
    "name",
    ["OMP_NUM_THREADS", "A", "_A1", "http_proxy", "PATH", "PYTHONPATH", "BASH_ENV", "NCCL_X"],
)
def test_ordinary_names_are_free(name: str) -> None:
    assert refusal(name) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *(("1A", "no name"), ("A-B", "no name"), ("", "no name"), ("A\n", "no name")),
        *(("É", "no name"), ("A=B", "no name"), ("HPCRUN_RUN_ID", "reserved")),
        *(("SLURM_JOB_ID", "reserved"), ("SRUN_CPUS_PER_TASK", "reserved")),
        *(("RANK", "its own"), ("UID", "shells"), ("BASHOPTS", "shells"), ("BASH_ARGV0", "shells")),
        *(("host", "capitals"), ("command", "capitals")),
    ],
)
def test_names_that_are_not(name: str, said: str) -> None:
    problem = refusal(name)
    assert problem is not None and said in str(problem)


def arrives(name: str) -> bool:
    """Whether a variable comes through bash and sh, as through a batch script and task.sh."""
    done = subprocess.run(["bash", "-c", SCRIPT.format(name=name)], capture_output=True)
    return f"{name}=a b:0".encode() in done.stdout.split(b"\0")


def test_all_that_shells_keep_is_refused_and_nothing_else() -> None:
    listed = subprocess.run(["bash", "-c", "compgen -v"], capture_output=True, text=True).stdout
    names = {*listed.split(), *SHELLS, "BASH_ARGV0", "BASH_COMMAND", "PATHS", "HOSTNAME", "LANG"}
    names -= {"PATH", "PS4"}
    lost = {name for name in names if not arrives(name)}
    assert {name for name in lost if refusal(name) is None} == set()
    assert len(lost) > 20 and not {"HOSTNAME", "LANG", "PATHS"} & lost


def test_the_names_of_our_scripts_are_known() -> None:
    files = [ROOT / "hpcrun/agent/task.sh", *(ROOT / "templates").rglob("*.j2")]
    text = "\n".join(file.read_text() for file in files)
    set_ = set(re.findall(r"(?:^|[;{()]|\bexport )\s*([A-Za-z_]\w*)\+?=", text, re.MULTILINE))
    set_ |= set(re.findall(r"\bfor (\w+) in [^%\n]*$", text, re.MULTILINE))
    set_ |= set(re.findall(r"\b(?:read -r|mapfile -t) (\w+)", text))
    lower = {name for name in set_ if name.islower() and name != "_"}
    assert lower - SCRIPTS <= {"line"}
    assert SCRIPTS.issubset(lower)
    upper = {name for name in set_ if name.isupper()}
    known = {"CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PATH", "PYTHONPATH", "USER", "IFS"}
    known |= {"PYTHONUNBUFFERED", "ROCR_VISIBLE_DEVICES", "SLURM_EXPORT_ENV", *RANKS}
    assert {name for name in upper if not name.startswith("HPCRUN_")} <= known
