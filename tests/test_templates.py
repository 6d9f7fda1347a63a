"""Templates of one's own: whose counts, how one extends the next, and all that a check finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import CodeType

import pytest

from hpcrun.assets import Assets
from hpcrun.config import MpiConfiguration, RunConfiguration
from hpcrun.errors import ConfigError, Problem, TemplateError
from hpcrun.inspection import faults
from hpcrun.quotes import Quotes
from hpcrun.remembered import Remembered
from hpcrun.script import render, variables
from hpcrun.templating import Compiled, sandbox
from hpcrun.workflow.site import load_site, templates_of
from hpcrun.workflow.templates import check
from tests.commands import answer
from tests.make_plan import plan, script, site

MAIN = "sbatch.sh.j2"
P = "launchers/plain.sh.j2"
EXTENDS = '{% extends "parent/sbatch.sh.j2" %}\n'
CONFIG = RunConfiguration(script="train.py")
TWO_NODES = RunConfiguration(
    script="train.py", distributed_job_config=MpiConfiguration(node_count=2)
)


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    """A place for templates of each kind, all empty."""
    return Assets(*(tmp_path / place for place in ("project", "user", "staff", "flag")))


def put(assets: Assets, whose: str, text: str, name: str = MAIN) -> Path:
    """Writes a template of the project, the user, site `lab` or the flag."""
    folders = {
        "project": "project/templates",
        "user": "user/templates",
        "site": "staff/site_configs/lab",
        "flag": "flag",
    }
    assert assets.project is not None
    file = assets.project.parent / folders[whose] / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def staged(word: str) -> str:
    return f"{EXTENDS}{{% block stage %}}\n{{{{ super() }}}}echo {word}\n{{% endblock %}}\n"


# -- whose counts ---------------------------------------------------------------------------------


def test_each_extends_the_next_one_that_there_is(assets: Assets) -> None:
    for whose in ("site", "user", "project", "flag"):
        put(assets, whose, staged(whose))
        found = assets.templates("lab").load(MAIN)
        assert found is not None and f"echo {whose}" in found[0]
    text = script(plan(CONFIG), assets, "lab")
    assert "\necho site\necho user\necho project\necho flag\n" in text
    assert "\necho user\necho project\necho flag\n" in script(plan(CONFIG), assets)
    assert "echo site" not in script(plan(CONFIG), assets, "other")
    assert assets.project is not None
    (assets.project / "templates" / MAIN).unlink()
    assert "\necho site\necho user\necho flag\n" in script(plan(CONFIG), assets, "lab")
    put(assets, "user", staged("user").replace("parent/", "shipped/"))
    assert "\necho user\necho flag\n" in script(plan(CONFIG), assets, "lab")


def test_those_of_an_inherited_site_come_after_its_own(assets: Assets) -> None:
    first = put(assets, "site", staged("lab")).parents[1]
    for name, bases in (
        ("lab", "[other, base]"),
        ("base", "[root]"),
        ("root", "[]"),
        ("other", "[]"),
    ):
        text = f"schema_version: 1\nid: {name}\ninherits: {bases}\ntargets: {{cpu: {{}}}}\n"
        (first / f"{name}.yaml").write_text(text)
        (first / name).mkdir(exist_ok=True)
        (first / name / MAIN).write_text(staged(name))
    found = templates_of(load_site("lab", assets), assets)
    text = render(plan(CONFIG), found.load).text
    assert "\necho other\necho root\necho base\necho lab\n" in text


def test_an_included_template_can_be_extended_as_well(assets: Assets) -> None:
    name = "task.sh.j2"
    put(assets, "user", f'# users\n{{% include "parent/{name}" %}}\n', name)
    put(assets, "project", f'# projects\n{{% include "parent/{name}" %}}\n', name)
    text = script(plan(TWO_NODES), assets)
    assert "\n# projects\n# users\ntask=(" in text


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (MAIN, '{% extends "parent/task.sh.j2" %}', "'parent/task.sh.j2' is not what this"),
        ("new.sh.j2", '{% include "parent/new.sh.j2" %}', "replaces no other 'new.sh.j2'"),
        (MAIN, '{% extends "sbatch.sh.j2" %}', "include each other without end"),
    ],
)
def test_what_replaces_nothing_is_told(assets: Assets, name: str, text: str, said: str) -> None:
    file = put(assets, "project", text + "\n", name)
    if name != MAIN:
        put(assets, "user", f"{EXTENDS}{{% block stage %}}{{% include '{name}' %}}{{% endblock %}}")
    with pytest.raises(TemplateError, match=said) as caught:
        script(plan(CONFIG), assets)
    assert caught.value.problems[0].file == str(file)


def test_a_template_is_compiled_once_for_each_text(assets: Assets) -> None:
    compiled = Compiled()

    def code() -> CodeType:
        load = assets.templates().load
        return sandbox(load, compiled).get_template(MAIN).root_render_func.__code__

    shipped = code()
    assert code() is shipped
    put(assets, "user", staged("one"))
    own = code()
    assert own is not shipped and code() is own
    for word in ("one", "two"):
        put(assets, "user", staged(word))
        assert f"\necho {word}\n" in script(plan(CONFIG), assets)
    assert code() is not own


def test_what_a_template_was_compiled_to_is_there_for_the_next_process(
    assets: Assets, tmp_path: Path
) -> None:
    folder = tmp_path / "compiled"

    def rendered(kind: str = "template") -> str:
        load = assets.templates().load
        return render(plan(CONFIG), load, Compiled(Remembered(folder, kind))).text

    text = rendered()
    files = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert rendered() == text
    assert all(file.stat().st_mtime_ns == before for file, before in files.items())
    for file in files:
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert rendered() == text
    assert all(Remembered(folder, "template").recall(file.name) for file in files)
    assert rendered("template in another way") == text
    assert not any(Remembered(folder, "template").recall(file.name) for file in files)
    for word in ("one", "two"):
        put(assets, "user", staged(word))
        assert f"\necho {word}\n" in rendered()
    shutil.rmtree(folder)
    folder.write_text("in its place")
    assert "\necho two\n" in rendered()


# -- checking -------------------------------------------------------------------------------------

ALL_WRONG = """\
{% extends "parent/sbatch.sh.j2" %}
{% block header %}
#SBATCH --switches=2
{% endblock %}
{% block stage %}
echo "{{ plan.display_name }}" {{ nonsens }} {{ scheduld }}
echo '{{ launch.nodess }}' {{ plan.job.nodse }} {{ paths.outputz }}
echo {{ plan.user | upper }} {{ 1 is strange }}
{% include "no.sh.j2" %}

