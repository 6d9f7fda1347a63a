"""Hides what looks like a secret, or names a person, in a value that is shown to others.

Rather too much is hidden than too little. What cannot be known by its look or by the name that
stands before it is not hidden: who sends a report reads it first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

HIDDEN = "…"

_NAME = r"(?:token|key|secret|passw|passphrase|pwd|credential|auth|signature)"
_NAMED = re.compile(_NAME, re.IGNORECASE)
_VALUE = rf"(?!{HIDDEN})(?:'[^']*'|\"[^\"]*\"|[^\s,;&'\"]+)"


class Rule(NamedTuple):
    """What is hidden, and how it looks. A group `head` stays."""

    what: str
    pattern: re.Pattern[str]


def _rule(what: str, pattern: str, flags: re.RegexFlag = re.NOFLAG) -> Rule:
    return Rule(what, re.compile(pattern, flags))


RULES = (
    _rule(
        "private key",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?"
        r"(-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|\Z)",
        re.DOTALL,
    ),
    _rule("credentials in an address", r"(?P<head>\b[A-Za-z][\w+.-]*://)[^\s/?#'\"]+(?=@)"),
    _rule(
        "authorization",
        r"(?P<head>\bauthorization['\"]?\s*[:=]\s*['\"]?((basic|bearer|digest|token)\s+)?)"
        rf"(?!{HIDDEN})[^\s'\"]+",
        re.IGNORECASE,
    ),
    _rule("authorization", r"(?P<head>\bbearer\s+)[\w.~+/=-]{6,}", re.IGNORECASE),
    _rule("JSON web token", r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
    _rule("token of GitHub", r"\b(gh[pousr]_\w{16,}|github_pat_\w{16,})"),
    _rule("token of GitLab", r"\bglpat-[\w-]{16,}"),
    _rule("token of Hugging Face", r"\b(hf|api_org)_[A-Za-z0-9]{16,}"),
    _rule("key of AWS", r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    _rule("key of Google", r"\b(AIza[\w-]{35}|ya29\.[\w-]{16,})"),
    _rule("token of Slack", r"\bxox[a-z]-[\w-]{10,}"),
    _rule("token of PyPI", r"\bpypi-[\w-]{16,}"),
    _rule("key of a model's service", r"\bsk-[\w-]{16,}"),
    _rule("key of Weights & Biases", r"\b([0-9a-f]{40}|wandb_v\d_\w{16,})\b"),
    _rule(
        "word behind a flag",
        rf"(?P<head>(?<!\w)--?[\w-]*{_NAME}[\w-]*(=|\s+|['\"],\s+)){_VALUE}",
        re.IGNORECASE,
    ),
    _rule("address of a person", rf"(?P<head>--mail-user=)(?!{HIDDEN})\S+"),
    _rule("named value", rf"(?P<head>[\w.-]*{_NAME}[\w.-]*['\"]?\s*=\s*){_VALUE}", re.IGNORECASE),
    # `KeyError: 'lr'` says what went wrong.
    _rule("named value", rf"(?P<head>{_NAME}(ord|wd|s)?['\"]?\s*:\s+){_VALUE}", re.IGNORECASE),
)
"""In this order: what one rule has hidden is left alone by the next."""

_COMMIT = "git.commit"
"""Properties of that name hold 40 hex digits, as a key of Weights & Biases does."""

_ASSIGNMENT = re.compile(
    r"^(?P<head>(?:export )?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=)(?:'[^']*'|\"'\"|[^'\s])+",
    re.MULTILINE,
)
"""A variable of the script with its one quoted word, which may go over several lines."""

_PLAIN = frozenset(
    {
        "agent",
        "claim",
        "command",
        "step",
        "torchrun",
        "late",
        "status",
        "PATH",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
    }
)
"""Variables of the script that are hpcrun's own."""


class Scrubber:
    """Scrubs values, and counts what it hid.

    words: names of people and places, and what stands for each. hidden: what was hidden, and how
    often.
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self.words = words
        self.hidden: Counter[str] = Counter()

    def scrub(self, value: Any) -> Any:
        """The value without secrets; the shape stays."""
        if isinstance(value, dict):
            return {self.text(str(key)): self._item(str(key), value[key]) for key in value}
        if isinstance(value, (list, tuple)):
            return self._list([self.scrub(item) for item in value])
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """A text without secrets."""
        for word, instead in self.words.items():
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", instead, text)
        for what, pattern in RULES:
            text = pattern.sub(partial(self._hide, what), text)
        return text

    def choices(self, choices: object) -> list[list[str]]:
        """The resolved values, without those of variables and of what has a secret's name."""
        rows = choices if isinstance(choices, (list, tuple)) else ()
        told = [[str(cell) for cell in row] for row in rows if isinstance(row, (list, tuple))]
        return [
            [row[0], self._hide(what) if (what := _what(row[0])) else row[1], row[2]]
            for row in told
            if len(row) == 3
        ]

    def script(self, text: str) -> str:
        """The script without the values of the user's variables."""

        def hidden(found: re.Match[str]) -> str:
            name = found["name"]
            own = name.startswith("HPCRUN_") or name in _PLAIN
            return found[0] if own else self._hide("variable", found)

        return self.text(_ASSIGNMENT.sub(hidden, text))

    def _item(self, key: str, value: Any) -> Any:
        if isinstance(value, str) and _NAMED.search(key):
            return self._hide("named value")
        return value if key.endswith(_COMMIT) else self.scrub(value)

    def _list(self, items: list[Any]) -> list[Any]:
        """A list in which the word behind a flag such as `--api-key` is hidden."""
        flags = [_is_secret_flag(item) for item in items]
        return [
            self._hide("word behind a flag") if behind and isinstance(item, str) else item
            for behind, item in zip([False, *flags], items, strict=False)
        ]

    def _hide(self, what: str, found: re.Match[str] | None = None) -> str:
        self.hidden[what] += 1
        return (found.groupdict().get("head", "") if found else "") + HIDDEN


def _what(name: str) -> str:
    """What a choice of that name is, if it is hidden."""
    if name.startswith("variable "):
        return "variable"
    if name == "mail to":
        return "address of a person"
    return "named value" if _NAMED.search(name) else ""


def _is_secret_flag(item: Any) -> bool:
    is_flag = isinstance(item, str) and item.startswith("-") and "=" not in item
    return is_flag and _NAMED.search(item) is not None
