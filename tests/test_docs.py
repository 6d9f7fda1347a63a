"""What the documents say is what the code does."""

from __future__ import annotations

import inspect
import re
import subprocess
from pathlib import Path
from re import M, S

import pytest

from hpcrun import Experiment, Model, Run, errors
from hpcrun.api.interactive import InteractiveRun
from hpcrun.assets import Assets
from hpcrun.cli.main import COMMANDS
from hpcrun.cli.output import run_object, verdict_object
from hpcrun.config import RunConfiguration
from hpcrun.fold import fold
from hpcrun.layout import Attempt, UserPaths
from hpcrun.record import Fact
from hpcrun.schema import json_schema
from hpcrun.script import VARIABLES, variables
from hpcrun.site import SiteConfig
from hpcrun.state import Cause, State
from hpcrun.templating import FILTERS
from hpcrun.workflow.sites import check_file
from hpcrun.workflow.templates import blocks_of
from tests.make_plan import plan, script

REPOSITORY = Path(__file__).resolve().parents[1]


def document(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def words(text: str) -> set[str]:
    """Everything that stands in backquotes."""
    return set(re.findall(r"[a-z_A-Z]+", " ".join(re.findall(r"`([^`\n]+)`", text))))


def test_the_readmes_exit_codes_are_those_of_the_errors() -> None:
    told = dict(re.findall(r"^\| (\d+) \| (.+) \|$", document("README.md"), re.MULTILINE))
    kinds: list[type[errors.HpcrunError]] = [errors.HpcrunError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    for kind in kinds:
        if kind.__module__ == "hpcrun.errors":
            assert kind.meaning in told[str(kind.exit_code)], kind
    own = {kind.exit_code for kind in kinds if kind.__module__ == "hpcrun.errors"}
    assert {int(code) for code in told} == own | {0, 130, 141}


@pytest.mark.parametrize("name", sorted(json_schema(RunConfiguration)["$defs"]))
def test_run_yaml_names_every_key(name: str) -> None:
    keys = set(json_schema(RunConfiguration)["$defs"][name]["properties"])
    assert keys <= words(document("docs/run_yaml.md"))


@pytest.mark.parametrize("kind", [Experiment, Run, InteractiveRun, Model])
def test_every_member_is_told_of(kind: type) -> None:
    members = [name for name in dir(kind) if not name.startswith("_")]
    assert set(members) <= words(document("docs/runs.md")), kind
    for name in members:
        assert inspect.getdoc(getattr(kind, name)), name


SITE = """schema_version: 1
id: base
ssh: {endpoints: {login: {host: login.example.org}}}
targets:
  debug: {partition: debug, node: {gpus: 4}}
  gpu: {partition: gpu}
"""


@pytest.mark.parametrize(
    "text", re.findall(r"^```yaml\n(.+?)^```", document("docs/sites.md"), M | S)
)
def test_each_site_file_in_the_docs_is_sound(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "site_configs"
    folder.mkdir()
    (folder / "base.yaml").write_text(SITE)
    below = "" if "inherits: [" in text else "inherits: [base]\n"
    own = folder / ("cool.yaml" if "id: cool" in text else "own.yaml")
    own.write_text(below + text + ("" if "id: cool" in text else "id: own\n"))
    found = check_file(own, Assets(user=tmp_path))
    assert [one for one in found if one.grade == "error"] == []


@pytest.mark.parametrize("name", sorted(json_schema(SiteConfig)["$defs"]))
def test_the_page_on_sites_names_every_key(name: str) -> None:
    keys = set(json_schema(SiteConfig)["$defs"][name]["properties"])
    pages = (
        document("docs/sites.md") + document("docs/environments.md").partition("### What a site")[2]
    )
    assert keys <= set(re.findall(r"\w+", pages))


def test_json_names_every_command() -> None:
    told = words(document("docs/json.md").partition("## A run")[0])
    assert set(COMMANDS) <= told


def test_json_names_every_key_of_a_run() -> None:
    request = {
        "run_id": "a_1700000000_01234567",
        "experiment": "a",
        "user": "u",
        "target": "local",
        "created": 0.0,
    }
    ended = Fact("ended", Attempt(1), 1.0, 1, {"exit_code": 1, "signal": None})
    record = fold(request, [ended])
    text = document("docs/json.md")
    run = run_object(record, UserPaths.of("/w", "u").run(request["run_id"]))
    verdict = verdict_object(record.verdict)
    assert verdict is not None
    assert {*run, *verdict, *run["attempts"][0]} <= words(text)
    for word in [*State, *Cause]:
        assert re.search(rf"\b{word}\b", text), word


def test_the_template_in_the_docs_renders(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```jinja\n(.+?)^```", document("docs/templates.md"), M | S)
    template = tmp_path / "templates/sbatch.sh.j2"
    template.parent.mkdir()
    template.write_text(text)
    made = plan(RunConfiguration(script="train.py"))
    own, shipped = script(made, Assets(tmp_path)), script(made)
    assert "\ncp -r '/shared/my data' \"$TMPDIR/data\"\n" in own
    assert 'run --teardown \'rm -rf "$TMPDIR/data"' in own
    assert set(shipped.split("\n")) - set(own.split("\n")) == {
        line for line in shipped.split("\n") if line.startswith('    exec "${agent[@]}" run')
    }
    done = subprocess.run(["bash", "-n"], input=own, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_docs_tell_of_blocks_and_variables_as_the_code_does() -> None:
    text = document("docs/templates.md")
    found = blocks_of(Assets().templates().chain("sbatch.sh.j2")[0])
    assert all(block.about for block in found)
    for rows in ([(block.name, block.about) for block in found], VARIABLES.items()):
        assert "".join(f"| `{name}` | {about} |\n" for name, about in rows) in text
    assert set(VARIABLES) == set(variables(plan(RunConfiguration(script="train.py"))))
    assert {*FILTERS, "safe", "shell"} <= words(text)
