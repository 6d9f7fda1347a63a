"""Checking templates: they are rendered for every launcher, and bash and shellcheck asked."""

from __future__ import annotations

import difflib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, nodes

from hpcrun.assets import Found, Templates
from hpcrun.config import MpiConfiguration, Resources, RunConfiguration
from hpcrun.container import Container
from hpcrun.errors import Problem, TemplateError
from hpcrun.inspection import (
    Block,
    Marks,
    Place,
    blocks,
    faults,
    lenient,
    names_set,
    parts_of,
    unmarked,
)
from hpcrun.names import new_run_id
from hpcrun.plan import Plan, Tasks
from hpcrun.reading import Read
from hpcrun.resolve import resolve
from hpcrun.resolve.container import STEPS
from hpcrun.resolve.surroundings import Surroundings
from hpcrun.script import (
    CONTAINER_FOLDER,
    LAUNCHER_FOLDER,
    MAIN,
    VARIABLES,
    main_template,
    problems_of,
    render,
    variables,
)
from hpcrun.site import SchedulerRules, SiteConfig, Target
from hpcrun.templating import FAULTS, PARENT, sandbox

EXCLUDED = ("SC1090", "SC1091", "SC2016")
"""Of shellcheck's: files that lie elsewhere, and `$` in single quotes, which is meant."""


class Checked(NamedTuple):
    """What came of a check. overrides: how many templates are not hpcrun's own.

    scripts: how many were rendered. shellcheck: whether it is installed, and so was asked.
    """

    problems: tuple[Problem, ...]
    overrides: int
    scripts: int
    shellcheck: bool


@dataclass(frozen=True)
class _Rendered:
    """A script, and where each of its lines stands.

    whole: whether nothing that its templates name was missing.
    """

    text: str
    places: tuple[Place | None, ...]
    whole: bool

    def problem(self, message: str, line: int) -> Problem:
        """What is wrong with a line, told at the template's, else at the last one before it."""
        place = next(filter(None, reversed(self.places[:line])), None)
        return Problem(message, "", place.file if place else MAIN, place.line if place else None)


def find(templates: Templates, name: str) -> tuple[Found, ...]:
    """All templates of a name, nearest first. TemplateError if there is none."""
    chain = templates.chain(name)
    if not chain:
        near = difflib.get_close_matches(name, templates.names, 1)
        hint = f"did you mean {near[0]!r}?" if near else "`hpcrun templates list` names all"
        raise TemplateError(Problem(f"there is no template {name!r}", hint))
    return chain


def blocks_of(found: Found) -> tuple[Block, ...]:
    """The blocks of a template. TemplateError."""
    try:
        return blocks(found.text, sandbox(lambda name: None))
    except FAULTS as error:
        raise TemplateError(Problem(f"it cannot be read: {error}", "", str(found.path))) from error


def listing() -> list[tuple[str, str, str]]:
    """(name, type, meaning) of what a template finds, and of the parts of values that have some."""
    plan = replace(next(samples(SiteConfig(1, "any"), ["plain"])), container=_CONTAINER)
    values = variables(plan)
    rows = []
    for name, about in VARIABLES.items():
        parts = parts_of(values[name])
        kind = type(values[name]).__name__
        rows.append((name, "text" if kind in ("str", "Markup") else kind, about))
        rows += [(f"{name}.{part}", told, "") for part, told in parts.items()]
    return rows


def check(templates: Templates, site: SiteConfig, names: Sequence[str] = ()) -> Checked:
    """All that is wrong with templates (default: all) for a site. TemplateError: no such NAME.

    Every launcher's and container runtime's script is rendered, and those of a job array; where
    templates of launchers or runtimes are named, only theirs.
    """
    chains = {name: find(templates, name) for name in names or templates.names}
    launchers = _named(templates, chains, LAUNCHER_FOLDER)
    runtimes = _named(templates, chains, CONTAINER_FOLDER)
    plans = list(samples(site, launchers, runtimes))
    if not all(name.startswith((LAUNCHER_FOLDER, CONTAINER_FOLDER)) for name in chains):
        plans += [replace(plans[0], tasks=tasks) for tasks in (Tasks(2), Tasks(2, index=1))]
    environment = sandbox(templates.load)
    trees = list(_trees(templates, environment))
    known = {**dict.fromkeys(n for tree in trees for n in names_set(tree)), **variables(plans[0])}
    own = {
        PARENT * depth + name: str(found.path)
        for name, chain in chains.items()
        for depth, found in enumerate(chain)
        if found.origin != "shipped"
    }
    problems = [problem for name in own for problem in faults(name, environment, known)]
    told = {(problem.file, problem.line) for problem in problems}
    scripts, refused = _rendered(templates, plans, lenient(environment, trees))
    problems += [p for p in refused if (p.file, p.line) not in told]
    asked = list(_asked(scripts))
    if problems:  # what they spoil further down is not the matter
        asked = [problem for problem in asked if problem.file in own.values()]
    once = tuple(dict.fromkeys([*problems, *asked]))
    return Checked(once, len(own), len(scripts), _shellcheck() is not None)


