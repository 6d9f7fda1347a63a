"""Names of targets and experiments, and ids of runs."""

from __future__ import annotations

import pytest

from hpcrun.config import RunConfiguration
from hpcrun.names import experiment_name, new_run_id, refusal_of_id, split_target


@pytest.mark.parametrize(
    ("name", "expected"),
    [(None, ("local", None)), ("", ("local", None)), ("lab", ("lab", None)), ("a/b", ("a", "b"))],
)
def test_targets_are_a_site_and_a_name(name: str | None, expected: tuple[str, str | None]) -> None:
    assert split_target(name) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/home/ada/my project!", "my-project"),
        ("/home/ada/日本", "experiment"),
        ("/", "experiment"),
        ("/x/" + "a" * 99, "a" * 64),
        ("/x/-a_", "a"),
    ],
)
def test_an_experiment_is_named_after_its_folder(source: str, expected: str) -> None:
    assert experiment_name(RunConfiguration(), source) == expected
    assert refusal_of_id(new_run_id(expected, 1700000000, "0123abcd"), expected) is None


@pytest.mark.parametrize(
    "run_id",
    [
        "digits",
        "../../x_1700000000_0123abcd",
        "a b_1700000000_0123abcd",
        "digits_1700000000_0123ABCD",
        "other_1700000000_0123abcd",
        "digits_1700000000_0123abcd\n",
        "a\ndigits_1700000000_0123abcd",
    ],
)
def test_ids_by_hand_that_are_none_are_refused(run_id: str) -> None:
    assert refusal_of_id(run_id, "digits") is not None