{{ setting.variables.ABSENT }}
{% endblock %}
"""


def test_all_that_is_wrong_is_told_at_once_with_its_lines(assets: Assets) -> None:
    file = put(assets, "site", ALL_WRONG)
    put(assets, "user", '{% extends "parent/sbatch.sh.j2" %}\n')
    other = put(assets, "project", "\ncommand=({{ tsak }})\n", "launchers/plain.sh.j2")
    checked = check(assets.templates("lab"), site())
    told = {(p.file, p.line, p.message, p.hint) for p in checked.problems}
    lines = [(line, message, hint) for path, line, message, hint in told if path == str(file)]
    for line, said, hint in (
        (2, "loses '#SBATCH --job-name", "super()"),
        (2, "loses '#SBATCH --nodes=2", ""),
        (6, "{{ plan.display_name }} stands inside of quotes", "leave out"),
        (6, "'nonsens' is undefined", ""),
        (6, "'scheduld' is undefined", "did you mean 'scheduled'?"),
        (7, "{{ launch.nodess }} stands inside of quotes", ""),
        (7, "launch has no attribute 'nodess'", "did you mean 'nodes'?"),
        (7, "plan.job has no attribute 'nodse'", "did you mean 'nodes'?"),
        (7, "paths has no attribute 'outputz'", "did you mean 'outputs'?"),
        (8, "No filter named 'upper'", "filters are"),
        (8, "No test named 'strange'", ""),
        (9, "no template 'no.sh.j2'", ""),
    ):
        assert any(line == n and said in m and hint in h for n, m, h in lines), (line, said, lines)
    assert (str(other), 2, "'tsak' is undefined", "did you mean 'task'?") in told
    assert {path for path, *_ in told} == {str(file), str(other)}
    assert checked.overrides == 3


def test_what_only_rendering_shows_is_told_beside_the_rest(assets: Assets) -> None:
    block = "{{% block stage %}}\n{}\n{{% endblock %}}\n"
    text = EXTENDS + block.format("{{ setting.variables.ABSENT }}\n\n{{ nonsense }}")
    file = put(assets, "user", text)
    checked = check(assets.templates(), site())
    assert [(p.file, p.line) for p in checked.problems] == [(str(file), 5), (str(file), 3)]
    assert "no attribute 'ABSENT'" in checked.problems[1].message


def test_bash_is_asked_and_its_words_told_at_the_templates_line(assets: Assets) -> None:
    file = put(
        assets,
        "project",
        "\n\n{% if scheduled %}\necho a\nif; then\n{% endif %}\ncommand=(sh)\n",
        P,
    )
    problems = check(assets.templates(), site(), [P]).problems
    assert set(problems) == {
        Problem("bash: syntax error near unexpected token `;'", "", str(file), 5)
    }


def test_what_an_override_says_in_vain_is_told(assets: Assets) -> None:
    ours = "{% block setup %}{% block ours %}\n{{ super() }}\n{% endblock %}{% endblock %}\n"
    put(assets, "site", EXTENDS + ours)
    text = (
        "{# said #}\n{% set x = 1 %}\n{% block stagee %}\n{% endblock %}\n\necho a\n"
        "{% if x %}\n{% block ours %}\n{% block mine %}{% endblock %}\n{% endblock %}\n"
        "{{ x }}{% endif %}\n"
    )
    file = put(assets, "project", EXTENDS + text)
    problems = check(assets.templates("lab"), site(), [MAIN, P]).problems
    told = {(p.line, p.message) for p in problems if p.file == str(file)}
    outside = "what stands outside of blocks is left out of the script"
    assert len(told) == len(problems)
    assert told == {
        (4, "no template that it extends has a block 'stagee'"),
        (7, outside),
        (12, outside),
    }


def test_a_block_that_is_there_twice_is_told_at_its_second_line(assets: Assets) -> None:
    file = put(assets, "project", EXTENDS + "{% block stage %}{% endblock %}\n" * 2)
    (problem,) = check(assets.templates(), site(), [MAIN, P]).problems
    assert problem == Problem("block 'stage' defined twice", "", str(file), 3)


def test_directives_that_sbatch_would_not_read_are_told(assets: Assets) -> None:
    text = (
        "{% block stage %}\n#SBATCH --switches=2\ncat >job.sh <<END\n#SBATCH --nice\nEND\n"
        "echo '\n#SBATCH --hold\n'\n{% endblock %}\n"
    )
    file = put(assets, "project", EXTENDS + text)
    (problem,) = check(assets.templates(), site(), [MAIN, P]).problems
    assert (problem.file, problem.line) == (str(file), 3)
    assert "does not read '#SBATCH --switches=2'" in problem.message
    with pytest.raises(TemplateError, match="below the first command"):
        script(plan(CONFIG), assets)


def test_the_scripts_of_independent_tasks_are_checked_too(assets: Assets) -> None:
    array = '{% extends "parent/array.sh.j2" %}\n'
    lost = array + "{% block header %}\n{% endblock %}\n"
    file = put(assets, "user", lost, "array.sh.j2")
    (problem, *_) = check(assets.templates(), site(), ["array.sh.j2"]).problems
    assert (problem.file, problem.line) == (str(file), 2) and "loses '#SBATCH" in problem.message
    file.write_text(array + "{% block settings %}\n{{ super() }}\nfi\n{% endblock %}\n")
    of_task = "{% block stage %}\n{% if plan.tasks %}\nfi\n{% endif %}\n{% endblock %}\n"
    other = put(assets, "project", EXTENDS + of_task)
    problems = check(assets.templates(), site()).problems
    assert {(p.file, p.line) for p in problems} == {(str(file), 4), (str(other), 4)}
    assert {p.message for p in problems} == {"bash: syntax error near unexpected token `fi'"}


def test_what_is_for_gpus_alone_is_checked_too(assets: Assets) -> None:
    text = "{% block stage %}\n{% if plan.job.gpus_per_node %}\nfi\n{% endif %}\n{% endblock %}\n"
    file = put(assets, "project", EXTENDS + text)
    problems = check(assets.templates(), site(), [MAIN, P]).problems
    assert {(p.file, p.line) for p in problems} == {(str(file), 4)}


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_is_asked(assets: Assets) -> None:
    text = (
        "{% block stage %}\n{% for n in [1] %}\n{{ n }}\n{% endfor %}\ncd $HOME/x\n{% endblock %}\n"
    )
    file = put(assets, "project", EXTENDS + text)
    problems = check(assets.templates(), site(), [MAIN, P]).problems
    assert {(p.file, p.line) for p in problems} == {(str(file), 6)}
    assert any("SC2086" in problem.message for problem in problems)


def test_nothing_is_wrong_with_what_ships() -> None:
    templates = Assets().templates()
    environment = sandbox(templates.load)
    known = {"teardown": "", "line": "", "late": "", **variables(plan(CONFIG))}
    assert {name: faults(name, environment, known) for name in templates.names} == dict.fromkeys(
        templates.names, ()
    )
    checked = check(templates, site())
    assert checked.problems == ()
    assert checked.overrides == 0 and checked.scripts >= 3 * 4


@pytest.mark.parametrize(
    ("text", "is_inside"),
    [
        ('echo "', True),
        ("echo '", True),
        ("echo ", False),
        ('echo "a\'b" ', False),
        ('echo "a\\"', True),
        ("echo 'a\\' ", False),
        ("echo $'a\\'", True),
        ('echo "$(cat ', False),
        ('echo "$(cat "', True),
        ('echo "$(cat a)', True),
        ('echo "`cat ', False),
        ("# don't ", False),
        ("echo a#'", True),
        ("echo; # it's\n", False),
        ("a=(b # it's\n", False),
        ("cat <<END\nit's ", False),
        ("cat <<-'END' | tr \"a\" 'b'\nit's\n\tEND\necho ", False),
        ("cat <<END\nit's\nEND\necho '", True),
        ("cat <<<'", True),
        ("x=$((1 << 3)) '", True),
        ("case $x in a) echo '", True),
        ("echo ${x#a} '", True),
    ],
)
def test_one_knows_whether_one_stands_inside_of_quotes(text: str, is_inside: bool) -> None:
    whole = Quotes()
    whole.read(text)
    assert whole.are_open == is_inside
    pieces = Quotes()
    for line in text.splitlines(keepends=True):
        pieces.read(line)
    assert pieces.are_open == is_inside


def test_values_in_quotes_that_are_no_words_may_stand_there(assets: Assets) -> None:
    text = EXTENDS + (
        '{% block stage %}\n{{ super() }}\necho "{{ plan.user | safe }}" "$(cat {{ plan.user }})"\n'
        "# it's {{ plan.user }}\n{% endblock %}\n{% block teardown %}\nx='\n{% endblock %}\n"
        "{% block setup %}{{ plan.user }}{% if extra is defined %}{{ extra }}{% endif %}\n"
        "{% set mine = 1 %}{{ mine }}{% endblock %}\n"
    )
    put(assets, "project", text)
    environment = sandbox(assets.templates().load)
    assert faults(MAIN, environment, variables(plan(CONFIG))) == ()


# -- the command ----------------------------------------------------------------------------------


def test_templates_are_listed_shown_copied_and_checked(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HPCRUN_SITE_FOLDER", str(tmp_path / "staff"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (project / ".hpcrun").mkdir()
    (project / ".hpcrun/config.json").write_text("{}")
    of_site = tmp_path / "staff/site_configs/lab"
    of_site.mkdir(parents=True)
    of_site.with_suffix(".yaml").write_text(
        "schema_version: 1\nid: lab\ndefault_target: cpu\ntargets: {cpu: {}}\n"
    )
    (of_site / MAIN).write_text(staged("site"))

    def told(*words: str) -> str:
        return answer(tmp_path / "history", "templates", *words)

    own = project / f".hpcrun/templates/{P}"
    assert told("copy", P) == f"wrote {own}\n"
    assert own.read_text() == told("show", P)
    with pytest.raises(ConfigError, match="it is there already"):
        told("copy", P)
    chains = {one["name"]: one["chain"] for one in json.loads(told("list", "-t", "lab", "--json"))}
    assert [link["origin"] for link in chains[MAIN]] == ["site", "shipped"]
    assert [link["origin"] for link in chains[P]] == ["project", "shipped"]
    rows = [line.split("\t") for line in told("list").splitlines()]
    assert [P, "project", "shipped", str(own)] in rows
    shown = [line.split("\t") for line in told("show", "--origin", "-t", "lab").splitlines()]
    assert ["stage", "site", f"{of_site / MAIN}:2", ""] in shown
    assert any(row[:2] == ["header", "shipped"] and "#SBATCH" in row[3] for row in shown)
    assert "launch.nodes\tint\t\n" in told("show", "--variables")
    with pytest.raises(TemplateError, match=r"did you mean 'sbatch.sh.j2'"):
        told("show", "sbtch.sh.j2")
    assert told("check", P, "-t", "lab").startswith("1 overrides and 3 scripts: bash")
    own.write_text("command=({{ tsak }})\n")
    with pytest.raises(TemplateError) as caught:
        told("check", P)
    assert [(p.file, p.line) for p in caught.value.problems] == [(str(own), 1)]
    (problem,) = json.loads(told("check", P, "--json"))["problems"]
    assert (problem["line"], problem["hint"]) == (1, "did you mean 'task'?")
    first = tmp_path / "first"
    (first / "launchers").mkdir(parents=True)
    (first / P).write_text("command=(true)\n")
    assert told("check", P, "--templates", str(first), "--json").startswith("{")
    assert "command=(true)" in answer(tmp_path / "history", "render", "--templates", str(first))
    with pytest.raises(ConfigError, match="there is no folder"):
        told("list", "--templates", "nowhere")
