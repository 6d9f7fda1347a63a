"""What tests share: one Slurm test cluster for the whole process, and a project folder."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from hpcrun import Experiment, Workspace
from hpcrun.store.sdk import publish
from tests import campaign
from tests.agent_job import Job
from tests.alice import Alice, at_work, code_for_all
from tests.cluster import Cluster
from tests.cluster.failure import NotHere
from tests.cluster.hosts import has_controllers
from tests.cluster.laptop import Laptop
from tests.cluster.layout import Layout
from tests.commands import TRAIN
from tests.far import Far
from tests.lab import Lab, accounting, make_lab
from tests.notebook import notebook_folder
from tests.submission import Place, make_place

_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
"""The number of this process among those that share the tests; empty if it is alone."""

# A shell that starts them in the background has them ignore both, and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# Of all properties: how long an example takes on a busy machine says nothing of what is tested. A
# whole run of the tests tries the same ones each time; new ones are tried where somebody looks on.
settings.register_profile(
    "hpcrun",
    deadline=None,
    derandomize=bool(_WORKER),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hpcrun")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the tests, each has a cluster of its own, for whole files.

    The last of them begins with what needs none: it computes while the others wait for Slurm.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if not _on_cluster(config.rootpath / file):
                return nodeid
            return file if has_controllers() else "the cluster"

        def _assign_work_unit(self, node: Any) -> None:
            if node.gateway.id == f"gw{self.numnodes - 1}":
                alone = next((scope for scope in self.workqueue if "::" in scope), None)
                if alone is not None:
                    self.workqueue.move_to_end(alone, last=False)
            super()._assign_work_unit(node)

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Most processes begin with what takes longest."""
    if _WORKER:
        items.sort(key=lambda item: not _on_cluster(item.path))


@functools.cache
def _on_cluster(file: Path) -> bool:
    return "pytest.mark.cluster" in file.read_text()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stats = terminalreporter.stats
    lines = campaign.summary([*stats.get("passed", ()), *stats.get("failed", ())])
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> campaign.Figures:
    """Where a test of a fault tells what came of it."""
    return campaign.Figures(request)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The test cluster. One that is up already is used, and stays."""
    if os.geteuid() != 0:
        pytest.skip("the Slurm test cluster needs root")
    if shutil.which("apt-get") is None and shutil.which("slurmctld") is None:
        pytest.skip("Slurm is not installed, and there is no apt-get to install it with")
    cluster = Cluster(Layout.default(after=int(_WORKER or 0)))
    with cluster.in_use():
        yield cluster


@pytest.fixture(scope="session")
def code(cluster: Cluster) -> Iterator[Path]:
    """A copy of hpcrun that the users of the test cluster can read."""
    with code_for_all(cluster) as code:
        yield code


@pytest.fixture
def alice(cluster: Cluster, code: Path) -> Iterator[Alice]:
    """A user at work on the login node."""
    with at_work(cluster, code) as alice:
        yield alice


@pytest.fixture(scope="session")
def lab(cluster: Cluster) -> Lab:
    """hpcrun, installed for the users of the test cluster."""
    return make_lab(cluster)


@pytest.fixture
def place(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty workspace on the cluster, and a source folder."""
    with make_place(lab, request.node.name) as place:
        yield place


@pytest.fixture(scope="module")
def accounted(lab: Lab) -> Iterator[Lab]:
    """The cluster with slurmdbd, and nobody else's jobs."""
    with accounting(lab, True):
        lab.cluster.drop_jobs()
        yield lab
        lab.cluster.drop_jobs()


@pytest.fixture
def laptop(cluster: Cluster) -> Iterator[Laptop]:
    """lena's machine outside of the cluster, as new: it reaches the login node by SSH only."""
    laptop = cluster.laptop
    laptop.prepare()
    yield laptop
    laptop.mend()


@pytest.fixture
def far(laptop: Laptop, lab: Lab) -> Far:
    """hpcrun on the laptop; `far:` is the login node, as the site file says."""
    far = Far(laptop, lab)
    far.site("far")
    return far


@pytest.fixture(scope="module")
def network(cluster: Cluster) -> Iterator[Path]:
    """A network file system of alice's, mounted on login, n1 and n2, each with its own client.

    Clients end with the login node's sshd, which others restart, and with nodes that fail.
    """
    try:
        path = cluster.mount_network("login", "n1", "n2")
    except NotHere as error:
        pytest.skip(str(error))
    yield path
    cluster.unmount_network()


@pytest.fixture(scope="session")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What travels to the nodes, as submit publishes it."""
    return publish(tmp_path_factory.mktemp("sdk"))


@pytest.fixture
def job(tmp_path: Path, sdk: Path) -> Job:
    """A job's setting, for an agent without Slurm."""
    return Job(tmp_path, sdk).make()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a workspace of its own, as the current folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "run.yaml").write_text("script: train.py\nexperiment: line\n")
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "history"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of an interpreter that begins runs of its own."""
    return notebook_folder(tmp_path, monkeypatch)


@pytest.fixture
def experiment(notebook: Path) -> Experiment:
    """An experiment in its workspace."""
    return Experiment(Workspace.from_config(), "notes")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter and write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)
