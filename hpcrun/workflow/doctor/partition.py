"""A target's partition: whether it is there, takes this user's jobs, and gives what is told."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from datetime import timedelta

from hpcrun.config import parse_time
from hpcrun.directives import format_time
from hpcrun.scheduler.inventory import Partition
from hpcrun.site import Target
from hpcrun.workflow.doctor.account import Person
from hpcrun.workflow.finding import Finding

MEND = "mend the site file"


def partition(
    site: str, name: str, target: Target, partitions: Sequence[Partition], person: Person
) -> Iterator[Finding]:
    """The findings on the partition of a target, or on each of several."""
    known = {one.name: one for one in partitions}
    wanted = target.partition or next((one.name for one in partitions if one.is_default), None)
    if wanted is None:
        message = f"{site}/{name} names none, and Slurm has no default"
        yield Finding("error", "partition", message, f"name one of {', '.join(known)}")
        return
    for each in wanted.split(","):
        if each in known:
            yield from _of_partition(known[each], person)
            yield from limits(f"targets.{name}", target, known[each])
        else:
            near = difflib.get_close_matches(each, known, 1)
            cure = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            yield Finding("error", "partition", f"there is no partition {each}", cure)


def _of_partition(one: Partition, person: Person) -> Iterator[Finding]:
    used = person.account or (person.accounts[0] if person.accounts else None)
    cure = "choose another target"
    if one.state == "DOWN":
        message = f"{one.name} is down: it takes jobs, and starts none"
        yield Finding("warning", "partition", message, cure)
    elif one.state != "UP":
        message = f"{one.name} takes no jobs now: its state is {one.state}"
        yield Finding("error", "partition", message, cure)
    elif one.is_for_root:
        yield Finding("error", "partition", f"{one.name} takes jobs of root alone", cure)
    elif one.groups and not set(one.groups) & set(person.groups):
        message = f"{one.name} is for the groups {', '.join(one.groups)}, and you are in none"
        yield Finding("error", "partition", message, cure)
    elif used is not None and one.accounts and used not in one.accounts:
        message = f"{one.name} is for the accounts {', '.join(one.accounts)}, not for {used}"
        yield Finding("error", "partition", message, f"another account, or {cure}")
    elif used is not None and used in one.denied_accounts:
        message = f"{one.name} does not take account {used}"
        yield Finding("error", "partition", message, f"another account, or {cure}")
    else:
        yield Finding("ok", "partition", f"{one.name} is up and open to you")


def limits(key: str, target: Target, one: Partition) -> Iterator[Finding]:
    """Whether the partition gives what the target says. key: the target's, in its site file."""
    found = [*_times(key, target, one), *_nodes(key, target, one)]
    if not found:
        nodes = _most_nodes(one)
        told = f"{one.name} gives {one.time_max or 'any time'} and {nodes or 'any'} nodes"
        found = [Finding("ok", "limits", told)]
    yield from found


def _times(key: str, target: Target, one: Partition) -> Iterator[Finding]:
    if one.time_max is None:
        return
    most, silent = parse_time(one.time_max), _time(target.time.default)
    given = f"{one.name} gives at most {format_time(most)}"
    if silent is not None and silent > most:
        message = f"a run that names no time asks for {format_time(silent)}, and {given}"
        yield Finding("error", f"{key}.time.default", message, MEND)
    told = [target.time.max, *(rule.max for rule in target.time.rules)]
    longest = max((time for text in told if (time := _time(text)) is not None), default=None)
    if longest is not None and longest > most:
        message = f"runs may ask for {format_time(longest)}, and {given}"
        yield Finding("warning", f"{key}.time.max", message, MEND)


def _nodes(key: str, target: Target, one: Partition) -> Iterator[Finding]:
    most, told = _most_nodes(one), target.nodes
    if most is not None and told.min > most:
        message = f"runs ask for at least {told.min} nodes, and {one.name} gives at most {most}"
        yield Finding("error", f"{key}.nodes.min", message, MEND)
    elif most is not None and told.max is not None and told.max > most:
        message = f"runs may ask for {told.max} nodes, and {one.name} gives at most {most}"
        yield Finding("warning", f"{key}.nodes.max", message, MEND)
    if told.max is not None and told.max < one.nodes_min:
        message = f"runs ask for at most {told.max} nodes, and {one.name} wants {one.nodes_min}"
        yield Finding("error", f"{key}.nodes.max", message, MEND)


def _most_nodes(one: Partition) -> int | None:
    return min(filter(None, (one.nodes_max, one.size)), default=None)


def _time(text: str | None) -> timedelta | None:
    return None if text is None else parse_time(text)
