"""Conda environments by name: where conda, mamba and micromamba keep them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path


def find_conda(name: str, environ: Mapping[str, str], home: Path) -> str | None:
    """The folder of the first environment of that name; None if there is none."""
    for folder in _folders(name, environ, home):
        if _is_environment(folder):
            return str(folder)
    return None


def _is_environment(folder: Path) -> bool:
    try:
        return (folder / "conda-meta").is_dir()
    except OSError:
        return False  # no folder can have so long a name


def _folders(name: str, environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    if not name or "/" in name:
        return
    roots = [Path(environ[key]) for key in ("MAMBA_ROOT_PREFIX",) if environ.get(key)]
    if environ.get("CONDA_EXE"):
        roots.append(Path(environ["CONDA_EXE"]).parents[1])
    if name == "base":
        yield from roots
        return
    for text in (environ.get("CONDA_ENVS_PATH"), environ.get("CONDA_ENVS_DIRS")):
        for folder in (text or "").split(":"):
            if folder:
                yield Path(folder, name)
    for root in roots:
        yield root / "envs" / name
    yield home / ".conda/envs" / name
    try:
        known = (home / ".conda/environments.txt").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in known:
        if Path(line.strip()).name == name:
            yield Path(line.strip())
