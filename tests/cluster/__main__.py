"""By hand, as root: python3 -m tests.cluster COMMAND; `--help` names them."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time

from tests.cluster.cluster import SWITCH, Cluster
from tests.cluster.failure import ClusterError
from tests.cluster.layout import USERS
from tests.cluster.packages import install, install_fuse


def main() -> int:
    """Runs one command; 1 with one message if it fails."""
    # A cluster that is half made is removed again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _parser().parse_args()
    try:
        return _run(Cluster(), options)
    except ClusterError as error:
        print(f"test cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.cluster", description="A four-node Slurm cluster on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring the cluster up")
    up.add_argument("--no-accounting", action="store_true", help=f"no slurmdbd; as {SWITCH}=0")
    commands.add_parser("down", help="remove it, all but its cache")
    commands.add_parser("status", help="say whether it is up, and what its nodes do")
    commands.add_parser("install", help="install what it needs from Debian")
    mount = commands.add_parser("mount", help="mount a network file system of alice's (sshfs)")
    mount.add_argument("hosts", nargs="*", metavar="HOST", help="default: login n1 n2")
    commands.add_parser("unmount", help="remove it from all hosts, with all that it held")
    shell = commands.add_parser("shell", help="log in to the login node, or run one command there")
    shell.add_argument("user", choices=USERS)
    shell.add_argument("words", nargs="*", help="a command; a single word may be a shell line")
    laptop = commands.add_parser("laptop", help="a shell outside of the cluster, or one command")
    laptop.add_argument("words", nargs="*", help="a command, such as: ssh login hostname")
    return parser


def _run(cluster: Cluster, options: argparse.Namespace) -> int:
    began, number = time.monotonic(), cluster.layout.number
    match options.command:
        case "up":
            cluster.up(False if options.no_accounting else None)
            print(f"cluster {number} up in {time.monotonic() - began:.1f} s, in {cluster.root}")
        case "down":
            cluster.down()
            print(f"cluster {number} down in {time.monotonic() - began:.1f} s")
        case "install":
            install()
            try:
                install_fuse()
            except ClusterError as error:
                print(f"without a network file system, whose tests skip: {error}")
        case "mount":
            _check_up(cluster)
            print(cluster.mount_network(*(options.hosts or ("login", "n1", "n2"))))
        case "unmount":
            _check_up(cluster)
            cluster.unmount_network()
        case "status":
            return _status(cluster)
        case "shell":
            return _shell(cluster, options.user, options.words)
        case "laptop":
            _check_up(cluster)
            cluster.laptop.prepare()
            words = cluster.laptop.words(options.words or ["bash", "-l"])
            return subprocess.call(words)
    return 0


def _status(cluster: Cluster) -> int:
    if not cluster.is_up():
        print("down")
        return 3
    kind = "with" if cluster.has_accounting() else "without"
    nodes = cluster.run("root", ["sinfo"]).stdout.rstrip()
    print(f"cluster {cluster.layout.number} up, {kind} accounting, in {cluster.root}\n{nodes}")
    return 0


def _check_up(cluster: Cluster) -> None:
    if not cluster.is_up():
        raise ClusterError("not up; first: python3 -m tests.cluster up")


def _shell(cluster: Cluster, user: str, words: list[str]) -> int:
    _check_up(cluster)
    ssh, *rest = cluster.ssh_words(user)
    terminal = ["-t"] if not words and os.isatty(0) else []
    command = words if len(words) < 2 else [shlex.join(words)]
    return subprocess.call([ssh, *terminal, *rest, *command])


sys.exit(main())
