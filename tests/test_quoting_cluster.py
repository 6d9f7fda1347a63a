"""Every word, variable and name reaches a real job as it was written, whatever starts it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcrun.layout import month_of
from tests.lab import Lab, eventually
from tests.nasty import BYTES, WORDS

pytestmark = pytest.mark.cluster

SHOW = """
import hashlib, json, os, sys
secret = hashlib.sha256(os.environb[b"PLANTED"]).hexdigest()
told = {
    "script": sys.argv[0],
    "words": sys.argv[1:],
    "variables": {n: v for n, v in os.environ.items() if n.startswith("NASTY_")},
    "secret": secret,
    "folder": sorted(n for n in os.listdir(".") if n not in ("logs", "user_logs", "outputs")),
}
with open("outputs/%s.json" % os.environ["RANK"], "w") as file:
    json.dump(told, file)
print("secret is", secret)
"""

SHELL_LINE = """\
printf '%s|' "$NASTY_3" 'a  b' $(echo sub) `echo back` "it's" a\\ b *.none ~ > outputs/line
for i in 1 2; do echo "$i"; done | paste -sd, >> outputs/line  # a comment
(exit 3) || { echo "failed with $?" >> outputs/line; }
cat <<'END' >> outputs/line
"$HOME" \\
END
"""

MPI = {"kind": "mpi", "node_count": 2, "process_count_per_node": 2}
TORCH = {"kind": "pytorch", "node_count": 2, "process_count": 4}

LAUNCHERS: Mapping[str, tuple[str, int, dict[str, Any]]] = {
    "local": ("sub/-dash;$(id).py", 1, {}),
    "plain": ("-dash 'n' \"quote\".py", 1, {}),
    "srun": ("sub folder/it's $HOME `id`;*.py", 4, MPI),
    "mpirun": ("new\nline\\.py", 4, MPI),
    "torchrun": ("ünï ☃ $$ #.py", 4, TORCH),
    "srun:": ("-x.py", 4, MPI),
    "mpirun:": ("-x.py", 4, MPI),
    "torchrun:": ("-x.py", 4, TORCH),
}
"""The script's name, how many ranks there are, and what starts them.

