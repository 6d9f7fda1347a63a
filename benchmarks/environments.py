"""What an environment of packages that is there adds to `hpcrun submit`, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.row import Row, milliseconds
from tests.wheels import make_wheel

AIM = 0.020


def rows(count: int) -> Iterator[Row]:
    """`hpcrun submit` on target local, of one environment by its packages and by its folder."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "HPCRUN_WORKSPACE": f"{folder}/history", "XDG_CACHE_HOME": folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        wheel = make_wheel(Path(folder), "tinypack", "1.0")
        hpcrun = (sys.executable, "-m", "hpcrun")
        by_packages = _source(folder, "packages", f"{{pip: [--no-index, {wheel}]}}")
        subprocess.run([*hpcrun, "env", "build"], cwd=by_packages, env=env, check=True)
        (built,) = Path(folder).glob("history/users/*/environments/*.1")
        by_folder = _source(folder, "folder", f"{{virtual_environment: {built}}}")
        sources = {"packages": by_packages, "folder": by_folder}
        spent: dict[str, list[float]] = {name: [] for name in sources}
        for turn in range(count + 1):
            for name, source in sources.items():
                took = _processor_time([*hpcrun, "submit", "--json"], source, env)
                spent[name] += [took] if turn else []
    packages, plain = median(spent["packages"]), median(spent["folder"])
    yield Row(
        "processor time of submit, packages that are built, against their folder",
        milliseconds(packages),
        milliseconds(plain),
        f"{milliseconds(packages - plain)} more",
        f"< {milliseconds(AIM)} more",
        packages - plain < AIM,
    )


def _processor_time(words: Sequence[str], source: Path, env: Mapping[str, str]) -> float:
    """Seconds that a command takes of a processor: what else runs here lengthens any other time."""
    with subprocess.Popen(words, cwd=source, env=env, stdout=subprocess.DEVNULL) as command:
        _, status, used = os.wait4(command.pid, 0)
        command.returncode = os.waitstatus_to_exitcode(status)
    if command.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {command.returncode}")
    return used.ru_utime + used.ru_stime


def _source(folder: str, name: str, environment: str) -> Path:
    source = Path(folder, name)
    source.mkdir()
    (source / "run.yaml").write_text(f"command: ['true']\nenvironment: {environment}\n")
    return source
