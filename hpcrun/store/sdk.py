"""Publishing what travels to the nodes: the standard-library part of hpcrun, in its own folder.

The folder's name holds a digest of its content, so an upgrade never touches what running jobs use.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hpcrun
from hpcrun.faults import told

MODULES = (
    *("errors", "arguments", "rights", "state", "layout", "forms", "kinds"),
    *("record", "verdict", "hints", "fold", "journal", "distributed"),
)
PACKAGES = ("metrics", "agent", "agent/follow", "agent/probe", "agent/preflight")

TOUCHED = 86_400
"""Seconds after which a version is touched when it is wanted again."""

_INIT = '''"""The part of hpcrun that travels: what a training script and the agent need."""

__all__ = ["Run"]


def __getattr__(name):
    if name != "Run":
        raise AttributeError(f"module 'hpcrun' has no attribute {name!r}")
    from hpcrun.metrics import Run

    return Run
'''
_MAIN = """import gc

gc.disable()  # all that is imported stays
from hpcrun.agent.__main__ import main

gc.freeze()
gc.enable()
raise SystemExit(main())
"""


@cache
def sdk_name() -> str:
    """The folder's name: the version, and a digest of every file that is published."""
    digest = hashlib.sha256()
    for relative, content in _files():
        digest.update(f"{relative}\0{len(content)}\0".encode() + content)
    return f"{hpcrun.__version__}-{digest.hexdigest()[:12]}"


def publish(folder: Path) -> Path:
    """Makes sure that `folder` holds the layer of this version; gives its path."""
    path = folder / sdk_name()
    if _is_there(path):
        return path
    import compileall  # 3 ms, not needed when it is there

    with told(f"publish hpcrun's in-job part in {folder}"):
        aside = folder / f".{path.name}.{os.urandom(4).hex()}"
        try:
            for relative, content in _files():
                file = aside / relative
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            compileall.compile_dir(aside, quiet=2, stripdir=aside, prependdir=path)
            try:
                aside.rename(path)
            except OSError:
                if not path.is_dir():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return path


def _is_there(path: Path) -> bool:
    """Whether a version is there. An old one is touched: who collects what no run needs spares
    the young."""
    try:
        if path.stat().st_mtime < time.time() - TOUCHED:
            os.utime(path)
    except FileNotFoundError:
        return False
    return path.is_dir()


def _files() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN.encode()
    yield "hpcrun/__init__.py", _INIT.encode()
    root = Path(hpcrun.__file__).parent
    for module in MODULES:
        yield f"hpcrun/{module}.py", (root / f"{module}.py").read_bytes()
    for package in PACKAGES:
        for name in sorted(os.listdir(root / package)):
            if name.endswith((".py", ".sh")):
                yield f"hpcrun/{package}/{name}", (root / package / name).read_bytes()
