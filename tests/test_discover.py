"""A site file from what Slurm tells: its parsers, and what is made of odd clusters."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.errors import ConfigError, SchedulerError
from hpcrun.scheduler.inventory import (
    Inventory,
    JobLimits,
    Node,
    configuration,
    limits_in,
    mpi_types,
    nodes_in,
    partitions_in,
)
from hpcrun.site import SiteConfig
from hpcrun.site.scheduler import RequeueRules
from hpcrun.workflow.discover import Discovered, discover, keep, site_file
from hpcrun.workflow.site import load_site

# As Slurm 22.05 prints them, without what is not read.
CONFIG = """\
Configuration data as of 2026-11-25T21:42:17
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = Deep Thought
JobRequeue              = 0
MaxArraySize            = 500
PreemptExemptTime       = 1-01:00:30
JobSubmitPlugins        = lua
MpiDefault              = none
SelectType              = select/cons_tres
SelectTypeParameters    = CR_CORE
SLURM_VERSION           = 22.05.8

MPI Plugins Configuration:
SelectType              = not this one
"""
PARTITIONS = """\
PartitionName=on Default=NO DefaultTime=NONE MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 \
OverSubscribe=EXCLUSIVE PreemptMode=REQUEUE PriorityTier=1 RootOnly=NO State=UP Nodes=a[1-3] \
GraceTime=300 QoS=N/A
PartitionName=7up Default=YES DefaultTime=00:30:00 MaxNodes=2 MaxTime=1-00:00:00 MinNodes=2 \
OverSubscribe=NO PreemptMode=OFF PriorityTier=9 RootOnly=NO State=UP Nodes=a[1-3] \
GraceTime=300 QoS=few
PartitionName=shut MaxTime=UNLIMITED State=DOWN RootOnly=NO
PartitionName=staff MaxTime=UNLIMITED State=UP RootOnly=YES
"""
NODES = """\
NodeName=a1 Arch=x86_64 CPUEfctv=62 CPUTot=64 Gres=gpu:a100:4(S:0-1) OS=Linux 6.1 #1 SMP \
RealMemory=512000 Partitions=on,7up Comment=gpu:9 of old
NodeName=a2 Arch=x86_64 CPUTot=32 Gres=gpu:v100:2,gpu:v100:2 RealMemory=256000 Partitions=on
NodeName=a3 Arch=aarch64 CPUTot=8 Gres=gpu:3 RealMemory=1 Partitions=
NodeName=a4 Arch=x86_64 CPUTot=8 Gres=(null) RealMemory=8000 Partitions=7up
"""
MPI = """\
MPI plugin types are...
\tpmix
\tnone
\tpmi2
specific pmix plugin versions available: pmix_v4,pmix_v5
"""

CLUSTER = Inventory(
    name="Deep Thought",
    release="22.05.8",
    config=configuration(CONFIG),
    partitions=partitions_in(PARTITIONS),
    nodes=nodes_in(NODES),
    accounts=("own", "lab"),
    mpi=mpi_types(MPI),
    unknown=(),
    limits=JobLimits(1000, 100),
    of_qos={"few": JobLimits(None, 4), "normal": JobLimits()},
)


def read(found: Discovered, tmp_path: Path) -> SiteConfig:
    assets = Assets(tmp_path / "project", tmp_path / "user", tmp_path / "staff")
    path = keep(found, assets)
    assert path.parent == tmp_path / "user/site_configs"
    with pytest.raises(ConfigError, match="already"):
        keep(found, assets)
    return load_site(found.name, assets)


@pytest.mark.parametrize("name", ["../x", "local", "a b", ".", ""])
def test_a_site_has_a_name_of_its_own(name: str, tmp_path: Path) -> None:
    found = site_file(CLUSTER, "login1", "x")._replace(name=name)
    with pytest.raises(ConfigError, match="is no name for a site"):
        keep(found, Assets(None, tmp_path / "user"))
    assert not list(tmp_path.rglob("*.yaml"))


def test_what_ships_is_not_hidden(tmp_path: Path) -> None:
    assets = Assets(None, tmp_path / "user", tmp_path / "staff")
    found = site_file(CLUSTER, "login1", "mila")
    with pytest.raises(ConfigError, match=r"known of mila already would be hidden: .*/mila\.yaml"):
        keep(found, assets)
    assert not list(tmp_path.rglob("*.yaml"))
    keep(site_file(CLUSTER, "login1", "mila-2"), assets)


def test_nodes_are_read_with_their_gpus() -> None:
    assert nodes_in(NODES) == [
        Node("a1", 62, 512000, 4, "a100", "x86_64", ("on", "7up")),
        Node("a2", 32, 256000, 4, "v100", "x86_64", ("on",)),
        Node("a3", 8, 1, 3, "", "aarch64", ()),
        Node("a4", 8, 8000, 0, "", "x86_64", ("7up",)),
    ]


def test_types_of_mpi_are_read() -> None:
    assert mpi_types(MPI) == ["pmix", "none", "pmi2", "pmix_v4", "pmix_v5"]


def test_a_file_is_made_of_a_cluster_and_can_be_read(tmp_path: Path) -> None:
    found = site_file(CLUSTER, "login1", modules="Lmod")
    assert found.targets == ["deep-thought/on", "deep-thought/7up"]
    site = read(found, tmp_path)
    assert (site.id, site.title) == ("deep-thought", "The cluster Deep Thought")
    assert site.default_target == "7up"
    assert site.scheduler.gpu.form == "gpus_per_node"
    assert site.scheduler.memory.mode == "ignored"
    assert site.scheduler.account.default == "own"
    assert site.launch.mpi.type == "pmix"
    first, second = site.targets["on"], site.targets["7up"]
    assert (first.preemptible, first.exclusive, first.nodes.max) == (True, True, 2)
    assert (first.node.cpus, first.node.gpus, first.node.gpu_model) == (62, 4, None)
    assert first.time.max is None
    assert (second.preemptible, second.nodes.min, second.nodes.max) == (False, 2, 2)
    assert (second.node.gpu_model, second.node.memory) == ("a100", "512000M")
    assert (second.time.default, second.time.max) == ("00:30:00", "1-00:00:00")


def test_what_becomes_of_jobs_is_learnt(tmp_path: Path) -> None:
    site = read(site_file(CLUSTER, "login1", modules="Lmod"), tmp_path)
    rules = site.scheduler
    assert (rules.accounting, rules.max_array_size, site.modules.system) == (True, 500, "lmod")
    assert (rules.max_jobs, rules.max_running_jobs) == (1000, 100)
    assert rules.requeue == RequeueRules(default=False, guaranteed_seconds=90030)
    assets = Assets(None, tmp_path / "user", None)
    first, second = (load_site(site.id, assets, name).scheduler for name in ("on", "7up"))
    assert (first.requeue.signal, first.requeue.notice_seconds) == ("TERM", 300)
    assert (second.requeue.signal, second.max_jobs, second.max_running_jobs) == (None, 1000, 4)


def test_limits_of_jobs_are_read() -> None:
    told = "normal||\nfew|20|4\nodd|x|7|more\nnothing\n"
    assert limits_in(told) == {
        "normal": JobLimits(),
        "few": JobLimits(20, 4),
        "odd": JobLimits(None, 7),
    }
    assert JobLimits(20, None).within(JobLimits(30, 4)) == JobLimits(20, 4)


def test_what_was_not_told_is_said(tmp_path: Path) -> None:
    told = "\n".join(site_file(CLUSTER, "login1", modules="Lmod").unknown)
    for said in ("run_history_root", "scheduler.poll", "Lmod here", "(lua)", "has several"):
        assert said in told
    bare = CLUSTER._replace(name="", config={}, accounts=(), mpi=(), unknown=("accounts",))
    found = site_file(bare, "login1")
    assert found.unknown[0] == "accounts"
    site = read(found, tmp_path)
    assert (site.id, site.scheduler.gpu.form, site.launch.mpi.type) == ("cluster", "gres", None)
    left_out = [text for text in found.unknown if "leaves out" in text]
    assert [text.rpartition(" ")[2] for text in left_out] == [
        *("(scheduler.accounting)", "(scheduler.requeue)", "(scheduler.max_array_size)")
    ]
    off = CLUSTER._replace(config={**CLUSTER.config, "AccountingStorageType": "(null)"})
    assert "  accounting: false\n" in site_file(off, "login1").text


@pytest.mark.parametrize("name", ["on", "null", "a: b", "-x", "it's", "#1", "ünï", "1e3"])
def test_names_of_all_kinds_arrive(name: str, tmp_path: Path) -> None:
    (partition,) = partitions_in("PartitionName=x State=UP Default=YES\n")
    odd = CLUSTER._replace(partitions=[partition._replace(name=name)], accounts=(name, "b"))
    site = read(site_file(odd, name), tmp_path)
    assert (list(site.targets), site.targets[name].partition) == ([name], name)
    assert (site.default_target, site.scheduler.account.default) == (name, name)


def test_without_slurm_it_says_so() -> None:
    with pytest.raises(SchedulerError, match="scontrol cannot be run"):
        discover({"PATH": "/nowhere"}, "here")
