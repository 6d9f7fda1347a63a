"""What this node does: CPU, memory, disks, network, GPUs. Standard library only (Python 3.8+).

CPU and memory are those of the job where its control group tells them, else of the whole node;
disks and network are always the node's. What is not known is left out, never 0.

    of              "job" or "node": whose CPU and memory
    cpus            how many CPUs there are for it
    cpu_percent     of all of them, since the last sample
    memory_bytes, memory_limit_bytes             without the page cache that can be dropped
    disk_read_bytes, disk_write_bytes            a second, of the node's own disks
    network_received_bytes, network_sent_bytes   a second, without the loopback
    gpu_percent, gpu_memory_bytes, gpu_memory_limit_bytes, gpu_watts   a list: GPU by GPU
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from hpcrun.agent.memory import JobGroup, job_group
from hpcrun.agent.nvml import GpuWatch

SECTOR = 512
"""The bytes of a sector in /proc/diskstats, whatever the disk's own are."""

UNLIMITED = 1 << 60
"""Version 1 writes a limit near 2**63 where there is none."""


class Counters(NamedTuple):
    """What only grows, at a moment. cpu: seconds; the others: bytes. None: not known."""

    moment: float
    cpu: Optional[float]
    disk: Optional[Tuple[int, int]]
    network: Optional[Tuple[int, int]]


class Sampler:
    """Samples one node."""

    def __init__(self, gpus: Optional[GpuWatch] = None) -> None:
        self._cpu = job_group("cpuacct")
        self._memory = job_group("memory")
        self._cpuset = job_group("cpuset")
        if self._cpu is None or _cpu_of(self._cpu) is None:
            self._cpu = self._memory = self._cpuset = None
        self._gpus = gpus if gpus is not None else GpuWatch.here()
        self._last = self._counters()

    def sample(self) -> Dict[str, Any]:
        """What was since the last sample, and is now."""
        now, before = self._counters(), self._last
        self._last = now
        cpus = _cpus(self._cpuset)
        found: Dict[str, Any] = {"of": "node" if self._cpu is None else "job", "cpus": cpus}
        seconds = now.moment - before.moment
        if now.cpu is not None and before.cpu is not None and seconds > 0:
            used = max(now.cpu - before.cpu, 0.0)
            # The kernel counts in ticks of 10 ms: of a short time it may count too much.
            found["cpu_percent"] = min(100.0, round(100 * used / seconds / cpus, 1))
        found.update(_memory_of(self._memory) if self._memory else _memory_of_node())
        found.update(_rates("disk_read_bytes disk_write_bytes", before.disk, now.disk, seconds))
        names = "network_received_bytes network_sent_bytes"
        found.update(_rates(names, before.network, now.network, seconds))
        if self._gpus is not None:
            found.update(self._gpus.sample())
        return found

    def _counters(self) -> Counters:
        cpu = _cpu_of(self._cpu) if self._cpu is not None else _cpu_of_node()
        return Counters(time.monotonic(), cpu, _disk(), _network())


def _rates(
    names: str,
    before: Optional[Tuple[int, int]],
    now: Optional[Tuple[int, int]],
    seconds: float,
) -> Dict[str, int]:
    if before is None or now is None or seconds <= 0:
        return {}
    grown = [max(now[n] - before[n], 0) for n in (0, 1)]
    return {name: round(grown[n] / seconds) for n, name in enumerate(names.split())}


# -- CPU ----------------------------------------------------------------------------------------


def _cpu_of(group: JobGroup) -> Optional[float]:
    """The seconds that a control group has used."""
    if group.unified:
        used = _table(os.path.join(group.path, "cpu.stat")).get("usage_usec")
        return None if used is None else used / 1e6
    used = _number(os.path.join(group.path, "cpuacct.usage"))
    return None if used is None else used / 1e9


def _cpu_of_node() -> Optional[float]:
    ticks = busy_ticks(_lines("/proc/stat"))
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")


