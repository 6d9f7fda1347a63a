"""What is wrong with how commands are launched, and with their variables and containers."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.reading import Finding, nearest
from hpcrun.site import LaunchRules, SiteConfig
from hpcrun.variables import NAME, removal_refusal
from hpcrun.workflow.unsound.values import heeded, one_word, settable

_LARGEST = 65535

_OWN_FLAGS = ("--nodes", "--ntasks", "--ntasks-per-node", "--cpus-per-task", "-N", "-n", "-c")
"""Flags of srun by which hpcrun says what a run asks for."""


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
        yield from settable(key, variables)
    for number, name in enumerate(rules.unset):
        problem = removal_refusal(name)
        if problem is not None:
            yield Finding(f"launch.unset[{number}]", problem.message, problem.hint)
    for number, word in enumerate(rules.srun_args):
        yield from _flag(f"launch.srun_args[{number}]", word)
    for field in ("cpu_bind", "gpu_bind", "gres_flags"):
        yield from one_word(f"launch.{field}", getattr(rules, field))
    for count, bind in rules.cpu_binds.items():
        yield from one_word(f"launch.cpu_binds.{count}", bind)
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
        yield from heeded(f"containers.runtimes.{name}.image_root", runtime.image_root)
    yield from _modules(site)
    yield from _masters(rules)


def _flag(key: str, word: str) -> Iterator[Finding]:
    """What is wrong with a word for every srun."""
    flag = word.partition("=")[0]
    if not word.startswith("-"):
        yield Finding(key, f"{word!r} is no flag of srun")
    elif len(flag.split()) > 1:
        yield Finding(key, f"{word!r} is several words", "one with =, or each on its own")
    elif flag in _OWN_FLAGS:
        yield Finding(key, f"{flag} is hpcrun's own to write", "leave it out")


def _modules(site: SiteConfig) -> Iterator[Finding]:
    """Modules where there are none, and sets of them that are not there.

    No target can take the sets of its site away: a run that asks for one is refused.
    """
    rules = site.modules
    asking = {f"modules.{name}": getattr(rules, name) for name in ("purge", "use", "load")}
    runtimes = site.containers.runtimes
    asking |= {f"containers.runtimes.{name}.modules": one.modules for name, one in runtimes.items()}
    asked = [key for key, modules in asking.items() if modules]
    if rules.system == "none" and asked:
        told = f"there are no modules (modules.system), and {asked[0]} asks for some"
        yield Finding("modules.system", told, "leave one of them out")
    for name, environment in site.environments.items():
        profile = environment.module_profile
        if profile is not None and profile not in rules.profiles:
            told = f"there is no modules.profiles.{profile}"
            key = f"environments.{name}.module_profile"
            yield Finding(key, told, nearest(profile, rules.profiles), ("modules.profiles",))


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
