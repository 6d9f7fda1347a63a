"""The tutorial for a cluster's staff, done on a cluster: its own text is what runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.lab import Lab

pytestmark = pytest.mark.cluster

TUTORIAL = Path(__file__).resolve().parents[1] / "docs/site_templates.md"

TRAIN = """\
import os
print("scratch:", os.environ["JOB_SCRATCH"], os.listdir(os.environ["JOB_SCRATCH"]))
"""


def test_staff_change_one_block_and_a_project_adds_to_it(lab: Lab) -> None:
    shared = lab.cluster.shared / "tutorial"
    shutil.rmtree(shared, ignore_errors=True)
    (shared / "scratch/common").mkdir(parents=True)
    (shared / "scratch/common/data.txt").touch()
    (shared / "scratch").chmod(0o777)
    text = TUTORIAL.read_text(encoding="utf-8")
    for folder in ("/apps", "/scratch"):
        text = re.sub(rf"(?<![\w/]){folder}/", f"{shared}{folder}/", text)
    pieces = re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)
    kinds = [kind for kind, _ in pieces]
    assert kinds == ["sh", "yaml", "sh", "jinja", "sh", "yaml", "sh", "jinja"]
    folders, site, looking, block, checking, request, using, more = (body for _, body in pieces)
    assert all(
        name in text for name in (f"{shared}/apps/hpcrun/site_configs/lab.yaml", "lab/sbatch")
    )
    named = {"HPCRUN_SITE_FOLDER": f"{shared}/apps/hpcrun"}
    assert f"export HPCRUN_SITE_FOLDER={named['HPCRUN_SITE_FOLDER']}\n" in folders
    source = lab.folder(
        "tutorial",
        {"train.py": TRAIN, "run.yaml": request, ".hpcrun/config.json": "{}"},
    )

    def do(lines: str, user: str) -> str:
        words = ["bash", "-ec", f"umask 022\n{lines}"]
        env = lab.environment(**named)
        done = lab.cluster.run(user, words, cwd=source, env=env, timeout=120)
        assert done.returncode == 0, (lines, done.stdout, done.stderr)
        return str(done.stdout)

    do(folders, "root")
    sites = shared / "apps/hpcrun/site_configs"
    (sites / "lab.yaml").write_text(site)
    (sites / "lab/sbatch.sh.j2").write_text(block)
    assert "\nsetup\tshipped\t" in do(looking, "root")
    assert do(checking, "root").startswith("1 overrides and ")
    run_id = re.search(r"submitted run (\S+) ", told := do(using, "alice"))
    assert run_id is not None
    scratch = shared / "scratch/alice" / run_id[1]
    assert f"scratch: {scratch} []\n" in told and "\nmkdir -p " in told
    assert scratch.is_dir()
    (source / ".hpcrun/templates").mkdir()
    (source / ".hpcrun/templates/sbatch.sh.j2").write_text(more)
    told = do("hpcrun submit --follow", "alice")
    assert "/scratch/alice/" in told and "['data.txt']\n" in told
    assert list((shared / "scratch/alice").iterdir()) == [scratch]