def busy_ticks(lines: Iterable[str]) -> Optional[int]:
    """user, nice, system, irq, softirq and steal of /proc/stat: neither idle nor iowait."""
    for line in lines:
        if line.startswith("cpu "):
            ticks = [int(word) for word in line.split()[1:9]]
            return sum(ticks) - sum(ticks[3:5])
    return None


def _cpus(group: Optional[JobGroup]) -> int:
    if group is not None:
        name = "cpuset.cpus.effective" if group.unified else "cpuset.cpus"
        count = _count("".join(_lines(os.path.join(group.path, name))[:1]))
        if count:
            return count
    return os.cpu_count() or 1


def _count(listed: str) -> int:
    """How many numbers are in `0-3,8`."""
    pairs = [part.split("-") for part in listed.strip().split(",") if part]
    return sum(int(pair[-1]) - int(pair[0]) + 1 for pair in pairs)


# -- memory -------------------------------------------------------------------------------------


def _memory_of(group: JobGroup) -> Dict[str, int]:
    names = ("memory.current", "memory.max", "inactive_file")
    if not group.unified:
        names = ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
    used, limit = (_number(os.path.join(group.path, name)) for name in names[:2])
    found: Dict[str, int] = {}
    if used is not None:
        cache = _table(os.path.join(group.path, "memory.stat")).get(names[2], 0)
        found["memory_bytes"] = max(used - cache, 0)
    if limit is not None and limit < UNLIMITED:
        found["memory_limit_bytes"] = limit
    return found


def _memory_of_node() -> Dict[str, int]:
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo")}
    if "MemTotal" not in sizes or "MemAvailable" not in sizes:
        return {}
    used = sizes["MemTotal"] - sizes["MemAvailable"]
    return {"memory_bytes": used, "memory_limit_bytes": sizes["MemTotal"]}


# -- disks and network --------------------------------------------------------------------------


def _disk() -> Optional[Tuple[int, int]]:
    """(read, written) by all disks; a partition is a part of one, and a loop reads from one."""
    return _sums(disk_bytes(_lines("/proc/diskstats"), _disks()))


def disk_bytes(lines: Iterable[str], disks: Iterable[str]) -> Dict[str, Tuple[int, int]]:
    """disk → (read, written), of /proc/diskstats."""
    words = [line.split() for line in lines]
    known = set(disks)
    return {w[2]: (int(w[5]) * SECTOR, int(w[9]) * SECTOR) for w in words if w[2] in known}


def _disks() -> List[str]:
    """Those with a device behind them."""
    try:
        names = os.listdir("/sys/block")
    except OSError:
        return []
    return [name for name in names if os.path.exists(f"/sys/block/{name}/device")]


def _network() -> Optional[Tuple[int, int]]:
    return _sums(network_bytes(_lines("/proc/net/dev")))


def network_bytes(lines: Iterable[str]) -> Dict[str, Tuple[int, int]]:
    """interface → (received, sent), of /proc/net/dev."""
    found = {}
    for line in lines:
        name, colon, rest = line.partition(":")
        words = rest.split()
        if colon and name.strip() != "lo" and len(words) >= 9:
            found[name.strip()] = (int(words[0]), int(words[8]))
    return found


def _sums(pairs: Mapping[str, Tuple[int, int]]) -> Optional[Tuple[int, int]]:
    if not pairs:
        return None
    return sum(pair[0] for pair in pairs.values()), sum(pair[1] for pair in pairs.values())


# -- files of the kernel ------------------------------------------------------------------------


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _number(path: str) -> Optional[int]:
    """The number in a file; None if there is none (`max`)."""
    text = "".join(_lines(path)[:1]).strip()
    return int(text) if text.isdigit() else None


def _table(path: str) -> Dict[str, int]:
    """The numbers of `name value` lines."""
    pairs = [line.split() for line in _lines(path)]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
