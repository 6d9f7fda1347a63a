"""Which adapter asks Slurm, by settings and by what is installed. Needs no Slurm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.errors import ConfigError, SchedulerError
from hpcrun.scheduler.adapters import are_of_one_release
from hpcrun.scheduler.libslurm import LibSlurm
from hpcrun.workflow.session import Session

REPOSITORY = Path(__file__).resolve().parents[1]
SITE = "schema_version: 1\nid: mine\ntargets: {{main: {{}}}}\nscheduler: {{adapter: {adapter}}}\n"
CHOOSE = """\
from hpcrun.scheduler.adapters import choose
choice = choose("auto")
print(choice.name, choice.is_less, choice.why, sep="|")
"""


def chosen(*folders: Path) -> str:
    """What `auto` chooses where only these folders have modules beside Python's own."""
    path = ":".join(map(str, (REPOSITORY, *folders)))
    done = subprocess.run(
        [sys.executable, "-S", "-c", CHOOSE],
        env={"PYTHONPATH": path, "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_auto_does_without_what_is_not_installed() -> None:
    assert chosen() == "commands|True|pyslurm is not installed"


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (
            'raise ImportError("libslurm.so.38: cannot open shared object file")',
            "pyslurm cannot be imported: libslurm.so.38: cannot open shared object file",
        ),
        # What libslurm does without a slurm.conf (22.05).
        (
            "import os, sys\n"
            'sys.stderr.write("python3: fatal: Could not establish a configuration source\\n")\n'
            "sys.stderr.flush()\n"
            "os._exit(1)",
            "Could not establish a configuration source",
        ),
        ("import os\nos._exit(0)", "no answer"),
    ],
)
def test_auto_survives_a_library_that_does_not_load(tmp_path: Path, module: str, why: str) -> None:
    (tmp_path / "pyslurm.py").write_text(module)
    assert chosen(tmp_path) == f"commands|True|libslurm: {why}"


@pytest.mark.parametrize(
    ("pyslurm", "slurm", "are"),
    [
        ("22.5.3", "22.05.8", True),
        ("25.11.2", "25.11.0", True),
        ("24.11.0", "24.11.5-2", True),
        ("22.5.3", "22.11.1", False),
        ("22.5.3", "24.05.8", False),
        ("25.11.2", "26.05.5", False),
        ("", "", False),
    ],
)
def test_what_is_of_one_release(pyslurm: str, slurm: str, are: bool) -> None:
    assert are_of_one_release(pyslurm, slurm) is are


def session(tmp_path: Path, site: str, user: object = None, project: object = None) -> Session:
    """A session with a site file, and settings of the user and of the project."""
    folders = tmp_path / "project", tmp_path / "user"
    for folder, settings in zip(folders, (project, user), strict=True):
        (folder / "site_configs").mkdir(parents=True)
        if settings is not None:
            (folder / "config.json").write_text(json.dumps(settings))
    (folders[1] / "site_configs" / "mine.yaml").write_text(SITE.format(adapter=site))
    return Session(tmp_path / "history", Assets(*folders))


@pytest.mark.parametrize(
    ("site", "user", "project", "name"),
    [
        ("commands", None, None, "commands"),
        ("pyslurm", None, None, "pyslurm"),
        ("pyslurm", {"workspace": "/lab"}, {}, "pyslurm"),
        ("pyslurm", {"scheduler_adapter": "commands"}, None, "commands"),
        ("commands", {"scheduler_adapter": "pyslurm"}, None, "pyslurm"),
        (
            "commands",
            {"scheduler_adapter": "commands"},
            {"scheduler_adapter": "pyslurm"},
            "pyslurm",
        ),
    ],
)
def test_the_nearest_setting_counts(
    tmp_path: Path, site: str, user: object, project: object, name: str
) -> None:
    choice = session(tmp_path, site, user, project).choice("mine/main")
    assert (choice.name, choice.is_less) == (name, False)


def test_a_setting_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        session(tmp_path, "auto", {"scheduler_adapter": "psylurm"}).choice("mine/main")
    assert "`scheduler_adapter` is 'psylurm'" in str(raised.value)
    assert str(tmp_path / "user" / "config.json") in str(raised.value)


def test_what_auto_does_without_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyslurm.py").write_text("import os\nos._exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    opened = session(tmp_path, "auto")
    assert opened.scheduler("mine/main") is opened.scheduler("mine/main")
    told = "hpcrun: Slurm is asked by its commands: libslurm: exit code 1\n"
    assert capsys.readouterr().err == told


def test_a_library_that_was_asked_for_is_not_done_without(tmp_path: Path) -> None:
    (tmp_path / "pyslurm.py").write_text('raise ImportError("no libslurm")')
    library = LibSlurm(environ={"PYTHONPATH": str(tmp_path), "PATH": ""})
    with pytest.raises(SchedulerError, match="pyslurm cannot be imported: no libslurm"):
        library.jobs()
