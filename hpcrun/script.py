"""The batch script: the only maker of shell text. A plan in, text out; no I/O but the loader's.

Templates are shell-safe unless told otherwise: every `{{ value }}` is one quoted word, a list is
quoted words, `| safe` opts out, an undefined name is an error, in a sandbox. After rendering,
every directive of the plan must stand in the header that sbatch reads, or the template is refused.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateError, TemplateNotFound
from jinja2.exceptions import TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from hpcrun import errors
from hpcrun.layout import FORMAT, month_of
from hpcrun.plan import Plan

Load = Callable[[str], tuple[str, str] | None]
"""Template name → (its text, the file it came from), None if there is none."""

MAIN = "sbatch.sh.j2"

FILTERS = ("safe", "length", "first", "last", "default")
"""Jinja's filters that templates may use: those that keep quoting whole."""


@dataclass(frozen=True)
class Script:
    """The text that is submitted, and the header that sbatch reads."""

    text: str
    header: tuple[str, ...]


def render(plan: Plan, load: Load) -> Script:
    """The script of a plan. Raises TemplateError with the file and line."""
    environment = _environment(load)
    try:
        text = environment.get_template(MAIN).render(variables(plan))
    except TemplateError as error:
        raise errors.TemplateError(_problem(error, load)) from error
    script = Script(text, header_of(text))
    _check(script, plan, load)
    return script


def variables(plan: Plan) -> Mapping[str, object]:
    """What a template finds: the plan and its parts, and the run's folders."""
    paths = plan.paths
    return {
        "plan": plan,
        "launch": plan.launch,
        "setting": plan.setting,
        "paths": paths,
        "directives": tuple(line.line for line in plan.directives),
        "task": f"{plan.sdk}/hpcrun/agent/task.sh",
        "agent": (plan.agent_python, "-I", "-S", plan.sdk),
        "spool": plan.spool,
        "claim": paths.claim(plan.submission),
        "scheduled": bool(plan.directives),
        "launcher_template": f"launchers/{plan.launch.launcher}.sh.j2",
        "format": FORMAT,
        "month": month_of(plan.run_id),
    }


def header_of(text: str) -> tuple[str, ...]:
    """The #SBATCH lines that sbatch reads: those before the first command (22.05)."""
    lines: list[str] = []
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            lines.append(line)
    return tuple(lines)


def quote(value: object) -> Markup:
    """A value as shell words: text is one word, a list is its words."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, (tuple, list)):
        return Markup(" ".join(_word(item) for item in value))
    return Markup(_word(value))


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return shlex.quote(str(value))
    raise errors.TemplateError(
        errors.Problem(f"a template wrote a {type(value).__name__} into the script")
    )


def _environment(load: Load) -> Environment:
    environment = ImmutableSandboxedEnvironment(
        loader=_Loader(load),
        autoescape=True,
        finalize=quote,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    environment.filters["shell"] = lambda value: Markup(shlex.quote(str(value)))
    return environment


class _Loader(BaseLoader):
    def __init__(self, load: Load) -> None:
        self.load_text = load

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        found = self.load_text(template)
        if found is None:
            raise TemplateNotFound(template)
        text, file = found
        return text, file, lambda: True


def _problem(error: TemplateError, load: Load) -> errors.Problem:
    if isinstance(error, TemplateNotFound):
        return errors.Problem(f"there is no template {error.name!r}")
    if isinstance(error, TemplateSyntaxError):
        return errors.Problem(str(error.message), "", error.filename or "", error.lineno)
    file, line = _place(error)
    return errors.Problem(str(error.message), "", file, line)


def _place(error: BaseException) -> tuple[str, int | None]:
    """The template line in a traceback: Jinja gives template frames their own file names."""
    file, line = "", None
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.endswith(".j2"):
            file, line = name, trace.tb_lineno
        trace = trace.tb_next
    return file, line


def _check(script: Script, plan: Plan, load: Load) -> None:
    main = load(MAIN)
    file = main[1] if main else MAIN
    problems = [
        errors.Problem(
            f"the template loses {line!r}",
            "directives must stand above the first command; keep the header block's content",
            file,
        )
        for line in _lost((line.line for line in plan.directives), script.header)
    ]
    if not script.text.startswith("#!"):
        problems.append(errors.Problem("the script does not begin with #!", "", file))
    if "\r" in script.text.split("\n", 1)[0]:
        problems.append(errors.Problem("the script has DOS line ends", "sbatch refuses them", file))
    if problems:
        raise errors.TemplateError(*problems)


def _lost(wanted: Iterable[str], header: tuple[str, ...]) -> list[str]:
    return [line for line in wanted if line not in header]