def _rendered(
    templates: Templates, plans: Iterable[Plan], marking: Environment
) -> tuple[list[_Rendered], list[Problem]]:
    """The scripts of plans, each once, and why they were refused. marking: in which all goes on."""
    marking.add_extension(Marks)
    scripts: dict[str, _Rendered] = {}
    problems: list[Problem] = []
    for plan in plans:
        refused: Sequence[Problem] = ()
        try:
            render(plan, templates.load)
        except TemplateError as error:
            refused = error.problems
        of_header: Sequence[Problem] = ()
        with suppress(*FAULTS):
            marked = marking.get_template(main_template(plan)).render(variables(plan))
            text, places = unmarked(marked)
            of_header = problems_of(text, plan, templates.load)
            scripts[text] = _Rendered(text, places, set(refused) <= set(of_header))
        problems += [*of_header, *refused]
    return list(scripts.values()), problems


def _named(templates: Templates, names: Iterable[str], folder: str) -> Sequence[str]:
    """The launchers, or container runtimes, whose scripts are rendered: those that are named, or
    all where none of either is."""
    named = [name for name in names if name.startswith((LAUNCHER_FOLDER, CONTAINER_FOLDER))]
    found = [name for name in named or templates.names if name.startswith(folder)]
    return [name.removeprefix(folder).removesuffix(".sh.j2") for name in found]


def _trees(templates: Templates, environment: Environment) -> Iterator[nodes.Template]:
    """All templates, as far as they can be read."""
    for name in templates.names:
        for found in templates.chain(name):
            with suppress(*FAULTS):
                yield environment.parse(found.text)


# -- what is rendered -----------------------------------------------------------------------------


def samples(
    site: SiteConfig, launchers: Sequence[str], runtimes: Sequence[str] = ()
) -> Iterator[Plan]:
    """Plans of a site for each launcher: one process, two nodes of two with GPUs, and without
    Slurm; and of two nodes in a container of each runtime.

    Their values hold what must be quoted.
    """
    written = replace(site.scheduler.directives, forbid={})
    slurm, local = SchedulerRules(directives=written), SchedulerRules(kind="local")
    for rules, count in ((slurm, 1), (slurm, 2), (local, 1)):
        where = replace(site, scheduler=rules, targets={"sample": Target(partition="main")})
        made = resolve(Read(_request(count), {}), where, "sample", _AROUND, _RUN_ID, _SDK)
        for launcher in launchers:
            yield replace(made, launch=replace(made.launch, launcher=launcher))
        for runtime in runtimes if rules is slurm and count == 2 else ():
            of_srun = replace(made.launch, launcher="srun")
            inside = replace(_CONTAINER, runtime=runtime, by_step=runtime in STEPS)
            yield replace(made, launch=of_srun, container=inside)


def _request(nodes: int) -> RunConfiguration:
    return RunConfiguration(
        script="train it.py",
        arguments=["--name", "it's a $test"],
        display_name='it\'s a "run"; $HOME',
        distributed_job_config=MpiConfiguration(
            process_count_per_node=nodes, node_count=nodes, launcher="mpirun"
        ),
        resources=Resources(time="1h", cpus_per_task=2, gpus_per_node=nodes if nodes > 1 else None),
        environment_variables={"A_NAME": "it's a value"},
        secrets={"A_SECRET": "/home/ada/it's a secret"},
    )


_CONTAINER = Container(
    runtime="",
    image="/home/ada/an image",
    by_step=False,
    view="it's",
    gpu_arguments=("--gpu",),
    arguments=("--name", "it's $one"),
    binds=("/home/ada/the history:/home/ada/the history",),
    volumes=("/it's:/mine:ro",),
    folders=("/home/ada", "$SCRATCH"),
    variables=("A_NAME", "A_SECRET"),
)

_AROUND = Surroundings(
    user="ada",
    host="login",
    created=1700000000.0,
    version="0",
    python="/home/ada/a venv/bin/python",
    workspace="/home/ada/the history",
    source="/home/ada/digits",
)
_RUN_ID = new_run_id("digits", _AROUND.created, "0123abcd")
_SDK = "/home/ada/the history/sdk"


# -- what bash and shellcheck say -----------------------------------------------------------------


def _shellcheck() -> str | None:
    return shutil.which("shellcheck")


def _asked(scripts: Sequence[_Rendered]) -> Iterator[Problem]:
    program, sound = _shellcheck(), {}
    with tempfile.TemporaryDirectory() as folder:
        for number, script in enumerate(scripts):
            file = Path(folder, f"{number}.sh")
            file.write_text(script.text)
            refused = _refused(file)
            if refused is not None:
                yield script.problem(f"bash: {refused[2]}", int(refused[1]))
            elif script.whole:
                sound[str(file)] = script
        if program is None or not sound:
            return
        words = [program, "--format=json1", "--severity=info", f"--exclude={','.join(EXCLUDED)}"]
        done = subprocess.run([*words, *sound], capture_output=True, text=True, check=False)
        for told in json.loads(done.stdout)["comments"]:
            message = f"shellcheck SC{told['code']}: {told['message']}"
            yield sound[told["file"]].problem(message, told["line"])


def _refused(file: Path) -> re.Match[str] | None:
    """(line, words) of what bash says against a script."""
    done = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True, check=False)
    return re.search(r": line (\d+): (.*)", done.stderr) if done.returncode else None