Those with a colon get the word that is a colon as well: they are started in another way.
"""

VARIABLES = {f"NASTY_{number}": word for number, word in enumerate(WORDS)}
TAGS = {f"tag {word}"[:200]: word for word in WORDS}
NAME = 'it\'s "a" $(name) `with`\nlines; ünï 🎉 \\ --x #'


@dataclass(frozen=True)
class Runs:
    """The runs, by what starts them. secret: what was planted in each. jobs: their jobs' ids; said:
    what Slurm told of each, which it forgets soon after the end."""

    lab: Lab
    ids: Mapping[str, str]
    secret: str
    folders: Mapping[str, Path]
    jobs: Mapping[str, str]
    said: Mapping[str, str]

    def files(self, launcher: str) -> Path:
        run_id = self.ids[launcher]
        return self.lab.workspace / "users/alice/files" / month_of(run_id) / run_id

    def told(self, launcher: str) -> list[dict[str, Any]]:
        """What each rank saw."""
        self.end(launcher)
        found = sorted((self.files(launcher) / "outputs").glob("*.json"))
        return [json.loads(file.read_text()) for file in found]

    def end(self, launcher: str) -> Any:
        ended = self.lab.wait(self.ids[launcher])
        assert ended["status"] == "Completed", (ended, logs(self.files(launcher)))
        return ended


def logs(folder: Path) -> list[str]:
    return [file.read_text(errors="replace") for file in folder.glob("user_logs/**/*.log")]


@pytest.fixture(scope="module")
def runs(lab: Lab) -> Runs:
    secret = f'{secrets.token_hex(12)} it\'s $(a) "secret"\nof two lines'
    key = lab.folder("key", {"it's the key": secret + "\n"}) / "it's the key"
    key.chmod(0o600)
    ids, folders, jobs, said = {}, {}, {}, {}
    for launcher, (script, _, distributed) in LAUNCHERS.items():
        request: dict[str, Any] = {"script": script, "arguments": words_for(launcher)}
        if launcher == "local":
            request["compute_target"] = "local"
        if distributed:
            starter = launcher.rstrip(":")
            request["distributed_job_config"] = {**distributed, "launcher": starter}
        folder = lab.folder(f'of {launcher}: "it\'s" $(a)\nfolder\\', {script: SHOW})
        folders[launcher] = folder
        ids[launcher] = submit(lab, folder, request, key, *BYTES)
        if launcher != "local":
            jobs[launcher] = str(lab.json("show", ids[launcher])["job_id"])
            said[launcher] = told_of(lab, jobs[launcher])
    folder = lab.folder("words", {"show me.py": SHOW})
    ids["words"] = submit(lab, folder, {"command": [lab.python, "show me.py", *WORDS]}, key)
    ids["line"] = submit(lab, folder, {"command": SHELL_LINE}, key)
    return Runs(lab, ids, secret, folders, jobs, said)


def told_of(lab: Lab, job: str) -> str:
    """All that Slurm tells of a job."""
    words = (["show", "job", "--details", job], ["write", "batch_script", job, "-"])
    asked = [lab.cluster.run("root", ["scontrol", *each]) for each in words]
    assert all(done.returncode == 0 and done.stdout for done in asked), asked
    return "".join(done.stdout for done in asked)


def words_for(launcher: str) -> list[str]:
    return [word for word in WORDS if word != ":" or launcher.endswith((":", "local", "plain"))]


def submit(lab: Lab, folder: Path, request: dict[str, Any], key: Path, *words: str) -> str:
    whole = {
        "compute_target": "test-cluster",
        **request,
        "resources": {"time": "5m", "memory": "2G"},
        "environment": {"name": "lab", "python": {"interpreter_path": lab.python}},
        "environment_variables": VARIABLES,
        "secrets": {"PLANTED": str(key)},
        "tags": TAGS,
        "display_name": NAME,
        "description": "\n".join(WORDS),
    }
    # YAML holds JSON; but JSON's escape of an emoji is two halves, and ruamel.yaml breaks lines at
    # U+2028.
    text = json.dumps(whole, ensure_ascii=False).replace("\u2028", "\\u2028")
    (folder / "run.yaml").write_text(text)
    os.chown(folder / "run.yaml", folder.stat().st_uid, -1)
    return lab.submit(folder, *(("--", *words) if words else ()))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_rank_gets_the_words_as_they_were_written(runs: Runs, launcher: str) -> None:
    told = runs.told(launcher)
    script, ranks, _ = LAUNCHERS[launcher]
    assert len(told) == ranks
    for rank in told:
        assert rank["words"] == [*words_for(launcher), *BYTES]
        assert rank["variables"] == VARIABLES
        assert rank["script"] in (script, f"./{script}")
        assert rank["secret"] == hashlib.sha256(runs.secret.encode()).hexdigest()
        assert rank["folder"] == sorted(("run.yaml", script.split("/")[0]))


def test_a_list_is_exact_words(runs: Runs) -> None:
    (told,) = runs.told("words")
    assert told["words"] == list(WORDS)


def test_a_text_is_a_line_for_bash_as_it_is_written(runs: Runs, tmp_path: Path) -> None:
    runs.end("line")
    (tmp_path / "outputs").mkdir()
    home = str(runs.lab.cluster.home("alice"))
    env = {"PATH": "/usr/bin:/bin", "HOME": home, **VARIABLES}
    subprocess.run(["bash"], input=SHELL_LINE, text=True, cwd=tmp_path, env=env, check=True)
    expected = (tmp_path / "outputs/line").read_text()
    assert (runs.files("line") / "outputs/line").read_text() == expected


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_what_is_for_people_is_kept_as_it_was_written(runs: Runs, launcher: str) -> None:
    shown = runs.lab.json("show", runs.ids[launcher])
    assert shown["tags"] == TAGS
    assert shown["display_name"] == NAME
    assert shown["description"] == "\n".join(WORDS)


def test_a_secret_is_nowhere_but_in_the_job(runs: Runs) -> None:
    cluster, planted = runs.lab.cluster, runs.secret.split()[0].encode()
    digest = hashlib.sha256(runs.secret.encode()).hexdigest()
    for launcher in LAUNCHERS:
        runs.end(launcher)
        assert f"secret is {digest}" in "".join(logs(runs.files(launcher)))
    for launcher, job in runs.jobs.items():
        words = ["sacct", "--jobs", job, "--parsable2", "--noheader", "--format=ALL"]
        recorded = eventually(lambda words=words: cluster.run("root", words).stdout)
        assert planted.decode() not in runs.said[launcher] + recorded
    holding = []
    for folder in (runs.lab.workspace, cluster.root / "log"):
        for above, _, names in os.walk(folder):
            for file in (Path(above, name) for name in names):
                with contextlib.suppress(FileNotFoundError):  # others come and go
                    if is_searched(file) and planted in file.read_bytes():
                        holding.append(file)
    assert holding == []


def is_searched(file: Path) -> bool:
    """Another test leaves 50 GB of nothing but a hole."""
    return file.is_file() and not file.is_symlink() and file.stat().st_size < 1 << 30
