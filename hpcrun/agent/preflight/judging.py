"""What is wrong with what the tasks of a preflight saw. Pure; standard library (Python 3.8+)."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence

from hpcrun.agent.policy import Preflight
from hpcrun.agent.preflight.sight import Sight

ROOM = 64 << 20
"""Bytes that must be free."""

CLOCKS = 5.0
"""Seconds by which clocks may differ."""

NAMED = 3
"""How many nodes are named."""


class Told(NamedTuple):
    """A task's sight, and when it came, by the first node's clock."""

    sight: Sight
    came: float


class Launched(NamedTuple):
    """How the tasks were launched. launcher: its name. mpi_type: srun's --mpi, empty if none is
    given. nodes: all of them. address, port: of the master. begun: when, by the first node's clock.
    status: the launcher's; None: it was not waited for any longer."""

    launcher: str
    mpi_type: str
    nodes: Sequence[str]
    address: str
    port: int
    begun: float
    status: Any


def judge(wanted: Preflight, launched: Launched, told: Sequence[Told]) -> List[str]:
    """What is wrong, in sentences that name the node and the cure, the root of it first."""
    sights = sorted((one.sight for one in told), key=lambda sight: sight.rank)
    if not sights:
        return [_silent(launched)]
    world = list(_world(wanted, launched, sights))
    rest = [*_name(launched, sights), *_ports(sights), *_gpus(wanted, sights), *_rooms(sights)]
    return [*world, *rest, *_clocks(launched, told)]


def _silent(launched: Launched) -> str:
    how = "did not end in time" if launched.status is None else _ended(launched.status)
    cure = _FITTING if launched.mpi_type else _leave_out(())
    return f"no rank began: {launched.launcher} {how}{_typed(launched)}; {cure}"


_FITTING = "`srun --mpi=list` names the types, `launch.mpi.type` of the site file chooses"


def _ended(status: int) -> str:
    return f"ended with exit code {status}"


def _typed(launched: Launched) -> str:
    return f" (--mpi={launched.mpi_type})" if launched.mpi_type else ""


def _world(wanted: Preflight, launched: Launched, sights: Sequence[Sight]) -> Iterator[str]:
    fits = "does its MPI type fit? " + _FITTING
    by = f"{launched.launcher}{_typed(launched)}"
    alone = [sight for sight in sights if sight.size != wanted.tasks]
    ranks: Dict[int, str] = {}
    for sight in sights:
        if sight.rank in ranks and not alone:
            yield (
                f"{by} gives rank {sight.rank} to processes on {ranks[sight.rank]} and"
                f" {sight.host}; {fits}"
            )
            return
        ranks[sight.rank] = sight.host
    if alone:
        one = alone[0]
        yield (
            f"{by} makes a process on {one.host} rank {one.rank} of {one.size}, and"
            f" {wanted.tasks} are one world; {fits}"
        )
        return
    if len(sights) < wanted.tasks:
        hosts = {_short(sight.host) for sight in sights}
        silent = [node for node in launched.nodes if _short(node) not in hosts]
        where = f"none on {_names(silent)} did" if silent else f"rank {_first_gap(ranks)} did not"
        yield (
            f"{len(sights)} of {wanted.tasks} processes began, and {where}; {_leave_out(silent)}"
        )
    yield from _mpi(wanted, by, sights)


def _mpi(wanted: Preflight, by: str, sights: Sequence[Sight]) -> Iterator[str]:
    if wanted.python is None:
        return
    fits = "another MPI type may fit: " + _FITTING
    for sight in sights:
        if sight.pmi is not None and sight.pmi != sight.rank:
            yield f"{by} numbers rank {sight.rank} on {sight.host} {sight.pmi} for MPI; {fits}"
            return
    for sight in sights:
        if isinstance(sight.mpi, str):
            yield f"MPI cannot begin by {by} on {sight.host}: {sight.mpi}; {fits}"
            return
        if sight.mpi is not None and sight.mpi != wanted.tasks:
            yield (
                f"started by {by}, MPI on {sight.host} has a world of {sight.mpi}, not of"
                f" {wanted.tasks}; {fits}"
            )
            return


