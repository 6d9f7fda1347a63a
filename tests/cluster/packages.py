"""What the cluster needs from Debian, installed without starting any service."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.failure import ClusterError, NotHere
from tests.cluster.layout import PATH
from tests.cluster.lock import alone

PACKAGES = (
    *("slurm-wlm", "slurmdbd", "slurm-wlm-mysql-plugin", "munge", "mariadb-server"),
    *("openssh-server", "openssh-client", "rsync", "openmpi-bin", "libopenmpi-dev", "gcc"),
    *("libc6-dev", "iproute2", "util-linux", "procps", "passwd", "shellcheck", "strace"),
    *("python3", "python3-venv", "python3-dev", "tcsh", "libpam-oath"),
)
_COMMANDS = (
    *("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db"),
    *("sshd", "ssh", "ssh-keygen", "rsync", "mpicc", "mpirun", "gcc"),
    *("ip", "nsenter", "unshare", "setpriv", "setsid", "useradd", "shellcheck", "tc", "tcsh"),
)
_LMOD = Path("/usr/share/lmod/lmod")
_POLICY = Path("/usr/sbin/policy-rc.d")
_MARK = "# hpcrun test cluster: no service starts while packages are installed\n"


def install() -> None:
    """Installs what is missing, with apt-get. Nothing happens if all is here."""
    if not (missing := _missing()):
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"not here: {', '.join(missing)}; and there is no apt-get to fetch them")
    with alone("packages"):
        # Another cluster's `up` may have fetched them meanwhile.
        if _missing():
            _fetch()


def _fetch() -> None:
    with _services_stay_down():
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", *PACKAGES)


def install_fuse() -> None:
    """Installs sshfs, if it is missing. Nothing but a network file system needs it."""
    _install_one("sshfs", "sshfs")


def install_charliecloud() -> None:
    """Installs Charliecloud's ch-run, if it is missing. Nothing but containers needs it."""
    _install_one("charliecloud-runtime", "ch-run")


def install_lmod() -> Path:
    """Installs Lmod, if it is missing, and gives what a shell reads to have it."""
    _install_one("lmod", str(_LMOD / "libexec/lmod"))
    return _LMOD / "init/bash"


def _install_one(package: str, command: str) -> None:
    """NotHere where there is no way to get it."""
    if shutil.which(command, path=PATH) is not None:
        return
    if shutil.which("apt-get") is None:
        raise NotHere(f"{command} is not here, and there is no apt-get to fetch it")
    with alone("packages"):
        _apt("update")
        known = subprocess.run(["apt-cache", "show", package], capture_output=True, check=False)
        if known.returncode:
            raise NotHere(f"{command} is not here, and this Debian has no package {package}")
        _apt("install", "-y", "--no-install-recommends", package)


def _missing() -> list[str]:
    """The packages that are not here; the commands, where packages are not Debian's."""
    if shutil.which("dpkg-query") is None:
        return [command for command in _COMMANDS if shutil.which(command, path=PATH) is None]
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *PACKAGES],
        capture_output=True,
        text=True,
        check=False,
    )
    here = set(done.stdout.splitlines())
    return [package for package in PACKAGES if f"{package} installed" not in here]


def _apt(*words: str) -> None:
    done = subprocess.run(
        ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *words],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"apt-get {words[0]} failed: {done.stderr.strip()[-500:]}")


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    """Debian asks policy-rc.d before a package's script starts a service; 101 means no."""
    aside = _POLICY.with_name(_POLICY.name + ".hpcrun-aside")
    if _POLICY.exists() and _MARK not in _POLICY.read_text():
        _POLICY.rename(aside)
    _POLICY.write_text(f"#!/bin/sh\n{_MARK}exit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
        if aside.exists():
            aside.rename(_POLICY)
