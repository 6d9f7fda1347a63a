"""The environments of a workspace: which one a run wants, where it lies, and having it built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hpcrun.config import CondaDependencies, Environment
from hpcrun.environments.cache import Built, Wanted, find, listed, place
from hpcrun.environments.interpreter import find_interpreter
from hpcrun.environments.requirements import read_requirements
from hpcrun.environments.specification import read_specification
from hpcrun.errors import BuildError, ConfigError, Problem, StoreError
from hpcrun.layout import UserPaths
from hpcrun.reading import check_value
from hpcrun.rights import kept_to
from hpcrun.saying import say_on_stderr
from hpcrun.store import FileStore
from hpcrun.store.policy import read_policy


def wanted_of(environment: Environment, folder: Path) -> Wanted:
    """What an environment of packages holds. folder: what relative paths in it are relative to.

    ConfigError: a requirement cannot be read, or there is no such interpreter here.
    """
    python, file = environment.python, environment.requirements
    version = None if environment.is_of_conda else python.version
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    interpreter = find_interpreter(
        python.interpreter_path,
        version,
        os.environ.get("PATH", os.defpath),
        Path(base, "hpcrun", "interpreters.json"),
    )
    asked = read_requirements(environment.pip, Path(file) if file else None, folder.absolute())
    dependencies = dependencies_of(environment)
    if dependencies is None:
        return Wanted(environment.name, interpreter, asked)
    conda, pip = read_specification(dependencies, python.version, interpreter.version)
    return Wanted(environment.name, interpreter, list(dict.fromkeys([*pip, *asked])), conda)


def dependencies_of(environment: Environment) -> CondaDependencies | None:
    """What conda installs in it, also if a file says that. ConfigError."""
    python = environment.python
    if python.conda_dependencies_file is None:
        return python.conda_dependencies
    return CondaDependencies.load(python.conda_dependencies_file)


def folder_of(wanted: Wanted, store: FileStore, private: bool) -> str:
    """The folder of an environment: of the one that is there, else where it will be built."""
    there = find(wanted.key, _rooms(store, private))
    return there.folder if there is not None else place(wanted.key, _own(store, private))


def provide(wanted: Wanted, folder: str, store: FileStore, private: bool) -> Built:
    """The environment that a folder is, built if it is not there. BuildError, StoreError."""
    room = str(Path(folder).parent)
    there = [built for built in listed(room, wanted.key) if built.folder == folder]
    if there:
        return there[0]
    if room not in (store.own.environments, store.own.private.environments):
        message = f"the environment {folder} of another user was removed just now"
        raise BuildError(message, "submit again", transient=True)
    from hpcrun.environments.build import build

    with kept_to(store.prepare(private).root):
        return build(wanted, folder, say_on_stderr)


def build_now(environment: Environment, store: FileStore, folder: Path) -> Built:
    """Builds what an environment holds, unless it is there. ConfigError, BuildError, StoreError."""
    environment = check_value(Environment, environment)
    if not environment.is_managed:
        hint = "pip: […], requirements: FILE or conda_dependencies"
        raise ConfigError(Problem(f"environment {environment.name} has no packages", hint))
    private = read_policy(store.workspace).private
    wanted = wanted_of(environment, folder)
    return provide(wanted, folder_of(wanted, store, private), store, private)


def rebuild(wanted: Wanted, store: FileStore, private: bool) -> Built:
    """Builds an environment anew; later runs use it, and those there are keep theirs."""
    return provide(wanted, place(wanted.key, _own(store, private)), store, private)


def own_environments(store: FileStore) -> list[Built]:
    """This user's environments, the newest first."""
    found = [built for room in store.rooms() for built in listed(room.environments)]
    return sorted(found, key=lambda built: -float(built.marker["built"]))


def named(name: str, store: FileStore) -> Built:
    """The environment of this user's that a key, a unique beginning of one, or a name means; of
    a name the one that was built last. StoreError: there is none, or more than one."""
    known = own_environments(store)
    of_name = [built for built in known if built.marker["name"] == name][:1]
    found = of_name or [built for built in known if Path(built.folder).name.startswith(name)]
    if len(found) == 1:
        return found[0]
    some = ", ".join(Path(built.folder).name for built in found[:5])
    hint = f"it may be {some}" if found else "`hpcrun env list` gives all"
    raise StoreError(f"there is {'more than one' if found else 'no'} environment {name!r}", hint)


def _own(store: FileStore, private: bool) -> str:
    return (store.own.private if private else store.own).environments


def _rooms(store: FileStore, private: bool) -> Iterator[str]:
    """Where an environment may lie: with this user, then with others of the group.

    A private run uses none of another user's: who prunes would not see that it does.
    """
    if private:
        yield _own(store, private)
    yield store.own.environments
    if not private and read_policy(store.workspace).group is not None:
        for user in store.users():
            if user != store.user:
                yield UserPaths.of(str(store.workspace), user).environments
