"""Which site a host belongs to, and the workspace that follows from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.workflow.session import open_session
from hpcrun.workflow.whereabouts import history_here, site_here
from tests.commands import hpcrun

SITE = """\
schema_version: 1
id: {id}
default_target: t
{tells}
storage: {{run_history_root: "{root}"}}
targets: {{t: {{}}}}
"""


def put(folder: Path, name: str, tells: str, root: str = "$WORK/hpcrun") -> Assets:
    file = folder / "config/hpcrun/site_configs" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SITE.format(id=name, tells=tells, root=root))
    return Assets.of(None, {"XDG_CONFIG_HOME": str(folder / "config")})


@pytest.mark.parametrize(
    ("tells", "host", "is_ours"),
    [
        ("detect: {hostname: '*.cool.lab'}", "login1.cool.lab", True),
        ("detect: {hostname: '*.cool.lab'}", "login1.warm.lab", False),
        ("detect: {hostname: '*.cool.lab', env: {CLUSTER: warm}}", "login1.cool.lab", False),
        ("detect: {env: {CLUSTER: cool}}", "anywhere", True),
        ("ssh: {endpoints: {login: {host: cool.lab.org}}}", "login2.cool.lab.org", True),
        ("ssh: {endpoints: {login: {host: cool.lab.org}}}", "uncool.lab.org", False),
        ("title: says nothing", "login1.cool.lab", False),
    ],
)
def test_a_host_is_a_sites_own(tmp_path: Path, tells: str, host: str, is_ours: bool) -> None:
    assets = put(tmp_path, "cool", tells)
    found = site_here(assets, host, {"CLUSTER": "cool"})
    assert (found is not None and found.id == "cool") == is_ours
    root = history_here(assets, host, {"CLUSTER": "cool", "WORK": "/work/ada"})
    assert root == ((Path("/work/ada/hpcrun"), "site cool") if is_ours else None)
    assert history_here(assets, host, {"CLUSTER": "cool"}) is None


def test_a_site_file_that_cannot_be_read_is_in_nobodys_way(tmp_path: Path) -> None:
    put(tmp_path, "bad", "detect: {moon: full}")
    assets = put(tmp_path, "cool", "detect: {env: {CLUSTER: cool}}")
    found = site_here(assets, "anywhere", {"CLUSTER": "cool"})
    assert found is not None and found.id == "cool"


def test_without_a_name_the_workspace_is_where_the_site_of_this_host_wants_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HPCRUN_WORKSPACE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(project / "config"))
    monkeypatch.setenv("HOME", str(project / "home"))
    monkeypatch.setenv("WORK", str(project / "work"))
    put(project, "cool", f"detect: {{hostname: {os.uname().nodename}}}")
    session = open_session()
    assert (session.workspace, session.origin) == (project / "work/hpcrun", "site cool")
    assert open_session(given="mine").workspace == project / "mine"


def test_a_run_for_another_site_tells_where_its_history_belongs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HPCRUN_WORKSPACE", raising=False)
    monkeypatch.setenv("HOME", str(project / "home"))
    sites = project / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "local.yaml").write_text(
        "inherits: [local]\nstorage: {run_history_root: /elsewhere/hpcrun}\n"
    )
    done = hpcrun("submit", "--json")
    assert "the site wants it in /elsewhere/hpcrun: hpcrun init -w /elsewhere" in done.stderr
    hpcrun("wait", "@last")
