"""Slurm's configuration as text, and its daemons."""

from __future__ import annotations

import os
import re
import signal
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from tests.cluster.failure import ClusterError, tail
from tests.cluster.hosts import has_controllers, holder, inside
from tests.cluster.layout import CLUSTER, CONTROLLER, CPUS, GPUS, MEMORY_MB, NODES, Layout
from tests.cluster.network import client
from tests.cluster.processes import LONG, call, kill, kill_inside, pid, start, stop, wait_for

_CONF = """\
ClusterName={cluster}
SlurmctldHost={controller}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits for as long as a credential lives: two minutes unless said otherwise.
AuthInfo=cred_expire=10
StateSaveLocation={state}/slurmctld
SlurmdSpoolDir={state}/slurmd-%n
SlurmctldPidFile={run}/slurmctld.own.pid
SlurmdPidFile={run}/slurmd-%n.own.pid
SlurmctldLogFile={log}/slurmctld.log
SlurmdLogFile={log}/slurmd-%n.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
JobAcctGatherFrequency=5
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
OverTimeLimit=0
MinJobAge={remembered}
SlurmdTimeout=20
ReturnToService=2
{prolog}
Licenses=solver:1
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,batch_sched_delay=0,sched_interval=1,sched_min_interval=0
# More CPUs and memory than this machine has.
SlurmdParameters=config_overrides
SlurmctldParameters=node_reg_mem_percent=1
{accounting}
GresTypes=gpu
{nodes}
PartitionName=DEFAULT Nodes=ALL State=UP MaxTime=1-00:00:00 DefaultTime=30 PriorityTier=1
PartitionName=main Default=YES PreemptMode=OFF
PartitionName=low PreemptMode=REQUEUE GraceTime=5
PartitionName=high PreemptMode=OFF PriorityTier=100
PartitionName=short PreemptMode=OFF MaxTime=2 DefaultTime=1
"""

_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits,qos
"""

_CGROUP = """\
{plugin}
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
ConstrainCores=no
ConstrainDevices=no
"""


_PORT = 6818
"""Where a slurmd listens, unless it is told otherwise."""

REMEMBERED = 60
"""Seconds for which the controller remembers a job that has ended, and up to as many more."""


def write_configuration(layout: Layout, accounting: bool) -> None:
    """slurm.conf, cgroup.conf, gres.conf and the fake GPUs."""
    nodes = "\n".join(
        f"NodeName={node.name} NodeAddr={layout.address(node)} NodeHostname={node.name}"
        f" CPUs={CPUS} RealMemory={MEMORY_MB} Gres=gpu:a100:{GPUS} State=UNKNOWN"
        for node in NODES
    )
    text = _CONF.format(
        cluster=CLUSTER,
        controller=CONTROLLER.name,
        address=layout.address(CONTROLLER),
        run=layout.run,
        state=layout.state,
        log=layout.log,
        nodes=nodes,
        remembered=REMEMBERED,
        prolog=f"Prolog={layout.prolog}" if layout.prolog.exists() else "",
        accounting=_ACCOUNTING.format(address=layout.address(CONTROLLER))
        if accounting
        else "AccountingStorageType=accounting_storage/none",
    )
    (layout.slurm / "slurm.conf").write_text(text)
    (layout.slurm / "cgroup.conf").write_text(_CGROUP.format(plugin=_cgroup_plugin(layout)))
    gpus = "".join(f"Name=gpu Type=a100 File={_gpu(layout, n)}\n" for n in range(GPUS))
    (layout.slurm / "gres.conf").write_text(gpus)


def _cgroup_plugin(layout: Layout) -> str:
    if has_controllers():
        return f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={layout.cgroups}"
    return "CgroupPlugin=cgroup/v2\nIgnoreSystemd=yes"


def _gpu(layout: Layout, number: int) -> Path:
    """A GPU must be a character device: a count without a file drains the node (22.05)."""
    path = layout.etc / f"gpu{number}"
    if not path.exists():
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    return path


def start_controller(layout: Layout) -> None:
    """Starts slurmctld and waits until it answers."""
    (layout.state / "slurmctld").mkdir(exist_ok=True)
    start(layout, "slurmctld", inside(layout, CONTROLLER.name, ["slurmctld", "-D"]))
    wait_for(layout, "slurmctld", lambda: controller_answers(layout))


def controller_answers(layout: Layout) -> bool:
    """Whether slurmctld answers."""
    return "is UP" in call(inside(layout, CONTROLLER.name, ["scontrol", "ping"]), check=False)


def stop_controller(layout: Layout) -> None:
    """Stops slurmctld, which writes down its state."""
    stop(layout, "slurmctld")


def start_node(layout: Layout, node: str) -> None:
    """Starts a node's slurmd and waits until it listens: a job that came earlier would fail."""
    (layout.state / f"slurmd-{node}").mkdir(exist_ok=True)
    name = f"slurmd-{node}"
    start(layout, name, inside(layout, node, ["slurmd", "-D", "-N", node]))
    wait_for(layout, name, lambda: _listens(pid(layout, name)))


