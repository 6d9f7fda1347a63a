"""Whether what makes containers is here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

from hpcrun.site import Runtime, SiteConfig
from hpcrun.workflow.finding import Finding

_COMMANDS = {
    "apptainer": "apptainer",
    "singularity": "singularity",
    "podman_hpc": "podman-hpc",
    "podman": "podman",
    "shifter": "shifter",
    "charliecloud": "ch-run",
}
_FLAGS = {"pyxis": "--container-image", "container_engine": "--environment", "uenv": "--uenv"}


def containers(site: SiteConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The site's own runtime, and the folder of its images."""
    runtime = site.containers.runtime
    if runtime is None:
        return
    rules, subject = site.containers.runtimes.get(runtime, Runtime()), f"containers.{runtime}"
    if runtime in _COMMANDS:
        yield _command(_COMMANDS[runtime], subject, rules, environ)
    elif runtime in _FLAGS:
        yield _flag(_FLAGS[runtime], subject, environ)
    if rules.image_root is not None:
        yield _image_root(rules.image_root, environ)


def _command(command: str, subject: str, rules: Runtime, environ: Mapping[str, str]) -> Finding:
    found = shutil.which(command, path=environ.get("PATH"))
    if found is not None:
        return Finding("ok", subject, found)
    if rules.modules:
        return Finding("ok", subject, f"jobs load {' '.join(rules.modules)} for {command}")
    cure = (
        "where the nodes have it, all is well; else containers.runtimes.*.modules names its module"
    )
    return Finding("warning", subject, f"there is no command {command} here", cure)


def _flag(flag: str, subject: str, environ: Mapping[str, str]) -> Finding:
    srun = shutil.which("srun", path=environ.get("PATH"))
    if srun is None:
        return Finding("warning", subject, "there is no srun here, whose flag starts containers")
    done = subprocess.run([srun, "--help"], capture_output=True, text=True, check=False)
    if flag in done.stdout:
        return Finding("ok", subject, f"srun knows {flag}")
    return Finding("error", subject, f"srun knows no {flag}", "name another containers.runtime")


def _image_root(text: str, environ: Mapping[str, str]) -> Finding:
    subject = "containers.image_root"
    try:
        folder = Path(Template(text).substitute(environ))
    except (KeyError, ValueError) as error:
        return Finding("error", subject, f"{text}: {error} is not set", "log in where it is")
    if folder.is_dir():
        return Finding("ok", subject, str(folder))
    return Finding("warning", subject, f"there is no folder {folder}", "make it")
