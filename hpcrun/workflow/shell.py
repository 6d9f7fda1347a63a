"""A shell, or connections, beside a running job."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from hpcrun.errors import ConfigError, PlanError, Problem, SchedulerError
from hpcrun.layout import INTERACTIVE, LOCAL
from hpcrun.ports import Command, JobId
from hpcrun.record import RunRecord
from hpcrun.site import SiteConfig
from hpcrun.workflow.mirrored import expect_here
from hpcrun.workflow.session import Session

OVERLAP = "--overlap"
"""The option of srun without which a step cannot be beside others."""


class Beside(NamedTuple):
    """A place beside a running job. rank: whose environment is wanted; None: the whole run's."""

    session: Session
    record: RunRecord
    node: str
    rank: int | None

    def shell(self, words: Sequence[str], terminal: bool, term: str) -> Command:
        """What runs a command there, or a shell (no words). term: the kind of terminal."""
        told = {
            "run_id": self.record.run_id,
            "attempt": str(self.record.attempt.attempt),
            "rank": self.rank,
            "words": list(words),
            "term": term,
        }
        return self._step(["beside", json.dumps(told)], terminal)

    def relay(self) -> Command:
        """What passes on connections to the node. PlanError: the site does not allow it."""
        site = self.session.site(self.record.target)
        if site.ssh.port_forwarding is False:
            raise PlanError(
                Problem(
                    f"{site.title or site.id} does not allow port forwarding",
                    f"says {_who_says(self.session, site, 'ssh.port_forwarding')}",
                )
            )
        return self._step(["relay"], False)

    def _step(self, words: Sequence[str], terminal: bool) -> Command:
        record = self.record
        agent = [*record.request["agent"]["words"], *words]
        scheduler = self.session.scheduler(record.target)
        return scheduler.beside(JobId(record.job_id or ""), self.node, agent, terminal)


def beside(session: Session, record: RunRecord, node: str | None, rank: int | None) -> Beside:
    """The place beside a run. record: up to date. node: a name, or a number from 0; default: the
    rank's, else the first. ForeignRun, PlanError, SchedulerError, ConfigError."""
    session.store.expect_own(record.run_id, record.user)
    expect_here(record, "shell")
    _expect_a_job(session, record)
    nodes = record.attempt.nodes
    if record.state.is_end:
        raise SchedulerError(
            f"run {record.run_id} has ended ({record.state}), and its job with it",
            "what it left: hpcrun logs, hpcrun files",
        )
    if record.job_id is None or not nodes:
        raise SchedulerError(
            f"run {record.run_id} is {record.state}: its job is on no node yet",
            f"hpcrun show {record.run_id} tells why it waits",
            transient=True,
        )
    chosen = _of_rank(record, rank) if rank is not None else 0
    if node is not None:
        chosen = _number(node, nodes)
    return Beside(session, record, nodes[chosen], rank)


def _expect_a_job(session: Session, record: RunRecord) -> None:
    run_id = record.run_id
    if record.target == INTERACTIVE:
        raise PlanError(Problem(f"run {run_id} has no job: your own process is the run"))
    if record.request.get("tasks"):
        hint = f"name one of its tasks: hpcrun show {run_id}"
        raise PlanError(Problem(f"run {run_id} has no job of its own", hint))
    if record.target == LOCAL:
        folder = session.store.paths(run_id).files
        hint = f"its folder: cd {shlex.quote(folder)}"
        raise PlanError(Problem(f"run {run_id} runs on {LOCAL}: any shell here is beside it", hint))
    site = session.site(record.target)
    reason = site.scheduler.directives.forbid.get(OVERLAP)
    if reason is not None:
        message = f"{site.title or site.id} does not accept {OVERLAP}, so nothing runs beside a job"
        raise PlanError(Problem(message, reason))


def _of_rank(record: RunRecord, rank: int) -> int:
    """The number of a rank's node: ranks are dealt out in blocks, parameter servers after them."""
    launch = record.request["launch"]
    nodes, each = launch["nodes"], launch["processes_per_node"]
    if not 0 <= rank < nodes * each:
        raise ConfigError(
            Problem(f"run {record.run_id} has no rank {rank}", f"0 to {nodes * each - 1}")
        )
    return int(rank % nodes if launch["launcher"] == "tensorflow" else rank // each)


def _number(node: str, nodes: Sequence[str]) -> int:
    named = [n for n, name in enumerate(nodes) if node in (name, name.split(".")[0], str(n))]
    if not named:
        raise ConfigError(Problem(f"the job is not on {node}", f"it is on {', '.join(nodes)}"))
    return named[0]


def _who_says(session: Session, site: SiteConfig, key: str) -> str:
    from hpcrun.workflow.sites import facts_of  # brings the rendering of scripts

    told = next(fact for fact in facts_of(site.id, session.assets) if fact.key == key)
    return told.source.url if told.source is not None and told.source.url else told.origin
