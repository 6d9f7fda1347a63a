"""Values in scripts: each is one word of bash, and none changes the shape of its script."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.config import RunConfiguration
from hpcrun.errors import TemplateError
from hpcrun.templating import joined, quote, sandbox
from tests.make_plan import plan, script
from tests.nasty import texts, words


@given(words, texts, texts)
@settings(max_examples=60)
def test_no_value_changes_the_shape_of_a_script(word: str, name: str, text: str) -> None:
    def shape(word: str, name: str, text: str, key: str) -> tuple[str, ...]:
        config = RunConfiguration(script="train.py", arguments=[word])
        config.environment_variables = {"VALUE": word}
        config.display_name, config.description = name, text
        config.tags = {name: text}
        config.secrets = {"KEY": key}
        made = plan(config)
        made = replace(made, workspace="/lab/history")
        lines = script(made).split("\n")
        return tuple(line.split("=")[0].split(" ")[0] for line in lines)

    assert shape(word, name, text, f"/keys/{word}") == shape("word", "name", "text", "/keys/key")


@given(texts, texts)
@settings(max_examples=30)
def test_what_is_for_people_is_not_in_the_script(name: str, text: str) -> None:
    config = RunConfiguration(script="train.py")
    before = script(plan(config))
    config.display_name, config.description, config.tags = name, text, {name: text}
    assert script(plan(config)) == before


@given(st.lists(words, max_size=6))
@settings(max_examples=50)
def test_quoted_words_are_what_bash_reads(given_words: list[str]) -> None:
    line = f"printf '%s\\0' - {quote(given_words)}"
    assert "\n" not in line and "\r" not in line
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[1:-1] == [os.fsencode(word) for word in given_words]


def test_ordinary_words_stay_readable() -> None:
    assert quote(["train.py", "--lr", "1e-3", "a b", "日本"]) == "train.py --lr 1e-3 'a b' '日本'"
    assert quote("a\nb\t'\\\x7f\u00a0\udcff") == r"$'a\nb\t\'\\\x7f\xc2\xa0\xff'"
    assert quote(["x", 1, 1.5, True]) == "x 1 1.5 true"


@pytest.mark.parametrize("value", ["a\0b", "\ud800", None, {"a": 1}])
def test_what_no_program_can_be_given_is_refused(value: object) -> None:
    with pytest.raises(TemplateError):
        quote(value)


def test_pieces_of_script_are_joined_by_quoting() -> None:
    assert joined((quote("a b"), "; id", 1)) == "'a b''; id'1"
    assert joined(("a", "b")) == "ab"


@given(words)
@settings(max_examples=25)
def test_no_way_of_writing_a_value_leaves_it_unquoted(word: str) -> None:
    ways = (
        "{{ v }}",
        "{{ v ~ '' }}",
        "{{ '' ~ v }}",
        "{% set e %}{% endset %}{{ e ~ v }}",
        "{% set e %}{% endset %}{{ e + v }}",
        "{{ v + '' }}",
        "{{ v | default('x') }}",
        "{% set x %}{{ v }}{% endset %}{{ x }}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(v) }}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ '' ~ m(v) }}",
        "{{ [v] }}",
        "{{ '%s' % v }}",
        "{{ '{}'.format(v) }}",
        "{% autoescape false %}{{ v }}{% endautoescape %}",
        "{% for x in [v] %}{{ x }}{% endfor %}",
    )
    for way in ways:
        text = sandbox(lambda name, way=way: (way, "t.j2")).get_template("t").render(v=word)  # type: ignore[misc]
        line = f"printf '%s\\0' {text}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
        assert done.stdout == os.fsencode(word) + b"\0", (way, text)
