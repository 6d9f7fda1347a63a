"""Conda environments by name: where conda, mamba and micromamba keep them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path


def find_conda(name: str, environ: Mapping[str, str], home: Path) -> list[str]:
    """The folders that a name may mean: none, one, or several.

    As conda does, the first counts among the folders in which environments are kept. Of those that
    lie elsewhere conda only has a list, in which several may end in the same name.
    """
    kept = [folder for folder in _kept(name, environ, home) if _is_environment(folder)]
    found = kept[:1] or [folder for folder in _listed(name, home) if _is_environment(folder)]
    different = {folder.resolve(): str(folder) for folder in reversed(found)}
    return sorted(different.values())


def _is_environment(folder: Path) -> bool:
    try:
        return (folder / "conda-meta").is_dir()
    except OSError:
        return False  # no folder can have so long a name


def _kept(name: str, environ: Mapping[str, str], home: Path) -> Iterator[Path]:
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


def _listed(name: str, home: Path) -> Iterator[Path]:
    if name in ("", "base"):
        return
    try:
        known = (home / ".conda/environments.txt").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in known:
        if Path(line.strip()).name == name:
            yield Path(line.strip())
