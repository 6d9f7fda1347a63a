"""The batch script: a plan in, text out; no I/O but the loader's.

After rendering, every directive of the plan must stand in the header that sbatch reads, and none
that contradicts the plan, or the template is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from hpcrun import errors
from hpcrun.config import LAUNCHERS
from hpcrun.directives import SBATCH, Directive, flags_of
from hpcrun.flags import refusal
from hpcrun.layout import FORMAT, month_of
from hpcrun.plan import Plan
from hpcrun.reading import nearest
from hpcrun.templating import FAULTS, Load, problem_of, sandbox

MAIN = "sbatch.sh.j2"


@dataclass(frozen=True)
class Script:
    """The text that is submitted, and the header that sbatch reads."""

    text: str
    header: tuple[str, ...]


def render(plan: Plan, load: Load) -> Script:
    """The script of a plan. Raises TemplateError with the file and line."""
    if load(launcher_template(plan)) is None:
        raise errors.TemplateError(_no_launcher(plan))
    try:
        text = sandbox(load).get_template(MAIN).render(variables(plan))
    except FAULTS as error:
        raise errors.TemplateError(problem_of(error)) from error
    script = Script(text, header_of(text))
    found = load(MAIN)
    problems = list(_problems(script, plan, *(found or ("", MAIN))))
    if problems:
        raise errors.TemplateError(*problems)
    return script


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
        "scheduled": bool(plan.directives),
        "launcher_template": launcher_template(plan),
        "format": FORMAT,
        "month": month_of(plan.run_id),
    }


def launcher_template(plan: Plan) -> str:
    """The name of the template that starts the command."""
    return f"launchers/{plan.launch.launcher}.sh.j2"


def _no_launcher(plan: Plan) -> errors.Problem:
    name = plan.launch.launcher
    origin = next((f" ({c.origin})" for c in plan.choices if c.name == "launcher"), "")
    message = f"there is no launcher {name!r}{origin}: no template {launcher_template(plan)}"
    return errors.Problem(message, nearest(name, LAUNCHERS))


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


def _problems(script: Script, plan: Plan, template: str, file: str) -> Iterator[errors.Problem]:
    """What is wrong with a rendered script, told at the main template's lines."""
    shebang = script.text.split("\n", 1)[0]
    if not shebang.startswith("#!"):
        yield errors.Problem("the script does not begin with #!", "{{ shebang }}", file, 1)
    elif "bash" not in shebang:
        yield errors.Problem(f"the script is for bash, not for {shebang}", "", file, 1)
    wanted = [line.line for line in plan.directives]
    flags = {line.flag: line for line in plan.directives}
    for line in wanted:
        if line not in script.header:
            hint = "directives must stand above the first command; write {{ super() }} in `header`"
            place = _header_line(template, script)
            yield errors.Problem(f"the template loses {line!r}", hint, file, place)
    for line in script.header:
        if line not in wanted:
            for message, hint in _contradictions(line, flags):
                yield errors.Problem(message, hint, file, _line_of(template, line))


def _contradictions(line: str, flags: Mapping[str, Directive]) -> Iterator[tuple[str, str]]:
    """What a template's own directive says against the plan: sbatch would heed the last (22.05)."""
    try:
        found = list(flags_of(line))
    except ValueError as error:
        yield f"sbatch cannot read {line!r}: {error}", ""
        return
    for flag, value in found:
        refused = refusal(flag, value)
        if flag in flags:
            yield f"{line!r} stands against the plan's {flags[flag].line!r}", "remove it"
        elif refused is not None:
            yield f"{line!r}: {refused.message}", refused.hint


def _header_line(template: str, script: Script) -> int:
    """Where the header is lost: at the command above it, else at the block that has none."""
    first = next((line for line in script.text.split("\n") if _is_command(line)), "")
    return _line_of(template, first) or _line_of(template, "block header") or 1


def _line_of(template: str, text: str) -> int | None:
    lines = template.split("\n")
    return next((n for n, line in enumerate(lines, 1) if text and text.strip() in line), None)
