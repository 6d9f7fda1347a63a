"""What a job may find of the submitter's environment: names on a list, nothing else.

sbatch gives its own environment to the job (--export=ALL). Secrets, conda, venv and display
variables of a shell must not travel; SBATCH_* beats the script's directives, and SLURM_* of a job
that submits another gives the new one wrong sizes (22.05).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

_PERSON = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LANGUAGE", "TZ")

_MODULES = (
    "MODULEPATH",
    "MODULESHOME",
    "MODULES_CMD",
    "LMOD_CMD",
    "LMOD_DIR",
    "LMOD_PKG",
    "LMOD_SYSTEM_DEFAULT_MODULES",
    "BASH_ENV",
    "BASH_FUNC_module%%",
    "BASH_FUNC__module_raw%%",
    "BASH_FUNC_ml%%",
)

_ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX")

_ALLOWED = frozenset((*_PERSON, *_MODULES))


def inherited(environ: Mapping[str, str], also: Collection[str] = ()) -> dict[str, str]:
    """The part of an environment that a job may find. also: names that may travel as well.

    PATH comes without the programs of an active virtual or conda environment: the run names the
    one that it wants.
    """
    found = {
        name: value
        for name, value in environ.items()
        if name in _ALLOWED or name.startswith("LC_") or name in also
    }
    if "PATH" in found:
        active = {f"{environ[name]}/bin" for name in _ACTIVE if environ.get(name)}
        parts = found["PATH"].split(":")
        found["PATH"] = ":".join(part for part in parts if part.rstrip("/") not in active)
    return found
