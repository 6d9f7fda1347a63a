"""The test cluster: up, down, and commands on it as one of its users."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from tests.cluster import accounting as dbd
from tests.cluster import accounts, hosts, login, munge, network, packages, processes, slurm
from tests.cluster.failure import ClusterError, InUse
from tests.cluster.laptop import Laptop
from tests.cluster.layout import (
    ACCOUNTS,
    CONTROLLER,
    HOSTS,
    LOGIN,
    MOST,
    NODES,
    PATH,
    Host,
    Layout,
)
from tests.cluster.lock import alone

SWITCH = "HPCRUN_CLUSTER_ACCOUNTING"
"""0 brings the cluster up without accounting, unless the caller says what it wants."""


@dataclass(frozen=True)
class Cluster:
    """A four-node Slurm cluster with a login node, on this machine. Needs root.

    A value: it holds names only. `up` makes the cluster, `down` removes it. Clusters of different
    numbers may be up side by side.
    """

    layout: Layout = field(default_factory=Layout.default)

    @property
    def root(self) -> Path:
        """The folder that holds all of it."""
        return self.layout.root

    @property
    def shared(self) -> Path:
        """A folder that every user can write, on all hosts."""
        return self.layout.shared

    @property
    def cache(self) -> Path:
        """What outlives clusters, and all share, such as virtual environments."""
        return self.layout.cache

    def home(self, user: str) -> Path:
        """A user's home."""
        return self.layout.home(user)

    # up and down

    def up(self, accounting: bool | None = None) -> None:
        """Brings the cluster up, after removing what a crashed one left.

        One that is up stays, and is switched to the accounting asked for. None asks for
        accounting, unless HPCRUN_CLUSTER_ACCOUNTING is 0. A cluster that does not come up is
        removed again; its logs stay in the cache. InUse while another process uses it.
        """
        with self._claim():
            self._bring_up(accounting)

    def down(self) -> None:
        """Removes the cluster or what is left of one, all but its cache. InUse as with `up`."""
        with self._claim():
            self._clean()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """The cluster is up, and this process alone uses it; afterwards it is down if it was."""
        with self._claim():
            was_up = self.is_up()
            self._bring_up(None)
            try:
                yield
            finally:
                if not was_up:
                    self._clean()

    def is_up(self) -> bool:
        """Whether all daemons run and the controller answers."""
        daemons = ["slurmctld", "sshd", *(f"slurmd-{node.name}" for node in NODES)]
        daemons += [f"{kind}-{host.name}" for kind in ("host", "munged") for host in HOSTS]
        if not all(processes.pid(self.layout, name) for name in daemons):
            return False
        return slurm.controller_answers(self.layout)

    # faults and switches

    def has_accounting(self) -> bool:
        """Whether slurmdbd and its database run."""
        return dbd.has_accounting(self.layout)

    def set_accounting(self, on: bool) -> None:
        """Switches accounting of a running cluster; jobs go on, and earlier records are kept."""
        if on == self.has_accounting():
            return
        self.stop_controller()
        dbd.stop_accounting(self.layout)
        slurm.write_configuration(self.layout, on)
        if on:
            dbd.start_accounting(self.layout)
        self.start_controller()
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._restart_node, (node.name for node in NODES)))
        slurm.wait_for_nodes(self.layout, idle=False)

    def stop_controller(self) -> None:
        """Stops slurmctld: its clients find nobody, jobs go on."""
        slurm.stop_controller(self.layout)

    def start_controller(self) -> None:
        """Starts slurmctld again and waits until it answers."""
        if processes.pid(self.layout, "slurmctld") is None:
            slurm.start_controller(self.layout)

    def freeze_controller(self, frozen: bool) -> None:
        """Stops slurmctld where it stands: it takes calls, and answers when it goes on."""
        number = processes.pid(self.layout, "slurmctld")
        if number is not None:
            os.kill(number, signal.SIGSTOP if frozen else signal.SIGCONT)

    def stop_records(self) -> None:
        """Stops slurmdbd: sacct finds nobody, and the controller keeps what it would tell it."""
        dbd.stop_daemon(self.layout)

    def start_records(self) -> None:
        """Starts slurmdbd again and waits until it answers."""
        dbd.start_daemon(self.layout)

    def node_link(self, node: str, up: bool) -> None:
        """Cuts a node off the network, or connects it again."""
        hosts.set_link(self.layout, node, up)

    def mount_network(self, *names: str) -> Path:
        """Mounts alice's network file system anew on these hosts; gives its path there.

        NotHere where this machine has no FUSE, or no way to get sshfs.
        """
        network.mount(self.layout, names)
        return self.layout.network

    def unmount_network(self) -> None:
        """Removes it from all hosts, with all that it held."""
        network.unmount(self.layout)

    def fail_node(self, node: str) -> None:
        """Kills slurmd, the network file system's client and what users run on a node; its jobs get
        NODE_FAIL at once."""
        slurm.fail_node(self.layout, node)

    def freeze_node(self, node: str, frozen: bool) -> None:
        """Stops a node's slurmd where it stands: jobs there go on, and hear nothing of Slurm."""
        number = processes.pid(self.layout, f"slurmd-{node}")
        if number is not None:
            os.kill(number, signal.SIGSTOP if frozen else signal.SIGCONT)

    def mend_node(self, *nodes: str) -> None:
        """Starts slurmd on nodes that failed, and takes them up again."""
        for node in nodes:
            if processes.pid(self.layout, f"slurmd-{node}") is None:
                slurm.start_node(self.layout, node)
        slurm.wait_for_nodes(self.layout, idle=False)

    def set_prolog(self, script: str | None) -> None:
        """What every node runs as root before a job, as bash; None: nothing."""
        text = None if script is None else f"#!/bin/bash\n{script}\n"
        slurm.set_prolog(self.layout, text, self.has_accounting())

    @contextlib.contextmanager
    def short_memory(self) -> Iterator[None]:
        """The controller forgets jobs ten to twenty seconds after their end, and not after one to
        two minutes."""
        slurm.remember_jobs(self.layout, 10)
        try:
            yield
        finally:
            slurm.remember_jobs(self.layout, slurm.REMEMBERED)

    def drop_jobs(self) -> None:
        """Back to the beginning between tests: links, controller and nodes up, no prolog, no jobs,
        all nodes idle."""
        for host in HOSTS:
            hosts.set_link(self.layout, host.name, True)
        self.start_controller()
        self.set_prolog(None)
        for node in NODES:
            self.freeze_node(node.name, False)
            if processes.pid(self.layout, f"slurmd-{node.name}") is None:
                slurm.start_node(self.layout, node.name)
        slurm.cancel_jobs(self.layout)
        slurm.wait_for_nodes(self.layout, idle=True)

    # commands

    def run(
        self,
        user: str,
        words: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        timeout: float = 300,
        node: str = LOGIN.name,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end as a user (alice, bob or root) on a host.

        It finds HOME, USER, LOGNAME, SHELL, PATH, LANG and `env`, nothing else; `cwd` is the home
        unless given. The words arrive exactly; no shell is between. `timeout` is in seconds.
        """
        with self.popen(
            user,
            words,
            cwd=cwd,
            env=env,
            node=node,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        ) as process:
            try:
                output, error = process.communicate(input, timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(list(words), process.returncode, output, error)

    def popen(
        self,
        user: str,
        words: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        node: str = LOGIN.name,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """The same, left running; its process id is that of the command itself."""
        return subprocess.Popen(
            self.words(user, words, cwd=cwd, env=env, node=node),
            text=True,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            umask=0o022,
        )

    def words(
        self,
        user: str,
        words: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        node: str = LOGIN.name,
    ) -> list[str]:
        """The words with which root on this machine runs a command as a user on a host."""
        if user != "root" and user not in ACCOUNTS:
            raise ClusterError(f"no user {user} in the test cluster")
        home = "/root" if user == "root" else str(self.home(user))
        variables = {
            "HOME": home,
            "USER": user,
            "LOGNAME": user,
            "SHELL": self.layout.shell(user) if user != "root" else "/bin/bash",
            "PATH": PATH,
            "LANG": "C.UTF-8",
            **(env or {}),
        }
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        clean = ["env", "-i", f"--chdir={cwd or home}"]
        settings = [f"{name}={value}" for name, value in variables.items()]
        return hosts.inside(self.layout, node, [*become, *clean, *settings, *words])

    def ssh_words(self, user: str) -> list[str]:
        """The words that log in as a user, through the real sshd; a command may follow them."""
        return login.ssh_words(self.layout, user)

    @property
    def laptop(self) -> Laptop:
        """A machine outside of the cluster; `prepare` makes it."""
        return Laptop(self)

    # making and removing

    def _claim(self) -> AbstractContextManager[None]:
        _check_root_user()
        number = self.layout.number
        others = f"HPCRUN_CLUSTER=0 to {MOST - 1} name others"
        return alone(str(number), InUse(f"cluster {number} is in use by another process; {others}"))

    def _bring_up(self, accounting: bool | None) -> None:
        _check_place(self.root)
        wanted = os.environ.get(SWITCH, "1") != "0" if accounting is None else accounting
        if self.is_up():
            self.set_accounting(wanted)
            return
        packages.install()
        self._clean()
        # What daemons and users share is for all to read.
        before = os.umask(0o022)
        try:
            self._make(wanted)
        except BaseException as error:
            self._keep_logs()
            self._remove()
            if isinstance(error, ClusterError):
                raise ClusterError(f"{error}\nAll logs: {self.layout.failed_logs}") from error
            raise
        finally:
            os.umask(before)

    def _make(self, accounting: bool) -> None:
        layout = self.layout
        self.root.mkdir(parents=True, exist_ok=True)
        layout.mark.touch()
        for folder in (layout.log, layout.run, layout.state, layout.cache):
            folder.mkdir(parents=True, exist_ok=True)
        hosts.make_etc(layout)
        accounts.write_accounts(layout)
        accounts.make_homes(layout)
        hosts.make_cgroups(layout)
        slurm.write_configuration(layout, accounting)
        munge.make_key(layout)
        hosts.make_bridge(layout)
        with ThreadPoolExecutor() as pool:
            made = {host: pool.submit(self._make_host, host) for host in HOSTS}
            made[CONTROLLER].result()
            records = pool.submit(dbd.start_accounting, layout) if accounting else None
            made[LOGIN].result()
            entrance = pool.submit(login.start_login, layout)
            for one in (*made.values(), *([records] if records else [])):
                one.result()
            slurm.start_controller(layout)
            list(pool.map(lambda node: slurm.start_node(layout, node.name), NODES))
            entrance.result()
        slurm.wait_for_nodes(layout, idle=True)

    def _make_host(self, host: Host) -> None:
        hosts.make_host(self.layout, host)
        munge.start_munge(self.layout, host.name)

    def _restart_node(self, node: str) -> None:
        slurm.stop_node(self.layout, node)
        slurm.start_node(self.layout, node)

    def _clean(self) -> None:
        """Removes what is there, once it is sure that it is a test cluster's."""
        base = hosts.base_of_bridge(self.layout)
        if base is not None and base != self.layout.base:
            other = replace(self.layout, base=base)
            if other.root.exists():
                raise ClusterError(
                    f"there is a test cluster {other.number} in {other.root}; first remove it, with"
                    f" HPCRUN_CLUSTER_DIR={base} HPCRUN_CLUSTER={other.number}"
                    " python3 -m tests.cluster down"
                )
            processes.stop_all(other)
        strange = _entries(self.root) - {self.cache}
        if strange and not self.layout.mark.exists():
            raise ClusterError(f"{self.root} holds what is not a test cluster's: {min(strange)}")
        self._remove()

    def _remove(self) -> None:
        processes.stop_all(self.layout)
        hosts.remove_network(self.layout)
        hosts.remove_cgroups(self.layout)
        for entry in _entries(self.root) - {self.cache, self.layout.mark}:
            if entry.is_dir() and not entry.is_symlink():
                # Python 3.11's rmtree cannot remove a thousand folders in one another.
                processes.call(["rm", "-rf", "--", str(entry)])
            else:
                entry.unlink()
        self.layout.mark.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.root.rmdir()

    def _keep_logs(self) -> None:
        shutil.rmtree(self.layout.failed_logs, ignore_errors=True)
        with contextlib.suppress(OSError):
            shutil.copytree(self.layout.log, self.layout.failed_logs)


def _entries(folder: Path) -> set[Path]:
    return set(folder.iterdir()) if folder.is_dir() else set()


def _check_root_user() -> None:
    if os.geteuid() != 0:
        raise ClusterError("the test cluster needs root: it makes namespaces")


def _check_place(root: Path) -> None:
    """ClusterError if users or hosts could not reach the folder, or sockets in it."""
    if not root.is_absolute() or len(root.parts) < 3 or ".." in root.parts:
        raise ClusterError(f"HPCRUN_CLUSTER_DIR must be a full path of two names or more: {root}")
    if any(root.is_relative_to(own) for own in ("/tmp", "/run", "/dev")):
        raise ClusterError(f"every host has its own {'/'.join(root.parts[:2])[1:]}: {root}")
    if len(str(root)) > 60 or any(letter in str(root) for letter in " \t\n:,'\"$%\\"):
        raise ClusterError(f"HPCRUN_CLUSTER_DIR must be short and plain: {root}")
    for folder in (root, *root.parents):
        if folder.exists() and not folder.stat().st_mode & 0o001:
            raise ClusterError(
                f"ordinary users cannot pass through {folder}, which is above {root}"
            )
