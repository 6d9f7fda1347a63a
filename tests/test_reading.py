"""YAML to typed values: every problem at once with its place, every scalar as it is written."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hpcrun.errors import ConfigError, Problem, SiteError
from hpcrun.reading import Origin, nearest, read_partly, read_plain
from tests.things import Cat, Dog, House, Thing, problem, problems, read


@dataclass
class Strict:
    id: str
    inner: Thing | None = None


# -- scalars ------------------------------------------------------------------------------------

ODD_SCALARS = [
    *("1e-3", "007", "true", "True", "yes", "on", "12:00:00", "0x10", "1_000", "+5", ".5", "-"),
    *("2001-12-14", "=", "~", "null", "None", ".inf", "1.10", "0o17", "-0", "*.py", "<<", "No"),
]


@pytest.mark.parametrize("scalar", [s for s in ODD_SCALARS if s not in ("*.py", "-")])
def test_a_text_is_the_scalar_as_it_is_written(scalar: str) -> None:
    value = read(f"words: [{scalar}]\nnames: {{a: {scalar}}}\n")
    assert (value.words, value.names) == ([scalar], {"a": scalar})


@pytest.mark.parametrize("scalar", ODD_SCALARS)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quoted_scalar_is_the_text_between_the_quotes(scalar: str, quote: str) -> None:
    assert read(f"text: {quote}{scalar}{quote}\n").text == scalar


characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
texts = st.one_of(st.text(characters, max_size=12), st.sampled_from(ODD_SCALARS))


@given(st.lists(texts, max_size=6))
def test_words_in_double_quotes_arrive_unchanged(words: list[str]) -> None:
    assert read("words: " + json.dumps(words)).words == words


@given(st.lists(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")))))
def test_words_in_single_quotes_arrive_unchanged(words: list[str]) -> None:
    quoted = ["'" + word.replace("'", "''") + "'" for word in words]
    assert read(f"words: [{', '.join(quoted)}]").words == words


@given(
    # ruamel writes [?a] and cannot read it: its scanner takes ? in brackets for a key's mark.
    st.lists(
        st.text(st.sampled_from(string.printable + "äß漢😀é"), max_size=12).filter(
            lambda word: not word.startswith("?")
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_words_that_ruamel_dumps_arrive_unchanged(words: list[str], flow: bool) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = flow, 1 << 20  # it breaks lines after \r wrongly
    out = StringIO()
    yaml.dump({"words": words, "text": "".join(words)}, out)
    value = read(out.getvalue())
    assert (value.words, value.text) == (words, "".join(words))


def test_json_escapes_of_one_character_are_joined() -> None:
    assert read('text: "\\ud83d\\ude00"').text == "😀"


def test_half_a_character_is_refused() -> None:
    assert problem('text: "\\ud83d"') == "f.yaml:1: `text` holds half a character: '\\ud83d'"


def test_a_nul_character_is_refused() -> None:
    assert "holds a NUL character" in problem('words: ["a\\0b"]')


@pytest.mark.parametrize("item", ["", "''", "null", "~"])
def test_in_a_list_of_texts_only_an_unwritten_item_is_empty(item: str) -> None:
    text = f"words:\n- a\n- {item}\n- b\n"
    if item:
        assert read(text).words == ["a", item.strip("'"), "b"]
    else:
        assert problem(text) == "f.yaml:3: `words[1]` is empty (write '' for an empty text)"


@pytest.mark.parametrize("null", ["", "null", "~"])
def test_null_means_not_given_where_there_is_a_default(null: str) -> None:
    names = ("words", "pair", "names", "count", "on", "text", "level", "pet", "house", "place")
    assert read("".join(f"{name}: {null}\n" for name in names)) == Thing()
    assert read(f"flags: {{x: {null}}}").flags == {"x": None}


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null\n", "\ufeff", "{}\n"])
def test_a_file_without_values_is_the_default(text: str) -> None:
    assert read(text) == Thing()
    assert read(text, "count=3") == Thing(count=3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("count: 007", Thing(count=7)),
        ("count: -3", Thing(count=-3)),
        ("count: 0x10", Thing(count=16)),
        ("size: 2", Thing(size=2.0)),
        ("size: 1e-3", Thing(size=0.001)),
        ("on: true", Thing(on=True)),
        ("on: FALSE", Thing(on=False)),
        ("level: high", Thing(level="High")),
    ],
)
def test_numbers_switches_and_choices_are_read(text: str, value: Thing) -> None:
    assert read(text) == value
    assert [type(v) for v in vars(read(text)).values()] == [type(v) for v in vars(value).values()]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("count: two", "`count` must be a whole number, not 'two'"),
        ("count: 2.5", "`count` must be a whole number, not '2.5'"),
        ("count: '2'", "`count` must be a whole number, not '2'"),
        ("count: true", "`count` must be a whole number, not 'true'"),
        ("count: [1]", "`count` must be a whole number, not a list"),
        ("count: " + "9" * 70, None),
        ("on: yes", "`on` must be true or false, not 'yes' (true or false)"),
        ("%YAML 1.1\n---\non: yes", "`on` must be true or false, not 'yes' (true or false)"),
        ("on: 1", "`on` must be true or false, not '1' (true or false)"),
        ("level: lw", "`level` cannot be 'lw' (did you mean `Low`?)"),
        ("level: [Low]", "`level` cannot be a list"),
        ("text: {a: b}", "`text` must be a text, not a mapping"),
        ("words: a", "`words` must be a list, not 'a' ([a, b])"),
        ("words: {a: b}", "`words` must be a list, not a mapping ([a, b])"),
        ("words: [[a]]", "`words[0]` must be a text, not a list"),
        ("names: [a]", "`names` must be a mapping, not a list ({a: b})"),
        ("names: []", "`names` must be a mapping, not a list ({a: b})"),
        ("house: [a]", "`house` must be a mapping, not a list"),
        ("house: red", "`house` must be a mapping, not 'red'"),
        ("line: {a: b}", "`line` must be a list or a text, not a mapping"),
        ("place: [a]", "`place` must be a mapping or a text, not a list"),
        ("pet: cat", "`pet` must be a mapping, not 'cat'"),
        ("pet: {lives: 3}", "`pet` needs a `kind` (one of cat, dog)"),
        ("pet: {kind: cow}", "`pet.kind` cannot be 'cow'"),
        ("pet: {kind: dg}", "`pet.kind` cannot be 'dg' (did you mean `dog`?)"),
        ("pet: {kind: cat, name: x}", "there is no key `pet.name` (known are pet.lives)"),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence(text: str, told: str | None) -> None:
    if told is None:
        assert read(text).count == int("9" * 70)
    else:
        line = text.count("\n") + 1
        assert problem(text).startswith(f"f.yaml:{line}: {told}")


def test_kind_decides_between_dataclasses_in_any_case() -> None:
    assert read("pet: {kind: Cat, lives: 3}").pet == Cat(3)
    assert read("pet: {kind: dog}").pet == Dog()


# -- keys, lines, all problems ------------------------------------------------------------------


def test_all_problems_are_told_at_once_each_at_its_line() -> None:
    text = """\
