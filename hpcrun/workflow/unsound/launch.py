"""What is wrong with how commands are launched, and with their variables and containers."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.reading import Finding
from hpcrun.site import LaunchRules, SiteConfig
from hpcrun.variables import NAME
from hpcrun.workflow.unsound.values import names

_LARGEST = 65535


def launch(site: SiteConfig) -> Iterator[Finding]:
    """Variables, words of srun, and where the first process is reached."""
    rules = site.launch
    for key, variables in (
        ("launch.env", rules.env),
        ("launch.gpu_env", rules.gpu_env),
        ("launch.single_node_env", rules.single_node_env),
        ("launch.multi_node_env", rules.multi_node_env),
        ("launch.mpi.env", rules.mpi.env),
        *((f"containers.runtimes.{n}.env", r.env) for n, r in site.containers.runtimes.items()),
        *(
            (f"environments.{n}.environment_variables", one.environment_variables)
            for n, one in site.environments.items()
        ),
    ):
        yield from names(key, variables)
    yield from names("launch.unset", rules.unset)
    for number, word in enumerate(rules.srun_args):
        if not word.startswith("-"):
            yield Finding(f"launch.srun_args[{number}]", f"{word!r} is no flag of srun")
    for count in rules.cpu_binds:
        if not count.isdecimal() or int(count) < 1:
            told = f"{count!r} is no number of processes on a node"
            yield Finding(f"launch.cpu_binds.{count}", told, "1 or more")
    for name, runtime in site.containers.runtimes.items():
        for number, bind in enumerate(runtime.binds):
            if not bind.startswith("/"):
                key = f"containers.runtimes.{name}.binds[{number}]"
                yield Finding(key, f"{bind!r} is no whole path", "/PATH, or /PATH:/PLACE:ro")
        if runtime.image_root is not None and not runtime.image_root.startswith(("/", "$")):
            key = f"containers.runtimes.{name}.image_root"
            yield Finding(key, f"{runtime.image_root!r} is no whole path")
    yield from _masters(rules)


def _masters(rules: LaunchRules) -> Iterator[Finding]:
    """What is wrong with where the first process is reached."""
    address, port = rules.master_address, rules.master_port
    if address.variable is not None and (address.suffix or address.resolve is not None):
        told = "its variable tells the whole of it: no suffix is written, nothing is resolved"
        yield Finding("launch.master_address", told, "leave out suffix and resolve")
    ranged = "range" if port.first is not None or port.last is not None else None
    told_by = {"number": port.number, "variable": port.variable, "command": port.command}
    given = [name for name, value in {**told_by, "range": ranged}.items() if value is not None]
    if len(given) > 1:
        told = f"a port is told by {' and by '.join(given)}"
        yield Finding("launch.master_port", told, "leave one of them")
    for key, number in (("number", port.number), ("first", port.first), ("last", port.last)):
        if number is not None and not 0 < number <= _LARGEST:
            yield Finding(f"launch.master_port.{key}", f"{number} is no port", f"1 to {_LARGEST}")
    if (port.first is None) != (port.last is None):
        missing = "last" if port.last is None else "first"
        yield Finding("launch.master_port", f"a range of ports has no {missing}", f"add {missing}")
    elif port.first is not None and port.last is not None and port.first > port.last:
        told = f"the ports from {port.first} to {port.last} are none: the range is upside down"
        yield Finding("launch.master_port.first", told, f"first: {port.last}, last: {port.first}")
    named = {"master_address": address.variable, "master_port": port.variable}
    for key, variable in named.items():
        if variable is not None and not NAME.match(variable):
            told = f"{variable!r} is no name for a variable"
            yield Finding(f"launch.{key}.variable", told)
