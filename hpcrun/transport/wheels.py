"""What is brought to a cluster without internet: hpcrun's own wheel, and those that it needs.

Which wheels fit is decided by pip, from what the far side says of its machine, C library and
Python.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import hpcrun
from hpcrun.errors import BuildError
from hpcrun.progress import waiting

NAME = "hpcrun-slurm"

_PACKAGES = ("hpcrun", "hpcrun.examples", "hpcrun.templates", "hpcrun.site_configs")
"""Each in a folder of its own, whichever way hpcrun is installed here."""

_KINDS = frozenset({".py", ".sh", ".yaml", ".j2"})

_TIME = (2020, 1, 1, 0, 0, 0)
"""Of all files in the wheel: equal code makes equal wheels."""

_LEAST = {"x86_64": 5, "i686": 5}
"""The minor version of the oldest C library that there are wheels for; 17 on other machines."""

_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


class Platform(NamedTuple):
    """What wheels have to fit. machine: of `uname -m`. glibc, python: (major, minor)."""

    machine: str
    glibc: tuple[int, int]
    python: tuple[int, int]

    @property
    def tags(self) -> list[str]:
        """The platform tags that run there, best first (PEP 600)."""
        least, tags = _LEAST.get(self.machine, 17), []
        for minor in range(self.glibc[1], least - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _OLD_NAMES:
                tags.append(f"{_OLD_NAMES[minor]}_{self.machine}")
        return tags

    def __str__(self) -> str:
        (major, minor), (of_python, minor_of_python) = self.glibc, self.python
        return f"{self.machine}, glibc {major}.{minor}, Python {of_python}.{minor_of_python}"


def fetch_words(wheel: Path, platform: Platform, folder: Path) -> list[str]:
    """The words that fetch a wheel's dependencies, and pip itself: the far side may have none."""
    number = f"{platform.python[0]}{platform.python[1]}"
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-input", "--only-binary=:all:", "--implementation=cp", f"--abi=cp{number}"),
        *(f"--python-version={number[0]}.{number[1:]}", f"--dest={folder}"),
        *(f"--platform={tag}" for tag in platform.tags),
        *(str(wheel), "pip"),
    ]


def fetch(wheel: Path, platform: Platform, folder: Path) -> list[Path]:
    """The wheels that a wheel needs on a platform, itself and pip among them, in a folder.

    BuildError: with pip's last words.
    """
    words = fetch_words(wheel, platform, folder)
    with waiting(f"fetching packages for {platform}"):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _failure(done.stderr, platform)
    return sorted(folder.glob("*.whl"))


def _failure(said: str, platform: Platform) -> BuildError:
    lines = [line.strip() for line in said.splitlines() if "WARNING" not in line and line.strip()]
    told = f": {' '.join(lines)[-600:]}" if lines else ""
    if "No module named pip" in said:
        hint = f"`{sys.executable} -m ensurepip` brings it"
        return BuildError("there is no pip on this machine to fetch wheels with", hint)
    return BuildError(
        f"what hpcrun needs cannot be fetched for {platform}{told}",
        "is there a network here, and wheels for that machine? pip's configuration says from where",
    )


def own_wheel(folder: Path) -> Path:
    """hpcrun as it runs here, as a wheel in a folder. BuildError: it cannot be read."""
    files = dict(_files())
    name = f"hpcrun_slurm-{hpcrun.__version__}"
    path = folder / f"{name}-py3-none-any.whl"
    info = f"{name}.dist-info"
    files |= {f"{info}/{part}": text for part, text in _about().items()}
    record = f"{info}/RECORD"
    lines = [f"{file},sha256={_digest(data)},{len(data)}" for file, data in files.items()]
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file, data in files.items():
            member = zipfile.ZipInfo(file, _TIME)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            wheel.writestr(member, data)
    return path


def _files() -> Iterator[tuple[str, bytes]]:
    """Names in the wheel, and contents. A package that stands inside another comes twice."""
    for package in _PACKAGES:
        root = Path(importlib.import_module(package).__file__ or "").parent
        for file in sorted(root.rglob("*")):
            if file.suffix in _KINDS or file.name == "py.typed":
                name = f"{package.replace('.', '/')}/{file.relative_to(root).as_posix()}"
                yield name, file.read_bytes()


def _about() -> Mapping[str, bytes]:
    """What a wheel tells of itself: what was told when this hpcrun was installed."""
    try:
        installed = distribution(NAME)
    except PackageNotFoundError as error:
        raise BuildError(
            "this hpcrun is not installed, so nobody knows what it needs", "pip install it"
        ) from error
    lines = ["Metadata-Version: 2.1", f"Name: {NAME}", f"Version: {hpcrun.__version__}"]
    lines += [f"Requires-Dist: {needed}" for needed in installed.requires or ()]
    wheel = "Wheel-Version: 1.0\nGenerator: hpcrun\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    entries = installed.read_text("entry_points.txt") or ""
    return {
        "METADATA": "\n".join([*lines, ""]).encode(),
        "WHEEL": wheel.encode(),
        "entry_points.txt": entries.encode(),
    }


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
