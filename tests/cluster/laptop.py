"""The laptop: a host outside the cluster, which reaches it by SSH only, directly or by a jump host.

It sees neither homes nor the shared folder nor Slurm's configuration.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tests.cluster import hosts, login, processes
from tests.cluster.failure import ClusterError
from tests.cluster.layout import JUMP, LAPTOP, LENA, LOGIN, OUTSIDE, Layout

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

_CONFIG = """\
Host login csh
    HostName {login}
Host certified
    HostName {login}
    IdentityFile ~/.ssh/id_certified
Host code
    HostName {login}
    User dora
    Port {codes}
Host jump
    HostName {jump}
Host behind
    HostName {inner}
    ProxyJump jump
Host csh
    User carol
Host * !certified
    IdentityFile ~/.ssh/id_ed25519
Host *
    User alice
    IdentitiesOnly yes
"""


@dataclass(frozen=True)
class Laptop:
    """lena's machine. Its ~/.ssh/config names these:

    `login` (alice), `csh` (carol, with tcsh and much talk), `code` (dora: key and one-time code),
    `certified` (alice, by a certificate that `certify` makes), `jump`, and `behind`: the login node
    at an address that only the jump host reaches.
    """

    cluster: Cluster

    @property
    def layout(self) -> Layout:
        return self.cluster.layout

    @property
    def home(self) -> Path:
        """HOME there; the same path on this machine."""
        return self.layout.home(LENA)

    # commands

    def run(
        self,
        words: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of lena's to its end; as `Cluster.run`."""
        return self.cluster.run(
            LENA, words, cwd=cwd, env=env, input=input, timeout=timeout, node=LAPTOP.name
        )

    def popen(
        self,
        words: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """The same, left running."""
        return self.cluster.popen(
            LENA,
            words,
            cwd=cwd,
            env=env,
            node=LAPTOP.name,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )

    def words(self, words: Sequence[str]) -> list[str]:
        """The words with which root on this machine runs a command of lena's."""
        return self.cluster.words(LENA, words, node=LAPTOP.name)

    def write(self, name: str, text: str) -> Path:
        """A file of lena's, named from her home."""
        file = self.home / name
        for folder in reversed([above for above in file.parents if self.home in above.parents]):
            folder.mkdir(exist_ok=True)
            self._give(folder)
        file.write_text(text)
        self._give(file)
        return file

    # credentials

    def code(self) -> str:
        """The next one-time code of dora's (HOTP, RFC 4226). Each is good once."""
        words = (self.layout.state / "codes").read_text().split()
        counter = int(words[4]) + 1 if len(words) > 4 else 0
        digest = hmac.digest(bytes.fromhex(words[3]), counter.to_bytes(8, "big"), "sha1")
        at = digest[-1] & 15
        return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"

    def certify(self, validity: str = "+1h") -> None:
        """A certificate of the test authority for alice. validity: as `ssh-keygen -V` takes it."""
        key = self.home / ".ssh/id_certified.pub"
        authority = str(self.layout.ssh / "user_ca")
        words = ["ssh-keygen", "-q", "-s", authority, "-I", LENA, "-n", "alice", "-V", validity]
        processes.call([*words, str(key)])
        self._give(key.with_name("id_certified-cert.pub"))

    # faults

    def link(self, up: bool) -> None:
        """Cuts the laptop off the network, or connects it again and waits until that is felt."""
        hosts.set_link(self.layout, LAPTOP.name, up)
        if up:
            place = f"/dev/tcp/{self.layout.address(JUMP)}/22"
            words = ["timeout", "1", "bash", "-c", f"exec 3<>{place} && echo there"]
            knock = hosts.inside(self.layout, LAPTOP.name, words)
            # For a moment, neighbours that did not answer are still taken to be gone.
            words = ["ip", "neighbour", "flush", "dev", "eth0"]
            processes.call(hosts.inside(self.layout, LAPTOP.name, words))
            processes.wait_until(
                lambda: bool(processes.call(knock, check=False)),
                processes.LONG,
                "the laptop has no network",
            )

    def slow(self, kbit: int | None) -> None:
        """What the laptop sends and gets goes at so many kbit/s; None: as fast as it can."""
        here = hosts.inside(self.layout, LAPTOP.name, ["tc", "qdisc"])
        for tc, end in ((here, "eth0"), (["tc", "qdisc"], self.layout.cable(LAPTOP))):
            processes.call([*tc, "delete", "dev", end, "root"], check=False)
            if kbit is not None:
                burst = max(1 << 14, kbit)  # bytes: those of 8 ms, as no clock tick is longer
                shape = ["tbf", "rate", f"{kbit}kbit", "burst", f"{burst}b", "latency", "400ms"]
                processes.call([*tc, "add", "dev", end, "root", *shape])

    def sent(self) -> int:
        """Bytes that have left the laptop, all headers included."""
        counter = Path("/sys/class/net", self.layout.cable(LAPTOP), "statistics/rx_bytes")
        return int(counter.read_text())

    def received(self) -> int:
        """Bytes that have come to the laptop."""
        counter = Path("/sys/class/net", self.layout.cable(LAPTOP), "statistics/tx_bytes")
        return int(counter.read_text())

    def restart_login(self) -> None:
        """The login node's sshd goes away with all sessions, and comes back."""
        login.restart(self.layout)

    def change_host_key(self) -> None:
        """The login node gets another host key; `~/.ssh/known_hosts` stays as it is."""
        login.change_host_key(self.layout)

    def accept_host_key(self) -> None:
        """`~/.ssh/known_hosts` as it should be."""
        login.write_known_hosts(self.layout)
        self.write(".ssh/known_hosts", (self.layout.ssh / "known_hosts").read_text())

    @contextlib.contextmanager
    def small_disk(self, size: int, here: bool = False) -> Iterator[Path]:
        """A folder of alice's on the login node, on a disk of so many bytes, in memory.

        here: it is lena's, on the laptop.
        """
        user, host = (LENA, LAPTOP) if here else ("alice", LOGIN)
        place = self.layout.small
        place.mkdir(exist_ok=True)
        uid = self.layout.uid(user)
        options = f"size={size},uid={uid},gid={uid},mode=755"
        words = ["mount", "-t", "tmpfs", "-o", options, "small", str(place)]
        processes.call(hosts.inside(self.layout, host.name, words))
        try:
            yield place
        finally:
            words = ["umount", "--lazy", str(place)]
            processes.call(hosts.inside(self.layout, host.name, words))

    def enlarge_disk(self, size: int) -> None:
        """The small disk on the laptop has so many bytes now."""
        words = ["mount", "-o", f"remount,size={size}", str(self.layout.small)]
        processes.call(hosts.inside(self.layout, LAPTOP.name, words))

    # making

    def prepare(self) -> None:
        """The hosts are up and connected, lena's home is as new, and nothing of hers runs."""
        self._start_hosts()
        self._end_all()
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        self._give(self.home)
        self.mend()
        (self.home / ".ssh").chmod(0o700)
        config = _CONFIG.format(
            login=self.layout.address(LOGIN),
            inner=self.layout.inner(LOGIN),
            jump=self.layout.address(JUMP),
            codes=login.CODES,
        )
        self.write(".ssh/config", config)
        key = self.layout.key(LENA)
        self.write(".ssh/id_ed25519", key.read_text()).chmod(0o600)
        self.write(".ssh/id_ed25519.pub", key.with_suffix(".pub").read_text())
        certified = self.home / ".ssh/id_certified"
        processes.call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(certified)])
        for file in (certified, certified.with_suffix(".pub")):
            self._give(file)

    def mend(self) -> None:
        """Ends what lena runs, and what faults are left."""
        self._end_all()
        self.link(True)
        self.slow(None)
        self.accept_host_key()

    def _end_all(self) -> None:
        """Also what was started meanwhile: none of it writes to lena's home any more."""
        name = hosts.holder(LAPTOP.name)
        processes.wait_until(
            lambda: not processes.kill_inside(self.layout, name),
            processes.LONG,
            "what lena runs does not end",
        )

    def _start_hosts(self) -> None:
        layout = self.layout
        if all(processes.pid(layout, name) for name in _DAEMONS):
            return
        if processes.pid(layout, hosts.holder(LOGIN.name)) is None:
            raise ClusterError("the cluster is not up")
        for name in reversed(_DAEMONS):
            processes.stop(layout, name)
        hosts.disconnect(layout, OUTSIDE)
        layout.home(LENA).mkdir(exist_ok=True)
        hosts.make_host(layout, JUMP)
        hidden = (layout.homes, layout.shared, layout.state, layout.slurm)
        # What stands at /etc is mounted there: its place below the root is another.
        hosts.make_host(layout, LAPTOP, (*hidden, Path("/etc/slurm")))
        hosts.connect_inside(layout)
        login.start_codes(layout)
        login.start_jump(layout)

    def _give(self, path: Path) -> None:
        uid = self.layout.uid(LENA)
        os.chown(path, uid, uid)


_DAEMONS = (*(hosts.holder(host.name) for host in OUTSIDE), "sshd-codes", "sshd-jump")
