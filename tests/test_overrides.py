"""What templates of one's own make of a script, and which of them are refused, at their line."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.config import MpiConfiguration, RunConfiguration
from hpcrun.errors import TemplateError
from hpcrun.script import header_of
from tests.make_plan import SITE, plan, script, site


def override(tmp_path: Path, **files: str | bytes) -> Assets:
    """A user's templates; the dots of their names are written as double underscores."""
    for name, text in files.items():
        file = tmp_path / "templates" / f"{name.replace('__', '/')}.sh.j2"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Assets(tmp_path)


EXTENDS = '{% extends "shipped/sbatch.sh.j2" %}\n'


def rendered(assets: Assets, **config: object) -> str:
    return script(plan(RunConfiguration(script="a b.py", **config)), assets)  # type: ignore[arg-type]


def test_a_block_can_be_added_to(tmp_path: Path) -> None:
    text = EXTENDS + (
        "{% block header %}\n{{ super() }}#SBATCH --switches=2\n{% endblock %}\n"
        "{% block stage %}\ncp {{ plan.display_name }}-{{ plan.launch.nodes }} {{ 'a b&c' }}\n"
        "{% endblock %}\n"
    )
    found = rendered(override(tmp_path, sbatch=text), display_name="it's; id")
    assert "#SBATCH --switches=2" in header_of(found)
    assert "\ncp 'it'\"'\"'s; id'-1 'a b&c'\n" in found


@pytest.mark.parametrize("forbidden", ["--nodelist", "--nodelist=n1"])
def test_a_template_writes_nothing_that_the_site_forbids(tmp_path: Path, forbidden: str) -> None:
    header = (
        "{% block header %}\n{{ super() }}#SBATCH -w n1\n#SBATCH --nodelist=n1\n{% endblock %}\n"
    )
    text = SITE.replace(
        "scheduler:\n", f"scheduler:\n  directives: {{forbid: {{{forbidden}: no nodes by name}}}}\n"
    )
    made, assets = (
        plan(RunConfiguration(script="a.py"), site(text)),
        override(tmp_path, sbatch=EXTENDS + header),
    )
    with pytest.raises(TemplateError, match="the site does not accept it") as caught:
        script(made, assets)
    assert caught.value.problems[-1].hint == "no nodes by name"
    script(plan(RunConfiguration(script="a.py"), site(SITE)), assets)


def test_a_launcher_can_be_replaced(tmp_path: Path) -> None:
    assets = override(
        tmp_path, launchers__plain="command=(nice sh {{ task }} {{ launch.command }})\n"
    )
    assert "\ncommand=(nice sh " in rendered(assets)


def test_teardown_runs_after_the_command(tmp_path: Path) -> None:
    text = EXTENDS + "{% block teardown %}\nrm -r {{ plan.display_name }}\n{% endblock %}\n"
    found = rendered(override(tmp_path, sbatch=text), display_name="a 'b'")
    line = next(line for line in found.split("\n") if "--teardown" in line)
    assert "rm -r 'a '\"'\"'b'\"'\"''" in shlex.split(found[found.index(line) :])[4]


def test_safe_opts_out_of_quoting(tmp_path: Path) -> None:
    text = EXTENDS + "{% block stage %}\necho {{ plan.display_name | safe }}\n{% endblock %}\n"
    found = rendered(override(tmp_path, sbatch=text), display_name="$HOME; echo two")
    assert "\necho $HOME; echo two\n" in found


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("{% block header %}\n{% endblock %}\n", 2, "loses '#SBATCH --job-name"),
        ("{% block header %}\necho early\n{{ super() }}{% endblock %}\n", 3, "loses '#SBATCH"),
        ("\n{% block stage %}\n{{ nonsense }}\n{% endblock %}\n", 4, "'nonsense' is undefined"),
        ("{% block stage %}\n{{ plan.nonsense }}\n{% endblock %}\n", 3, "no attribute 'nonsense'"),
        ("{% block stage %}{{ plan.user | upper }}{% endblock %}\n", 2, "No filter named 'upper'"),
        ("{% block stage %}{{ plan.user | e }}{% endblock %}\n", 2, "No filter named 'e'"),
        ("{% block stage %}\r\n{% endblock %}\n", 2, "DOS line ends"),
        ("{% block stage %}\n\n{{ plan.tags }}\n{% endblock %}\n", 4, "a dict cannot be written"),
        ("{% block stage %}\n{{ 1 / 0 }}\n{% endblock %}\n", 3, "division by zero"),
        ("{% block stage %}\n{{ super().upper() }}\n{% endblock %}\n", 3, "unsafe"),
        ("{% block stage %}\n{{ super() % 1 }}\n{% endblock %}\n", 3, "side by side"),
        (
            "{% block stage %}\n{% include 'no.sh.j2' %}\n{% endblock %}\n",
            3,
            "no template 'no.sh.j2'",
        ),
        ("{% block stage %}\n{{ plan.__class__ }}\n{% endblock %}\n", 3, "unsafe"),
        ("{% block stage %}\n{% if %}\n{% endblock %}\n", 3, "Expected an expression"),
        ("{% block header %}{{ super() }}#SBATCH --time=1\n{% endblock %}\n", 2, "stands against"),
        (
            "{% block header %}\n{{ super() }}#SBATCH -p other\n{% endblock %}\n",
            3,
            "stands against",
        ),
        (
            "{% block header %}\n{{ super() }}\n#SBATCH --mem=1G\n{% endblock %}\n",
            4,
            "own to write",
        ),
        ("{% block header %}\n{{ super() }}\n#SBATCH --parti=x\n{% endblock %}\n", 4, "short for"),
        ("{% block header %}\n{{ super() }}\n#SBATCH --x='a\n{% endblock %}\n", 4, "cannot read"),
    ],
)
def test_a_wrong_override_is_refused_at_its_line(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered(override(tmp_path, sbatch=EXTENDS + text))
    problem = caught.value.problems[0]
    assert said in problem.message
    assert (problem.file, problem.line) == (str(tmp_path / "templates/sbatch.sh.j2"), line)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo no shebang\n", "does not begin with #!"),
        ("#!/bin/sh\n", "for bash, not for #!/bin/sh"),
        ('{% extends "sbatch.sh.j2" %}\n', "without end"),
        (b"#!/bin/bash\n# \xff\n", "not UTF-8"),
    ],
)
def test_a_wrong_template_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered(override(tmp_path, sbatch=text))
    problem = caught.value.problems[0]
    assert said in problem.message
    assert problem.file == str(tmp_path / "templates/sbatch.sh.j2")


def test_a_launcher_of_ones_own(tmp_path: Path) -> None:
    mine = MpiConfiguration(launcher="mine")
    assets = override(
        tmp_path, launchers__mine="command=(mine sh {{ task }} {{ launch.command }})\n"
    )
    assert "\ncommand=(mine sh " in rendered(assets, distributed_job_config=mine)
    with pytest.raises(TemplateError) as caught:
        rendered(Assets(), distributed_job_config=MpiConfiguration(launcher="mpirum"))
    assert "no launcher 'mpirum'" in str(caught.value) and "`mpirun`" in str(caught.value)


def test_a_wrong_launcher_is_refused_at_its_own_line(tmp_path: Path) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered(override(tmp_path, launchers__plain="\ncommand=({{ tsak }})\n"))
    problem = caught.value.problems[0]
    file = tmp_path / "templates/launchers/plain.sh.j2"
    assert (problem.file, problem.line) == (str(file), 2)
