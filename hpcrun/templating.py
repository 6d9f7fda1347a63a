"""Templates that are shell-safe: the only maker of shell words.

Every `{{ value }}` is one quoted word, a list is quoted words, `| safe` opts out; an undefined name
is an error, in a sandbox.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, Protocol

from jinja2 import (
    BaseLoader,
    BytecodeCache,
    Environment,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    Undefined,
    nodes,
    pass_eval_context,
)
from jinja2.bccache import Bucket
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import TemplateSyntaxError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from hpcrun import errors

Load = Callable[[str], tuple[str, str] | None]
"""Template name → (its text, the file it came from), None if there is none."""

PARENT = "parent/"
"""A template reaches the one that it replaces as `parent/NAME`, by its own name."""

FILTERS = ("length", "first", "last", "default")
"""Jinja's filters that templates may use: those that keep quoting whole."""

FAULTS = (
    *(TemplateError, errors.TemplateError, TypeError, ValueError, ArithmeticError),
    *(LookupError, AttributeError, RecursionError),
)
"""What a template can end in."""


def quote(value: object) -> Markup:
    """A value as shell words: text is one word, a list is its words.

    A word stands on one line, and every character of it can be seen: what cannot be printed is
    written as its bytes.
    """
    if isinstance(value, Markup):
        return value
    if isinstance(value, (tuple, list)):
        return Markup(" ".join(quote(item) for item in value))
    return Markup(_word(value))


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float, Undefined)):
        kind = type(value).__name__
        raise errors.TemplateError(errors.Problem(f"a {kind} cannot be written into a script"))
    text = str(value)
    # sbatch refuses a script that holds a carriage return before a line feed anywhere (22.05).
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(_seen(character) for character in text) + "'"


def _seen(character: str) -> str:
    """A character inside of $'…': what cannot be seen as the bytes that the program will get."""
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    try:
        data = character.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = b"\0"
    if data == b"\0":
        raise errors.TemplateError(errors.Problem(f"{character!a} cannot be given to a program"))
    return named or "".join(f"\\x{byte:02x}" for byte in data)


def joined(parts: Sequence[object]) -> object:
    """`a ~ b`: a text, or a piece of script where one of the parts is a piece of script."""
    if any(isinstance(part, Markup) for part in parts):
        return Markup("".join(quote(part) for part in parts))
    return "".join(str(part) for part in parts)


class _Generator(CodeGenerator):
    """Jinja joins for HTML: what is joined to a piece of script would go unquoted."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Where templates run. Pieces of script can be put side by side, and nothing else."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(("+", "%"))
    joined = staticmethod(joined)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        pieces = isinstance(left, Markup) or isinstance(right, Markup)
        if pieces and operator == "+":
            return joined((left, right))
        if pieces:
            raise TypeError(f"a piece of script has no {operator}; write the parts side by side")
        return super().call_binop(context, operator, left, right)

    def join_path(self, template: str, parent: str) -> str:
        """The name under which a template that another one names is loaded."""
        if not template.startswith(PARENT):
            return template
        own = parent.rpartition(PARENT)[2]
        if template != PARENT + own:
            message = f"{template!r} is not what this template replaces"
            raise errors.TemplateError(errors.Problem(message, f"that is {PARENT + own!r}"))
        return PARENT + parent

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not isinstance(obj, Markup) and super().is_safe_attribute(obj, attr, value)


# Jinja would escape constants for HTML if it could ask for them before rendering.
@pass_eval_context
def _finalize(context: object, value: object) -> Markup:
    return quote(value)


class Memory(Protocol):
    """What outlives this process: bytes by name. It may hold less than it was given."""

    def recall(self, name: str) -> bytes | None: ...

    def remember(self, name: str, body: bytes) -> None: ...


class Compiled(BytecodeCache):
    """What templates were compiled to, by name and file, as long as their text is the same.

    For environments alike: what an extension adds to a template would be found by the others.
    memory: of what this file compiles; None: what other processes compiled is not known.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory
        self._code: dict[str, tuple[str, CodeType | None]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Gives a template its code, if there is one of its text."""
        if bucket.key not in self._code and self._memory is not None:
            known = self._memory.recall(bucket.key)
            if known is not None:
                bucket.bytecode_from_string(known)
                self._code[bucket.key] = (bucket.checksum, bucket.code)
        text, code = self._code.get(bucket.key, ("", None))
        bucket.code = code if text == bucket.checksum else None

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keeps a template's code, instead of that of another text."""
        self._code[bucket.key] = (bucket.checksum, bucket.code)
        if self._memory is not None:
            self._memory.remember(bucket.key, bucket.bytecode_to_string())


def sandbox(load: Load, compiled: Compiled | None = None) -> Environment:
    """Where templates run: what it holds is found by `load`. compiled: what it need not compile."""
    environment = _Sandbox(
        loader=_Loader(load),
        bytecode_cache=compiled,
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    environment.filters["safe"] = lambda value: Markup(value)
    # A piece of script as one word, for `bash -c`.
    environment.filters["shell"] = lambda value: Markup(shlex.quote(str(quote(value))))
    environment.filters["toml"] = _toml
    return environment


def _toml(value: object) -> str:
    """A text as TOML has it, for a container engine that would put variables in place of $NAME."""
    text = json.dumps(str(value), ensure_ascii=False)
    return text.replace("$", "$$").replace("\x7f", "\\u007f")


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
        if "\r" in text:
            line = text[: text.index("\r")].count("\n") + 1
            raise TemplateSyntaxError("the template has DOS line ends", line, template, file)
        return text, file, lambda: True


def problem_of(error: Exception) -> errors.Problem:
    """What a template ended in, at its line."""
    file, line = _place(error)
    if isinstance(error, errors.TemplateError):
        told = error.problems[0]
        return told if told.file else told._replace(file=file, line=line)
    if isinstance(error, TemplateNotFound):
        name = str(error.message)
        message = f"there is no template {name!r}"
        if name.startswith(PARENT):
            message = f"it replaces no other {name.rpartition(PARENT)[2]!r} that it could extend"
        return errors.Problem(message, "", file, line)
    if isinstance(error, RecursionError):
        hint = f"an override extends the template that it replaces as '{PARENT}NAME'"
        return errors.Problem("the templates include each other without end", hint, file)
    if isinstance(error, TemplateSyntaxError):
        hint = ""
        if "No filter named" in str(error.message):
            hint = f"filters are {', '.join((*FILTERS, 'safe', 'shell', 'toml'))}"
        return errors.Problem(str(error.message), hint, error.filename or "", error.lineno)
    return errors.Problem(f"the template fails: {error}", "", file, line)


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