def _listens(slurmd: int | None) -> bool:
    """Whether a process of this number is there, and its host's slurmd listens."""
    try:
        lines = Path(f"/proc/{slurmd}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return False
    # Addresses and ports are in hexadecimal, and so is the state, which is 0A for a listener.
    return any(
        line.split()[1].endswith(f":{_PORT:04X}") and line.split()[3] == "0A" for line in lines
    )


def stop_node(layout: Layout, node: str) -> None:
    """Stops a node's slurmd; jobs on it go on."""
    stop(layout, f"slurmd-{node}")


def fail_node(layout: Layout, node: str) -> None:
    """Kills a node's slurmd, its client of the network file system and all that users run there,
    and tells the controller."""
    # On a node that fails nobody sees another's end.
    kill_inside(layout, holder(node), signal.SIGSTOP, steps=True)
    for name in (f"slurmd-{node}", client(node)):
        kill(layout, name)
    # A slurmstepd that outlives its slurmd would let the next one kill the job's next life.
    kill_inside(layout, holder(node), signal.SIGKILL, steps=True)
    # And one whose socket is there keeps PMIx from starting the same step in it (22.05).
    for path in (layout.state / f"slurmd-{node}").iterdir():
        if path.is_socket():
            path.unlink()
    words = ["scontrol", "update", f"nodename={node}", "state=down", "reason=failed"]
    call(inside(layout, CONTROLLER.name, words))


def set_prolog(layout: Layout, script: str | None, accounting: bool) -> None:
    """What every node runs before a job, as root; None: nothing."""
    if script is None and not layout.prolog.exists():
        return
    if script is None:
        layout.prolog.unlink()
    else:
        layout.prolog.write_text(script)
        layout.prolog.chmod(0o755)
    write_configuration(layout, accounting)
    call(inside(layout, CONTROLLER.name, ["scontrol", "reconfigure"]))


def remember_jobs(layout: Layout, seconds: int) -> None:
    """For how long the controller remembers a job that has ended; it drops those that are older
    every so many seconds, every ten at the most (22.05)."""
    conf = layout.slurm / "slurm.conf"
    conf.write_text(re.sub(r"^MinJobAge=.*$", f"MinJobAge={seconds}", conf.read_text(), flags=re.M))
    call(inside(layout, CONTROLLER.name, ["scontrol", "reconfigure"]))


def cancel_jobs(layout: Layout) -> None:
    """Cancels all jobs, and kills the processes of those that do not heed it."""
    jobs = call(inside(layout, CONTROLLER.name, ["squeue", "-h", "-o", "%F"]), check=False).split()
    if not jobs:
        return
    call(inside(layout, CONTROLLER.name, ["scancel", *sorted(set(jobs))]), check=False)
    # scancel --signal=KILL is no faster: it is a TERM first, and KillWait later (22.05).
    time.sleep(0.1)
    for node in NODES:
        kill_inside(layout, holder(node.name))


def wait_for_nodes(layout: Layout, *, idle: bool) -> None:
    """Waits until all nodes answer, and do nothing if `idle`; drained and down ones are resumed."""
    deadline = time.monotonic() + 2 * LONG
    while True:
        states = _states(layout)
        # A star is Slurm's sign for a node that does not answer.
        if len(states) == len(NODES) and all(
            state == "idle" or (not idle and state.isalpha() and state != "unknown")
            for state in states.values()
        ):
            return
        for node in NODES:
            if pid(layout, f"slurmd-{node.name}") is None:
                said = tail(layout.output(f"slurmd-{node.name}"))
                raise ClusterError(f"slurmd ended on {node.name}:\n{said}")
        if time.monotonic() > deadline:
            reasons = call(inside(layout, CONTROLLER.name, ["sinfo", "-R"]), check=False)
            raise ClusterError(f"nodes do not become idle: {states}\n{reasons}")
        _resume(layout, (name for name, state in states.items() if state in _OUT))
        time.sleep(0.1)


_OUT = ("down", "drained", "drain", "draining", "fail", "failing")


def _states(layout: Layout) -> dict[str, str]:
    words = ["sinfo", "-h", "-N", "-p", "main", "-o", "%N %T"]
    lines = call(inside(layout, CONTROLLER.name, words), check=False).splitlines()
    return dict(line.split()[:2] for line in lines)


def _resume(layout: Layout, nodes: Iterable[str]) -> None:
    for node in nodes:
        words = ["scontrol", "update", f"nodename={node}", "state=resume"]
        call(inside(layout, CONTROLLER.name, words), check=False)