wrds: [a]
count: two
words:
  - a
  - [b]
house:
  room: 3
  street:
    a: b
count: 3
level: mid
"""
    assert problems(text) == [
        "f.yaml:1: there is no key `wrds` (did you mean `words`?)",
        "f.yaml:2: `count` must be a whole number, not 'two'",
        "f.yaml:5: `words[1]` must be a text, not a list",
        "f.yaml:7: there is no key `house.room` (did you mean `house.rooms`?)",
        "f.yaml:8: `house.street` must be a text, not a mapping",
        "f.yaml:10: `count` is given twice (first on line 2)",
        "f.yaml:11: `level` cannot be 'mid' (known are Low, High)",
    ]


def test_an_unknown_key_is_met_with_the_section_that_has_it() -> None:
    assert problem(
        "street: x"
    ) == "f.yaml:1: there is no key `street` (did you mean `house.street`" + (
        " or `place.street`?)"
    )


def test_an_unknown_key_is_met_with_the_key_that_it_begins() -> None:
    assert nearest("gpus", ["gpus_per_node", "time"]) == "did you mean `gpus_per_node`?"
    assert nearest("zzz", ["gpus_per_node", "time"]) == "known are gpus_per_node, time"
    assert nearest("zzz", []) == ""


def test_a_key_that_a_value_must_have_is_missed() -> None:
    with pytest.raises(SiteError) as raised:
        read_partly(Strict, "\ninner: {}\n", "s.yaml", error=SiteError).sound(SiteError)
    assert str(raised.value) == "s.yaml:2: the key `id` is missing"


def test_a_key_that_must_be_there_cannot_be_empty() -> None:
    with pytest.raises(ConfigError, match="`id` is empty"):
        read_partly(Strict, "id:\n", "s.yaml").sound()


def test_the_whole_file_must_be_a_mapping_and_overrides_do_not_hide_it() -> None:
    told = "f.yaml:1: the file must be a mapping, not a list"
    assert problem("- a\n") == told
    assert problem("- a\n", "count=3") == told
    assert problem("text\n") == "f.yaml:1: the file must be a mapping, not 'text'"


def test_each_value_knows_its_line() -> None:
    text = "words:\n  - a\n  - b\n\nhouse:\n  rooms: 3\nnames: {x: y}\n"
    origins = read_partly(Thing, text, "f.yaml").sound().origins
    lines = {path: origin.line for path, origin in origins.items()}
    assert lines == {
        **{"": 1, "words": 1, "words[0]": 2, "words[1]": 3, "house": 5, "house.rooms": 6},
        **{"names": 7, "names.x": 7},
    }
    assert str(origins["house.rooms"]) == "f.yaml:6"


def test_two_spellings_of_one_key_are_a_problem() -> None:
    with pytest.raises(ConfigError) as raised:
        read_partly(Thing, "count: 1\nCount: 2\n", "f.yaml", rename=str.lower).sound()
    assert str(raised.value) == "f.yaml:2: `Count` is given twice (in two spellings)"


@pytest.mark.parametrize("text", ["a: 1\ntext: x\n? [b]\n: 1\n", "a: 1\ntext: x\n{b: c}: 1\n"])
def test_a_key_that_is_no_word_is_a_problem(text: str) -> None:
    assert problems(text)[1] == "f.yaml:3: a key must be a word"


# -- overrides ----------------------------------------------------------------------------------


def test_an_override_wins_over_the_file() -> None:
    value = read("count: 1\nhouse: {rooms: 2, street: a}", "count=5", "house.rooms=7", "text=x=y")
    assert value == Thing(count=5, house=House(7, "a"), text="x=y")


def test_an_override_makes_the_sections_that_it_needs() -> None:
    assert read("house:\n", "house.rooms=7", "names.a=b") == Thing(house=House(7), names={"a": "b"})


@pytest.mark.parametrize("scalar", [s for s in ODD_SCALARS if s not in ("~", "null")])
def test_an_override_is_a_scalar_as_it_is_written(scalar: str) -> None:
    assert read("", f"text={scalar}").text == scalar
    assert read("", f"names.a={scalar}").names == {"a": scalar}


def test_an_override_in_brackets_is_yaml() -> None:
    assert read("words: [z]", "words=[a, 1e-3, 'b c']").words == ["a", "1e-3", "b c"]
    assert read("", "names={a: 007}").names == {"a": "007"}


@pytest.mark.parametrize("empty", ["", "null"])
def test_an_empty_override_takes_a_value_away(empty: str) -> None:
    assert read("count: 1", f"count={empty}").count is None


def test_an_override_of_two_quotes_is_the_empty_text() -> None:
    assert read("", "names.a=''", 'text=""') == Thing(names={"a": ""}, text="")


def test_problems_of_overrides_are_told_with_those_of_the_file() -> None:
    assert problems("cont: 1", "count=two", "words=[a", "no", "=x", "a..b=1", "house.room=1") == [
        "--set words: not YAML: expected ',' or ']', but got '<stream end>'"
        " (while parsing a flow sequence, from line 1)",
        "f.yaml:1: there is no key `cont` (did you mean `count`?)",
        "--set count: `count` must be a whole number, not 'two'",
        "--set house.room: there is no key `house.room` (did you mean `house.rooms`?)",
        "--set no: not of the form KEY=VALUE (resources.time=2h)",
        "--set =x: not of the form KEY=VALUE (resources.time=2h)",
        "--set a..b=1: not of the form KEY=VALUE (resources.time=2h)",
    ]


def test_an_override_is_the_origin_of_its_value() -> None:
    origins = (
        read_partly(Thing, "count: 1\n", "f.yaml", overrides=["house.rooms=2"]).sound().origins
    )
    assert origins == {
        **{"": Origin("f.yaml", 1), "count": Origin("f.yaml", 1)},
        "house": Origin("--set house.rooms"),
        "house.rooms": Origin("--set house.rooms"),
    }


def test_plain_reading_gives_dicts_lists_and_scalars() -> None:
    assert read_plain("a: [1, x, null]\nb: {c: 1.5}\n", "f") == {
        "a": [1, "x", None],
        "b": {"c": 1.5},
    }
    with pytest.raises(ConfigError) as raised:
        read_plain("a: 1\na: 2\n", "f")
    assert raised.value.problems == (Problem("`a` is given twice", "first on line 1", "f", 2),)
