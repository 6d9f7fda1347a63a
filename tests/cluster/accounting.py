"""Accounting: a private MariaDB and slurmdbd."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from tests.cluster.failure import ClusterError
from tests.cluster.hosts import inside
from tests.cluster.layout import CLUSTER, CONTROLLER, LAB, USERS, Layout
from tests.cluster.lock import alone
from tests.cluster.processes import LONG, MARK, call, pid, start, stop, wait_for, wait_until

_CONF = """\
AuthType=auth/munge
DbdHost={controller}
DbdAddr={address}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
LogFile={log}/slurmdbd.log
PidFile={run}/slurmdbd.own.pid
CommitDelay=0
"""


def start_accounting(layout: Layout) -> None:
    """Starts MariaDB and slurmdbd, and sees to it that slurmdbd knows the users."""
    _start_database(layout)
    conf = layout.slurm / "slurmdbd.conf"
    conf.touch(mode=0o600)  # slurmdbd refuses a file that others can read.
    conf.write_text(
        _CONF.format(
            run=layout.run,
            log=layout.log,
            controller=CONTROLLER.name,
            address=layout.address(CONTROLLER),
        )
    )
    start_daemon(layout)
    _add_users(layout)


def start_daemon(layout: Layout) -> None:
    """Starts slurmdbd, whose database is there, and waits until it answers."""
    # This variable is how slurmdbd finds a socket that is not the standard one (22.05).
    variables = {"MYSQL_UNIX_PORT": str(_socket(layout))}
    start(layout, "slurmdbd", inside(layout, CONTROLLER.name, ["slurmdbd", "-D"]), variables)
    known = ["-n", "-P", "show", "cluster", "format=cluster"]
    wait_for(layout, "slurmdbd", lambda: _manage(layout, known) is not None)


def stop_daemon(layout: Layout) -> None:
    """Stops slurmdbd alone: the controller keeps what it would tell it."""
    stop(layout, "slurmdbd")


def stop_accounting(layout: Layout) -> None:
    """Stops slurmdbd and MariaDB; what they know is kept."""
    stop(layout, "slurmdbd")
    stop(layout, "mariadbd")


def has_accounting(layout: Layout) -> bool:
    """Whether slurmdbd and its database run."""
    return all(pid(layout, name) is not None for name in ("mariadbd", "slurmdbd"))


def _socket(layout: Layout) -> Path:
    """MariaDB's socket, which only root can reach."""
    return layout.run / "mariadb" / "socket"


def _start_database(layout: Layout) -> None:
    """Starts MariaDB."""
    socket = _socket(layout)
    folder = socket.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    socket.unlink(missing_ok=True)
    data = _database(layout)
    words = [
        "mariadbd",
        "--no-defaults",
        f"--datadir={data}",
        f"--socket={socket}",
        f"--pid-file={folder}/pid",
        "--user=root",
        "--skip-networking",
        "--skip-grant-tables",
        # A machine that crashes takes the test cluster with it anyway.
        "--innodb-flush-log-at-trx-commit=0",
        "--skip-log-bin",
        # MariaDB 11 refuses what slurmdbd does otherwise.
        "--loose-innodb-snapshot-isolation=OFF",
    ]
    start(layout, "mariadbd", inside(layout, CONTROLLER.name, words))
    wait_for(layout, "mariadbd", socket.exists)


def _database(layout: Layout) -> Path:
    """The database's folder: a copy of an empty one, which is made once and kept in the cache."""
    data = layout.state / "mariadb"
    if data.exists():
        return data
    shutil.copytree(_empty_database(layout), data)
    data.chmod(0o700)
    return data


def _empty_database(layout: Layout) -> Path:
    version = call(["mariadbd", "--no-defaults", "--version"]).split()[2]
    empty = layout.cache / f"mariadb-empty-{version}"
    with alone("cache"):
        if empty.exists():
            return empty
        unfinished = empty.with_name(empty.name + ".unfinished")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(unfinished)
        call(
            [
                *(
                    "env",
                    f"{MARK}={layout.root}",
                    "mariadb-install-db",
                    "--no-defaults",
                    f"--datadir={unfinished}",
                ),
                *("--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"),
            ]
        )
        return unfinished.rename(empty)


def _add_users(layout: Layout) -> None:
    """The account and its users: with enforced associations, jobs of others are refused."""
    names = ",".join(USERS)
    for words in (
        ["add", "cluster", CLUSTER],
        ["add", "account", LAB],
        ["add", "user", names, f"account={LAB}"],
    ):
        # It is an error where they are there already.
        call(inside(layout, CONTROLLER.name, ["sacctmgr", "-i", "-Q", *words]), check=False)
    look = ["-n", "-P", "show", "association", "format=user,account"]

    def are_known() -> bool:
        return f"{USERS[-1]}|{LAB}" in (_manage(layout, look) or "").split()

    wait_until(are_known, LONG, "slurmdbd does not know the users")


def _manage(layout: Layout, words: list[str]) -> str | None:
    """What sacctmgr answers; None while slurmdbd does not."""
    try:
        return call(inside(layout, CONTROLLER.name, ["sacctmgr", *words]))
    except ClusterError:
        return None
