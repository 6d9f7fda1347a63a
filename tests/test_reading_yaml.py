"""What is no YAML, or more than plain values: syntax, tags, aliases and merge keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.errors import ConfigError
from tests.things import Thing, problem, problems, read


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("count: 1\nwords: [a\ntext: b\n", 3, "expected ',' or ']', but got ':'"),
        ("house:\n\trooms: 3\n", 2, "found character '\\t'"),
        ("count: 1\ntext: a: b\n", 2, "mapping values are not allowed here"),
        ("text: 'a\nb\n", 4, "found unexpected end of stream"),
        ("count: 1\ntext: *x\n", 2, "found undefined alias"),
        ("count: 1\n---\ncount: 2\n", 2, "expected a single document"),
        ("count: 1\ntext: \x07\n", 2, "special characters are not allowed"),
        ("count: 1\ntext: @x\n", 2, "cannot start any token"),
        ("count: 1\n house: 2\n", 2, "mapping values are not allowed here"),
        ('text: "\\q"\n', 1, "unknown escape character"),
        ("%YAML 3.0\n---\na: 1\n", 1, "incompatible YAML document"),
    ],
)
def test_an_error_of_syntax_is_told_alone_with_its_line(text: str, line: int, said: str) -> None:
    (only,) = problems(text + "unknown: 1\n")
    assert only.startswith(f"f.yaml:{line}: not YAML: ") and said in only


def test_an_open_bracket_is_told_with_the_line_where_it_opens() -> None:
    assert problem("count: 1\nwords: [a\n\n\n").endswith(
        "(while parsing a flow sequence, from line 2)"
    )


@pytest.mark.parametrize("text", ['text: "\\UFFFFFFFF"', 'text: "\\U00110000"'])
def test_an_escape_that_is_no_character_is_no_yaml(text: str) -> None:
    assert problem(text).startswith("f.yaml: not YAML: ")


@given(st.text(st.sampled_from("ab:,[]{}\"'&*!%@|>-? \n\t#<~1\\.x\r"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(read(text), Thing)
    except ConfigError as error:
        assert error.problems and all(problem.message for problem in error.problems)


@pytest.mark.parametrize(
    "text",
    [
        "text: !env HOME",
        "house: !foo {rooms: 1}",
        "words: !!set {a}",
        "text: !!python/name:os.x ''",
    ],
)
def test_a_tag_that_has_no_meaning_is_refused(text: str) -> None:
    assert "there is no tag " in problems("\n" + text)[0]
    assert problems("\n" + text)[0].startswith("f.yaml:2: ")


def test_tags_of_yaml_itself_are_read() -> None:
    assert read("text: !!str 5\ncount: !!int '5'\nwords: !!seq [! a]\n") == Thing(
        text="5", count=5, words=["a"]
    )


def test_an_alias_is_the_value_of_its_anchor() -> None:
    assert read("words: &w [a, 1e-3]\npair: *w\n") == Thing(words=["a", "1e-3"], pair=("a", "1e-3"))
    assert read("text: &a x\nwords: [&a y, *a]\n") == Thing(text="x", words=["y", "y"])


def test_a_problem_under_an_alias_is_told_once_for_each_key() -> None:
    text = "house: &h\n  rooms: x\nplace: *h\n"
    assert problems(text) == [
        "f.yaml:2: `house.rooms` must be a whole number, not 'x'",
        "f.yaml:2: `place.rooms` must be a whole number, not 'x'",
    ]
    assert problems("house: &h {rooms: 1, rooms: 2}\nplace: *h\n") == [
        "f.yaml:1: `rooms` is given twice (first on line 1)"
    ]


def test_keys_of_the_mapping_win_over_merged_ones_and_earlier_merged_ones_over_later() -> None:
    text = """\
names: &a {x: 1, y: 1}
flags: &b {x: 2, y: 2, z: 2}
anything:
  one: {<<: *a, x: own}
  two: {<<: [*a, *b], w: own}
  three: {x: own, <<: *b}
"""
    assert read(text).anything == {
        "one": {"x": "own", "y": 1},
        "two": {"x": 1, "y": 1, "z": 2, "w": "own"},
        "three": {"x": "own", "y": 2, "z": 2},
    }


@pytest.mark.parametrize("source", ["5", "[a]", "''", "[{a: b}, c]"])
def test_a_merge_key_takes_only_mappings(source: str) -> None:
    assert problems(f"\nnames:\n  <<: {source}\n")[0].startswith("f.yaml:3: `<<` takes mappings")


@pytest.mark.parametrize(
    "text",
    [
        "anything: &a [*a]",
        "anything: &a {b: *a}",
        "anything: &a [*a, *a, *a]",
        "names: &a\n  <<: *a\n",
        "words: " + "[" * 50 + "]" * 50,
        "words: " + "[" * 600 + "]" * 600,
    ],
)
def test_a_value_without_end_is_refused(text: str) -> None:
    assert "nested more than 40 levels deep" in problem(text)


def test_aliases_that_grow_without_bound_are_refused() -> None:
    text = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20)
    )
    assert "more than 100000 values" in problem(text)
