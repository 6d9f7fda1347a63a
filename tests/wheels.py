"""Packages to install that need no network: wheels of one module."""

from __future__ import annotations

import zipfile
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any") -> Path:
    """A wheel whose module tells its VERSION, and so does its command.

    tag: of the Python, its ABI and the platform.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        module = f"import sys\nVERSION = {version!r}\ndef main(): print(VERSION, sys.prefix)\n"
        wheel.writestr(f"{name}.py", module)
        wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", about)
        tags = f"Root-Is-Purelib: true\nTag: {tag}\n"
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: tests\n{tags}")
        wheel.writestr(f"{info}/RECORD", "")
    return path
