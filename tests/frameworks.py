"""Frameworks that docs/launchers.md has recipes for: `python -m tests.frameworks horovod others`.

Each set lies in an environment of its own in the test cluster's cache, where users can read it.
They are large, and Horovod takes minutes to build, so `make test` never does it: what needs a set
that is not there skips, and says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.cluster import Cluster
from tests.lab import PYTHON, REQUIREMENTS

HOROVOD = "horovod==0.28.1"
OTHERS = ("tensorflow-cpu", "jax", "accelerate", "lightning")
MAKE = {"horovod": "make horovod", "others": "make frameworks"}


def python_of(name: str) -> Path | None:
    """The Python of a set; None if it has not been built."""
    folder = _folder(name)
    return folder / "bin/python" if (folder / "complete").exists() else None


def build(name: str) -> None:
    """Builds a set, unless it is there. CalledProcessError."""
    folder = _folder(name)
    if (folder / "complete").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    _call(PYTHON, "-m", "venv", str(folder))
    # The same torch and mpi4py as in the lab.
    lines = REQUIREMENTS.read_text().splitlines()
    common = [line for line in lines if line.startswith(("torch", "mpi4py"))]
    _install(folder, "numpy", *common)
    if name == "horovod":
        _horovod(folder)
    else:
        _install(folder, *OTHERS)
    (folder / "complete").touch()


def _horovod(folder: Path) -> None:
    """Over MPI alone. Its last release asks for C++14, and torch is written in C++17."""
    missing = [tool for tool in ("g++", "cmake", "make") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"building Horovod needs {', '.join(missing)}")
    _install(folder, "setuptools<70", "wheel", "packaging", "psutil", "pyyaml", "cloudpickle")
    source = folder / "source"
    pip = (str(folder / "bin/pip"), "download", "-q", "--no-deps", "--no-build-isolation")
    _call(*pip, "--no-binary=:all:", "-d", str(source), HOROVOD)
    (archive,) = source.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(source, filter="data")
    (tree,) = (path for path in source.iterdir() if path.is_dir())
    for file in (tree / "CMakeLists.txt", tree / "horovod/torch/CMakeLists.txt"):
        file.write_text(file.read_text().replace("CMAKE_CXX_STANDARD 14", "CMAKE_CXX_STANDARD 17"))
    with_ = {"HOROVOD_WITH_MPI": "1", "HOROVOD_WITHOUT_GLOO": "1", "HOROVOD_WITH_PYTORCH": "1"}
    without = {"HOROVOD_WITHOUT_TENSORFLOW": "1", "HOROVOD_WITHOUT_MXNET": "1"}
    _install(folder, "--no-deps", "--no-build-isolation", str(tree), **with_, **without)
    shutil.rmtree(source)


def _folder(name: str) -> Path:
    return Cluster().cache / f"frameworks-{name}"


def _install(folder: Path, *words: str, **more: str) -> None:
    pip = (str(folder / "bin/pip"), "install", "-q", "--disable-pip-version-check")
    _call(*pip, *words, **more)


def _call(*words: str, **more: str) -> None:
    print(*words, flush=True)
    subprocess.run(words, check=True, umask=0o022, env={**os.environ, **more})


if __name__ == "__main__":
    for each in sys.argv[1:]:
        build(each)
