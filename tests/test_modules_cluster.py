"""Modules of a site, of a profile and of a run, by the real Lmod of the test cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.failure import NotHere
from tests.cluster.packages import install_lmod
from tests.lab import Lab

pytestmark = pytest.mark.cluster

SITE = """\
schema_version: 1
id: test-cluster
inherits: [test-cluster]
setup: [. {init}, module use {folder}, module load stale]
modules:
  purge: true
  use: [{folder}]
  load: [base/1.0]
  profiles: {{pair: [zweites, erstes/1.0]}}
"""

TELL = """\
import json, os, shutil, sys
told = {
    "order": os.environ["ORDER"].split(":"),
    "loaded": os.environ["LOADEDMODULES"].split(":"),
    "stale": os.environ.get("STALE"),
    "prefix": sys.prefix,
    "tool": shutil.which("tool"),
    "python": shutil.which("python"),
}
json.dump(told, open("outputs/told.json", "w"))
"""

MODULE = "#%Module\nprepend-path ORDER {name}\nprepend-path PATH {bin}\n"


def files_of(folder: Path) -> dict[str, str]:
    """Modules of which each brings a `python` and a `tool` of its own."""
    found = {
        "stale/1.0": "#%Module\nsetenv STALE yes\n",
        "broken/1.0": "#%Module\nerror {no way}\n",
    }
    for name in ("base/1.0", "zweites/1.0", "zweites/2.0", "erstes/1.0", "own/1.0"):
        found[name] = MODULE.format(name=name, bin=folder / f"bin-{name}")
        found |= {f"bin-{name}/{command}": "#!/bin/false\n" for command in ("python", "tool")}
    return found


def submit(lab: Lab, name: str, modules: Path, environment: dict[str, Any]) -> str:
    try:
        init = install_lmod()
    except NotHere as error:
        pytest.skip(str(error))
    request = {
        "script": "tell.py",
        "compute_target": "test-cluster",
        "resources": {"memory": "200M", "time": "5m"},
        "environment": {"name": name, "module_profile": "pair", **environment},
    }
    files = {
        "tell.py": TELL,
        "run.yaml": json.dumps(request),
        ".hpcrun/config.json": "{}",
        ".hpcrun/site_configs/test-cluster.yaml": SITE.format(init=init, folder=modules),
    }
    return lab.submit(lab.folder(name, files))


def test_modules_are_loaded_in_their_order_and_the_environment_comes_first(lab: Lab) -> None:
    place = lab.cluster.home("alice") / "work/modules"
    modules = lab.folder("modules", files_of(place))
    for command in modules.glob("bin-*/*/*"):
        command.chmod(0o755)
    own = {"virtual_environment": str(lab.venv)}
    fine = submit(lab, "with-modules", modules, {"modules": ["own/1.0"], **own})
    bad = submit(lab, "with-a-broken-one", modules, {"modules": ["own/1.0", "broken/1.0"]})
    run = lab.wait(fine)
    assert run["status"] == "Completed", run["verdict"]
    told = json.loads(Path(run["files"], "outputs/told.json").read_text())
    order = ["base/1.0", "zweites/2.0", "erstes/1.0", "own/1.0"]
    assert (told["loaded"], told["order"]) == (order, order[::-1])
    assert told["stale"] is None
    assert (told["prefix"], told["python"]) == (str(lab.venv), str(lab.venv / "bin/python"))
    assert told["tool"] == str(modules / "bin-own/1.0/tool")
    verdict = lab.wait(bad)["verdict"]
    assert verdict["cause"] == "launch_failed"
    assert "cannot load module broken/1.0" in " ".join(verdict["evidence"])
