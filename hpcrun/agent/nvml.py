"""What the GPUs of this node do, by NVIDIA's library, where there is one. (Python 3.8+)

The library is loaded where the driver has its device, or where HPCRUN_NVML names it. A driver
whose GPU has fallen off the bus may not come back from a call: it is asked by a thread, and while
that does not answer, nothing is known.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

LIBRARY = "libnvidia-ml.so.1"
LIBRARY_VARIABLE = "HPCRUN_NVML"
DEVICE = "/dev/nvidiactl"

PATIENCE = 2.0
"""Seconds that an answer is waited for."""


class Gpu(NamedTuple):
    """One GPU now. percent: of the time in which a kernel ran. None: it does not tell."""

    percent: Optional[int] = None
    memory: Optional[int] = None
    memory_limit: Optional[int] = None
    watts: Optional[float] = None


class GpuWatch:
    """The GPUs that this job may use. library: the name or path of NVIDIA's library."""

    def __init__(self, library: str, visible: Optional[str] = None) -> None:
        self._library = library
        self._visible = visible
        self._nvml: Any = None
        self._asking: Optional[threading.Thread] = None
        self._answer: List[Gpu] = []
        self._failed = False

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> "Optional[GpuWatch]":
        """None where there is no driver."""
        library = environ.get(LIBRARY_VARIABLE) or (LIBRARY if os.path.exists(DEVICE) else "")
        return cls(library, environ.get("CUDA_VISIBLE_DEVICES")) if library else None

    def sample(self) -> Dict[str, List[Any]]:
        """name → a value for each GPU, None where it does not tell; {} if nothing is known."""
        if self._failed or (self._asking is not None and self._asking.is_alive()):
            return {}
        self._answer = []
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()
        self._asking.join(PATIENCE)
        gpus = [] if self._asking.is_alive() else self._answer
        columns: Dict[str, List[Any]] = {
            "gpu_percent": [gpu.percent for gpu in gpus],
            "gpu_memory_bytes": [gpu.memory for gpu in gpus],
            "gpu_memory_limit_bytes": [gpu.memory_limit for gpu in gpus],
            "gpu_watts": [gpu.watts for gpu in gpus],
        }
        return {name: column for name, column in columns.items() if column.count(None) < len(gpus)}

    def _ask(self) -> None:
        try:
            if self._nvml is None:
                self._nvml = _Nvml(self._library, self._visible)
            self._answer = [self._nvml.gpu(handle) for handle in self._nvml.handles]
        except (OSError, AttributeError):
            self._failed = True  # no such library, or one that lacks what is asked for


class _Nvml:
    """The library. OSError if it cannot be used; AttributeError if it lacks a function."""

    def __init__(self, library: str, visible: Optional[str]) -> None:
        import ctypes  # 1 MB, and only where there is a GPU

        class Utilization(ctypes.Structure):
            _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]

        class Memory(ctypes.Structure):
            _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

        self._types = (ctypes, Utilization, Memory)
        self._library = ctypes.CDLL(library)
        if self._library.nvmlInit_v2() != 0:
            raise OSError("nvmlInit_v2 fails")
        self.handles = self._visible_ones(visible)

    def gpu(self, handle: Any) -> Gpu:
        """What one GPU does."""
        ctypes, utilization_type, memory_type = self._types
        utilization, memory, power = utilization_type(), memory_type(), ctypes.c_uint()
        library, by = self._library, ctypes.byref
        # Each tells 0 for success; 3 (not supported) is common: a MIG device has no utilization.
        busy = library.nvmlDeviceGetUtilizationRates(handle, by(utilization)) == 0
        sized = library.nvmlDeviceGetMemoryInfo(handle, by(memory)) == 0
        powered = library.nvmlDeviceGetPowerUsage(handle, by(power)) == 0
        return Gpu(
            int(utilization.gpu) if busy else None,
            int(memory.used) if sized else None,
            int(memory.total) if sized else None,
            power.value / 1000 if powered else None,
        )

    def _visible_ones(self, visible: Optional[str]) -> List[Any]:
        ctypes = self._types[0]
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            raise OSError("nvmlDeviceGetCount_v2 fails")
        found = {}
        for number in range(count.value):
            handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(96)
            index = ctypes.c_uint(number)
            if self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
                continue
            told = self._library.nvmlDeviceGetUUID(handle, name, ctypes.c_uint(96)) == 0
            found[number] = (handle, name.value.decode("ascii", "replace") if told else "")
        chosen = chosen_gpus([uuid for _, uuid in found.values()], visible)
        handles = [handle for handle, _ in found.values()]
        return [handles[place] for place in chosen]


def chosen_gpus(uuids: List[str], visible: Optional[str]) -> List[int]:
    """The places of the GPUs that CUDA_VISIBLE_DEVICES names; of all, where it names none here.

    Where Slurm hides the others by device cgroups, all that are seen are the job's, and the
    numbers count those alone.
    """
    words = [word.strip() for word in (visible or "").split(",") if word.strip()]
    places = [
        place
        for word in words
        for place, uuid in enumerate(uuids)
        if (uuid.startswith(word) if word.startswith(("GPU-", "MIG-")) else word == str(place))
    ]
    return places or list(range(len(uuids)))
