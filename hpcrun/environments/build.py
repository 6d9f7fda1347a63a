"""Building an environment: whole, or not there at all.

A virtual one by uv where it is, else by venv and pip; one of conda's by conda or its like, and then
by uv or pip what these install beside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcrun.durable import write_new
from hpcrun.environments import solving
from hpcrun.environments.cache import LOCK, MARKER, Built, Wanted, listed, publish
from hpcrun.errors import BuildError
from hpcrun.faults import told
from hpcrun.progress import waiting
from hpcrun.rights import let_in
from hpcrun.turns import alone

_LAST_WORDS = 600
"""Characters of the builder's last words that an error repeats."""

_OF_CALLER = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
"""Variables that would lead the builder elsewhere."""

_ELSEWHERE = ("index-url", "extra-index-url", "find-links", "no-index")
"""What pip's configuration says of where packages come from; uv does not read it."""


def build(wanted: Wanted, folder: str, say: Callable[[str], None]) -> Built:
    """Builds an environment that is to be found as `folder`, unless another process has done it.

    say: told what is being waited for. BuildError: with the builder's last words. StoreError.
    """
    room = Path(folder).parent
    with told(f"make the folder of environments {room}"):
        room.mkdir(parents=True, exist_ok=True)
    with alone(f"{room}/.{wanted.key}.lock", say):
        there = _of(folder, wanted)
        if there is not None:
            return there
        aside = f"{room}/.build-{os.urandom(4).hex()}"
        try:
            _fill(wanted, aside, say)
            with told(f"publish the environment {folder}"):
                is_ours = publish(aside, folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        if not is_ours:  # on a file system without locks another was first
            shutil.rmtree(aside, ignore_errors=True)
    there = _of(folder, wanted)
    if there is None:
        raise BuildError(f"the environment {folder} was removed while it was built", "try again")
    return there


def _of(folder: str, wanted: Wanted) -> Built | None:
    """The environment that a folder is."""
    known = listed(str(Path(folder).parent), wanted.key)
    return next((built for built in known if built.folder == folder), None)


def _fill(wanted: Wanted, aside: str, say: Callable[[str], None]) -> None:
    """Makes a whole environment in a new folder, the marker last."""
    begun, made_by, known = time.time(), "", []
    python: dict[str, str] = wanted.interpreter._asdict()
    uv = _uv(wanted.interpreter.path)
    name = "uv" if uv else "pip"
    if wanted.conda is not None:
        name_of_tool = solving.find_tool(os.environ)[0]
        _announce(wanted, name_of_tool, say)
        made_by = solving.install(wanted.conda, aside, _run)
        with told(f"read the environment {aside}"):
            records = solving.installed(aside)
        known = [f"{each['name']}=={each['version']}={each['build']}" for each in records]
        version = next(str(each["version"]) for each in records if each["name"] == "python")
        python = {"path": f"{aside}/bin/python", "version": ".".join(version.split(".")[:2])}
    else:
        _announce(wanted, name, say)
        _make_venv(wanted, aside, uv)
    lock = known
    if wanted.requirements or wanted.conda is None:
        lock = [*known, *_install(wanted, aside, uv)]
    builder = "+".join(filter(None, (made_by, name if len(lock) > len(known) else "")))
    marker = {
        "name": wanted.name,
        "key": wanted.key,
        "python": python,
        "requirements": wanted.asked,
        "lock": lock,
        "builder": builder or name,
        "built": begun,
        "seconds": round(time.time() - begun, 1),
    }
    with told(f"write the environment {aside}"):
        # uv and conda copy out of a cache of the user's, rights and all.
        let_in(aside)
        Path(aside, LOCK).write_text("".join(f"{line}\n" for line in lock))
        write_new(Path(aside, MARKER), json.dumps(marker, indent=2).encode() + b"\n")


def _announce(wanted: Wanted, name: str, say: Callable[[str], None]) -> None:
    say(f"building environment {wanted.name} ({wanted.key}) by {name}; that is done once")


def _make_venv(wanted: Wanted, aside: str, uv: str | None) -> None:
    base = wanted.interpreter.path
    with told(f"write the environment {aside}"):
        Path(aside).mkdir()
    if uv:
        _run("uv venv", [uv, "venv", "--quiet", "--allow-existing", "-p", base, aside])
    else:
        without = ["--without-pip"] if _reaches_out(base) else []
        _run("venv", [base, "-m", "venv", *without, aside])


def _install(wanted: Wanted, aside: str, uv: str | None) -> list[str]:
    """Installs what is asked of pip; gives what is there since, as pip freezes it."""
    python, base = f"{aside}/bin/python", wanted.interpreter.path
    if uv:
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "-p", python]
        freeze = [uv, "pip", "freeze", "-p", python]
    else:
        reaches = _reaches_out(base)
        pip = [base, "-m", "pip", "--python", python] if reaches else [python, "-m", "pip"]
        install, freeze = [*pip, "install", "--quiet", "--no-input"], [*pip, "freeze"]
    name = "uv" if uv else "pip"
    of_conda = _run(f"{name} freeze", freeze).splitlines() if wanted.conda is not None else []
    asked = Path(aside, "requirements.txt")
    with told(f"write {asked}"):
        asked.write_text("".join(f"{each.line}\n" for each in wanted.requirements))
    _run(f"{name} install", [*install, "-r", str(asked)])
    return sorted(set(_run(f"{name} freeze", freeze).splitlines()) - set(of_conda))


def _uv(interpreter: str) -> str | None:
    """The path of uv, unless pip is told where packages come from, and uv is not."""
    uv = shutil.which("uv")
    if uv is None or any(name.startswith(("UV_INDEX", "UV_DEFAULT_INDEX")) for name in os.environ):
        return uv
    words = [interpreter, "-m", "pip", "config", "list"]
    done = subprocess.run(words, capture_output=True, text=True, env=_environ(), check=False)
    keys = [line.partition("=")[0].rpartition(".")[2] for line in done.stdout.splitlines()]
    return None if set(keys) & set(_ELSEWHERE) else uv


def _reaches_out(interpreter: str) -> bool:
    """Whether its pip can install into another environment (since 22.3), which spares one there."""
    ask = "import pip; print(*pip.__version__.split('.')[:2])"
    done = subprocess.run(
        [interpreter, "-c", ask], capture_output=True, text=True, env=_environ(), check=False
    )
    numbers = [int(part) for part in done.stdout.split() if part.isdecimal()]
    return numbers >= [22, 3]


def _environ() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in _OF_CALLER}
    # Links into a cache would let whoever changes one environment change others.
    copies = {"UV_LINK_MODE": "copy", "CONDA_ALWAYS_COPY": "true"}
    return {**own, **copies, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _run(step: str, words: Sequence[str]) -> str:
    """What a command prints, which is one step of the builder's. BuildError."""
    try:
        with waiting(step):
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=_environ(),
                check=False,
            )
    except OSError as error:
        raise BuildError(f"cannot start {words[0]}: {error.strerror}") from error
    if done.returncode:
        said = " / ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-4:])
        message = f"{step} ended with {done.returncode}: {said[-_LAST_WORDS:]}"
        raise BuildError(message, "nothing was submitted; mend the requirements and submit again")
    return done.stdout
