"""The batch script: a plan in, text out; no I/O but the loader's.

After rendering, every directive of the plan must stand in the header that sbatch reads, and none
that contradicts the plan, or the template is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from hpcrun import errors
from hpcrun.config import LAUNCHERS, RUNTIMES
from hpcrun.directives import SBATCH, WITHOUT_GPUS, Directive, flags_of, one_on_each
from hpcrun.flags import refusal
from hpcrun.plan import Plan
from hpcrun.quotes import Quotes
from hpcrun.reading import nearest
from hpcrun.templating import FAULTS, PARENT, Compiled, Load, problem_of, sandbox

MAIN = "sbatch.sh.j2"
ARRAY = "array.sh.j2"
"""Of a run that is made of independent tasks: which run's script each index of the array runs."""
LAUNCHER_FOLDER = "launchers/"
CONTAINER_FOLDER = "containers/"

VARIABLES = {
    "plan": "the run as it will be submitted, every choice made",
    "launch": "how the command is started: `plan.launch`",
    "setting": "what is prepared before the launch: `plan.setting`",
    "paths": "the run's folders: `plan.paths`",
    "shebang": "the interpreter of the script",
    "directives": "the `#SBATCH` lines, each as it is written",
    "setup": "the site's lines, as they are written",
    "task": "the script by which each rank runs its command",
    "agent": "the words that start the agent",
    "spool": "the folder on a node's own disk, without its attempt",
    "stage": "the words that start one small task on each node",
    "broadcast": "the words that bring a packed environment to all nodes",
    "scheduled": "whether Slurm runs it",
    "launcher_template": "the name of the launcher's template",
    "container": "in which container the command runs: `plan.container`",
    "container_template": "the name of the template of what makes it",
    "folders": "the site's folders that the container sees where they are, as words",
}
"""What a template finds, by name."""


_COMPILED = Compiled()
"""By this process: compiling takes most of the time of a first script, and tasks have one each."""


@dataclass(frozen=True)
class Script:
    """The text that is submitted, and the header that sbatch reads."""

    text: str
    header: tuple[str, ...]


def render(plan: Plan, load: Load, compiled: Compiled = _COMPILED) -> Script:
    """The script of a plan. Raises TemplateError with the file and line."""
    missing = no_template(plan, load)
    if missing is not None:
        raise errors.TemplateError(missing)
    try:
        text = sandbox(load, compiled).get_template(main_template(plan)).render(variables(plan))
    except FAULTS as error:
        raise errors.TemplateError(problem_of(error)) from error
    problems = problems_of(text, plan, load)
    if problems:
        raise errors.TemplateError(*problems)
    return Script(text, header_of(text))


def main_template(plan: Plan) -> str:
    """The name of the template that the script is made of."""
    return ARRAY if plan.tasks is not None and plan.tasks.index is None else MAIN


def problems_of(text: str, plan: Plan, load: Load) -> tuple[errors.Problem, ...]:
    """What is wrong with a rendered script, told at the lines of the main template, or of that
    which it extends."""
    names = dict.fromkeys((main_template(plan), MAIN))  # an array's header is that of its tasks
    sources = [source for name in names for source in _overrides(name, load)]
    script = Script(text, header_of(text))
    return tuple(_problems(script, plan, _Sources(sources or [load(MAIN) or ("", MAIN)])))


def _overrides(name: str, load: Load) -> list[tuple[str, str]]:
    """(text, file) of those templates of a name that hide another, nearest first."""
    found: list[tuple[str, str]] = []
    while (source := load(PARENT * len(found) + name)) is not None:
        found.append(source)
    return found[:-1]


def variables(plan: Plan) -> Mapping[str, object]:
    """What a template finds: the plan and its parts, and the run's folders."""
    paths = plan.paths
    return {
        "plan": plan,
        "launch": plan.launch,
        "setting": plan.setting,
        "paths": paths,
        # Text that stands as it is: the site's lines, and what `directives` has quoted.
        "shebang": Markup(plan.shebang),
        "directives": tuple(Markup(line.line) for line in plan.directives),
        "setup": tuple(Markup(line) for line in plan.setting.lines),
        "task": f"{plan.sdk}/hpcrun/agent/task.sh",
        "agent": (plan.agent_python, "-I", "-S", plan.sdk),
        "spool": plan.spool,
        "stage": ("env", *WITHOUT_GPUS, *one_on_each(plan.launch.nodes), "--mpi=none"),
        "broadcast": _broadcast(plan),
        "scheduled": bool(plan.directives),
        "launcher_template": launcher_template(plan),
        "container": plan.container,
        "container_template": container_template(plan),
        "folders": _folders(plan),
    }


def _broadcast(plan: Plan) -> tuple[str, ...]:
    packing = plan.setting.packing
    if packing is None:
        return ()
    if packing.by == "sbcast":
        return ("sbcast", "--force", packing.file, f"{packing.place}/packed")
    program = f"{plan.sdk}/hpcrun/agent/broadcast.py"
    python = f"{packing.prefix}/bin/python"
    return (*packing.launcher, python, "-I", program, packing.file, packing.place)


