"""Node lists, expanded as the real Slurm does."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcrun.scheduler.hostlist import expand
from tests.cluster import Cluster

pytestmark = pytest.mark.cluster


numbers = st.lists(st.integers(0, 300), min_size=1, max_size=4, unique=True)
ranges = st.builds(
    lambda start, length, width: f"{start:0{width}d}-{start + length:0{width}d}",
    st.integers(0, 99),
    st.integers(0, 12),
    st.integers(1, 4),
)
brackets = st.lists(st.one_of(ranges, st.integers(0, 300).map(str)), min_size=1, max_size=3).map(
    lambda parts: f"[{','.join(parts)}]"
)
prefixes = st.text("abcn-", min_size=1, max_size=4).filter(lambda text: not text.startswith("-"))
hosts = st.one_of(
    prefixes,
    st.builds("{}{}".format, prefixes, st.integers(0, 99)),
    st.builds("{}{}".format, prefixes, brackets),
    st.builds("{}{}{}{}".format, prefixes, brackets, prefixes, brackets),
)


@settings(
    max_examples=60,
    suppress_health_check=[
        *settings.default.suppress_health_check,
        HealthCheck.function_scoped_fixture,
    ],
)
@given(st.lists(hosts, min_size=1, max_size=4).map(",".join))
def test_node_lists_are_expanded_as_slurm_does(cluster: Cluster, text: str) -> None:
    said = cluster.run("alice", ["scontrol", "show", "hostnames", text])
    assert list(expand(text)) == said.stdout.split(), said.stderr


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True), st.integers(1, 3))
@settings(
    max_examples=30,
    suppress_health_check=[
        *settings.default.suppress_health_check,
        HealthCheck.function_scoped_fixture,
    ],
)
def test_what_slurm_folds_is_unfolded(cluster: Cluster, numbers: list[int], width: int) -> None:
    names = [f"r{number % 3}n{number:0{width}d}" for number in numbers]
    folded = cluster.run("alice", ["scontrol", "show", "hostlist", ",".join(names)]).stdout.strip()
    assert sorted(expand(folded)) == sorted(names)