def _name(launched: Launched, sights: Sequence[Sight]) -> Iterator[str]:
    """The master's name, as each node resolves it; and whether its port can be reached."""
    hosts_file = "staff can give it its address there (/etc/hosts, DNS)"
    unknown = _hosts(sight for sight in sights if not sight.addresses)
    if unknown:
        yield f"{_names(unknown)} cannot resolve {launched.address}; {hosts_file}"
    lost = [sight for sight in sights if sight.addresses and not any(map(_routes, sight.addresses))]
    if lost:
        address = lost[0].addresses[0]
        yield (
            f"{launched.address} is {address} on {_names(_hosts(lost))}, which reaches no other"
            f" node; {hosts_file}"
        )
        return
    deaf = [sight for sight in sights if sight.unreached]
    if deaf:
        there, hosts = deaf[0].addresses, _hosts(deaf)
        elsewhere = {one for s in sights if s.host not in hosts for one in s.addresses}
        is_other = bool(elsewhere) and not elsewhere.intersection(there)
        cure = hosts_file if is_other else "a firewall between nodes must let it pass"
        yield (
            f"{_names(hosts)} cannot reach port {launched.port} of {launched.address}"
            f" ({', '.join(there)}): {deaf[0].unreached}; {cure}"
        )


def taken(port: int, node: str, which: str) -> str:
    """That another program has a port. which: what for the run needs it."""
    return (
        f"port {port} of {node}, which is {which}, is taken by another program; `hpcrun resubmit`"
        " begins with another port"
    )


def _ports(sights: Sequence[Sight]) -> Iterator[str]:
    for sight in sights:
        for port in sight.taken:
            yield taken(port, sight.host, "in TF_CONFIG")


def _routes(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return not (found.is_loopback or found.is_link_local or found.is_unspecified)


def _gpus(wanted: Preflight, sights: Sequence[Sight]) -> Iterator[str]:
    if not wanted.gpus:
        return
    by_host: Dict[str, List[int]] = {}
    for sight in sights:
        by_host.setdefault(sight.host, []).append(sight.gpus)
    blind = [host for host, counts in by_host.items() if not all(counts)]
    if blind:
        ranks = "a rank" if any(by_host[blind[0]]) else "no rank"
        sees = "sees no GPU" if ranks == "a rank" else "sees a GPU"
        yield (
            f"on {_names(blind)} {ranks} {sees}, and {wanted.gpus} on each node were asked for;"
            f" {_leave_out(blind)}"
        )
        return
    few = {host: max(sum(counts), *counts) for host, counts in by_host.items()}
    short = [host for host, count in few.items() if count < wanted.gpus]
    if short:
        yield (
            f"the ranks on {_names(short)} see {few[short[0]]} GPUs, and {wanted.gpus} on each node"
            f" were asked for; {_leave_out(short)}"
        )


def _rooms(sights: Sequence[Sight]) -> Iterator[str]:
    told: Dict[str, None] = {}
    for sight in sights:
        for folder, room in sight.rooms.items():
            if isinstance(room, str):
                told[
                    f"{folder} on {sight.host} cannot be used: {room}; {_leave_out([sight.host])}"
                ] = None
            elif room < ROOM:
                told[
                    f"{folder} on {sight.host} has {room >> 20} MiB left, and {ROOM >> 20} MiB are"
                    " needed; make room there, or choose another `working_directory`"
                ] = None
    yield from told


def _clocks(launched: Launched, told: Sequence[Told]) -> Iterator[str]:
    """A task's clock must stand between the beginning and the moment its words came."""
    off: Dict[str, float] = {}
    for sight, came in told:
        ahead = max(sight.time - came, 0.0) or min(sight.time - launched.begun, 0.0)
        if abs(ahead) > CLOCKS:
            off[sight.host] = ahead
    if off:
        ahead = next(iter(off.values()))
        side = "ahead of" if ahead > 0 else "behind"
        yield (
            f"the clock of {_names(list(off))} is {abs(ahead):.0f} s {side} that of"
            f" {launched.nodes[0]}; staff can set it (chrony, ntp)"
        )


def _leave_out(nodes: Sequence[str]) -> str:
    """The cure where a node is at fault."""
    if not nodes:
        return "its words stand in the batch log"
    return f'tell the staff, and go round it: `sbatch: {{exclude: "{",".join(nodes)}"}}`'


def _hosts(sights: Any) -> List[str]:
    return list(dict.fromkeys(sight.host for sight in sights))


def _names(nodes: Sequence[str]) -> str:
    shown = ", ".join(nodes[:NAMED])
    return f"{shown} and {len(nodes) - NAMED} more" if len(nodes) > NAMED else shown


def _short(host: str) -> str:
    return host.partition(".")[0]


def _first_gap(ranks: Mapping[int, str]) -> int:
    return next(number for number in range(len(ranks) + 1) if number not in ranks)