def _folders(plan: Plan) -> tuple[str, ...]:
    """Paths, and variables that may not be set."""
    folders = plan.container.folders if plan.container is not None else ()
    return tuple(
        Markup(f'"${{{folder[1:]}:-}}"') if folder.startswith("$") else folder for folder in folders
    )


def launcher_template(plan: Plan) -> str:
    """The name of the template that starts the command."""
    return f"{LAUNCHER_FOLDER}{plan.launch.launcher}.sh.j2"


def container_template(plan: Plan) -> str:
    """The name of the template that makes the container; empty if there is none."""
    container = plan.container
    return f"{CONTAINER_FOLDER}{container.runtime}.sh.j2" if container is not None else ""


def no_template(plan: Plan, load: Load) -> errors.Problem | None:
    """That the launcher or the container runtime of a plan has no template; None if both have."""
    container = plan.container
    for what, name, template, known in (
        ("launcher", plan.launch.launcher, launcher_template(plan), LAUNCHERS),
        ("container runtime", container and container.runtime, container_template(plan), RUNTIMES),
    ):
        if name and load(template) is None:
            origin = next((f" ({c.origin})" for c in plan.choices if c.name == what), "")
            message = f"there is no {what} {name!r}{origin}: no template {template}"
            return errors.Problem(message, nearest(name, known))
    return None


def header_of(text: str) -> tuple[str, ...]:
    """The #SBATCH lines that sbatch reads: those before the first command (22.05)."""
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith(SBATCH):
            lines.append(line)
        elif _is_command(line):
            break
    return tuple(lines)


def _is_command(line: str) -> bool:
    rest = line.strip(" \t\v\f\r")
    return bool(rest) and not rest.startswith("#")


class _Sources(NamedTuple):
    """(text, file) of the main template and of those that it extends, without what ships."""

    templates: Sequence[tuple[str, str]]

    def place(self, *texts: str) -> tuple[str, int | None]:
        """(file, line) of the first of these texts that stands in one of them."""
        for text in filter(str.strip, texts):
            for template, file in self.templates:
                for number, line in enumerate(template.split("\n"), 1):
                    if text.strip() in line:
                        return file, number
        return self.templates[0][1], None


def _problems(script: Script, plan: Plan, sources: _Sources) -> Iterator[errors.Problem]:
    """What is wrong with a rendered script."""
    first_line = script.text.split("\n", 1)[0]
    first_file = sources.templates[0][1]
    if not first_line.startswith("#!"):
        yield errors.Problem("the script does not begin with #!", "{{ shebang }}", first_file, 1)
    elif "bash" not in first_line:
        yield errors.Problem(f"the script is for bash, not for {first_line}", "", first_file, 1)
    wanted = [line.line for line in plan.directives]
    flags = {line.flag: line for line in plan.directives}
    command = next((line for line in script.text.split("\n") if _is_command(line)), "")
    file, number = sources.place(command, "block header")
    for line in wanted:
        if line not in script.header:
            hint = "directives must stand above the first command; write {{ super() }} in `header`"
            yield errors.Problem(f"the template loses {line!r}", hint, file, number or 1)
    for line in script.header:
        if line not in wanted:
            for message, hint in _contradictions(line, flags, plan.forbidden):
                yield errors.Problem(message, hint, *sources.place(line))
    own = (line for line in _unread(script) if line not in wanted)
    for line in own if wanted else ():
        hint = "write it in block `header`, below {{ super() }}"
        message = f"sbatch does not read {line!r}, which stands below the first command"
        yield errors.Problem(message, hint, *sources.place(line))


def _unread(script: Script) -> Iterator[str]:
    """Lines that look like directives and are none; not those of a text, such as another script."""
    lines = script.text.split("\n")
    places = [number for number, line in enumerate(lines) if line.startswith(SBATCH)]
    places = places[len(script.header) :]
    if not places:
        return
    quotes = Quotes()
    for number, line in enumerate(lines):
        if number in places and not quotes.is_text:
            yield line
        quotes.read(f"{line}\n")


def _contradictions(
    line: str, flags: Mapping[str, Directive], forbidden: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """What a template's own directive says against the plan (sbatch would heed the last, 22.05), or
    against the site, with its reason."""
    try:
        found = list(flags_of(line))
    except ValueError as error:
        yield f"sbatch cannot read {line!r}: {error}", ""
        return
    for flag, value in found:
        refused, reason = (
            refusal(flag, value),
            forbidden.get(flag, forbidden.get(f"{flag}={value}")),
        )
        if flag in flags:
            yield f"{line!r} stands against the plan's {flags[flag].line!r}", "remove it"
        elif reason is not None:
            yield f"{line!r}: the site does not accept it", reason
        elif refused is not None:
            yield f"{line!r}: {refused.message}", refused.hint
