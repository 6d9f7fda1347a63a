"""A target as its Slurm has it: clock, account, partition, MPI, and a run on trial."""

from __future__ import annotations

import grp
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

from hpcrun.config import RunConfiguration
from hpcrun.errors import HpcrunError, SchedulerError
from hpcrun.reading import read_value
from hpcrun.scheduler.inventory import (
    JobLimits,
    accounts_of,
    configuration,
    controllers_clock,
    limits_of,
    limits_of_qos,
    mpi_types,
    partitions_in,
    said,
)
from hpcrun.scheduler.slurm import Slurm
from hpcrun.site import SiteConfig
from hpcrun.workflow.doctor.account import Person, account, is_missing, one_of
from hpcrun.workflow.doctor.jobs import accounting, jobs, requeue
from hpcrun.workflow.doctor.partition import partition
from hpcrun.workflow.doubts import doubts_of_site
from hpcrun.workflow.finding import Finding, Grade
from hpcrun.workflow.honoured import FAR_APART
from hpcrun.workflow.prepare import Prepared
from hpcrun.workflow.session import Session
from hpcrun.workflow.smallest import smallest

_ANSWER = re.compile(r"to start at (\S+) using (\d+) processors on nodes (\S+)")


def of_target(session: Session, site: SiteConfig, name: str, slurm: Slurm) -> Iterator[Finding]:
    """Asks of the configuration, the partitions, the accounts, the limits of jobs, the jobs, the
    types of MPI and a run on trial, each once. name: the target's."""
    environ, target = slurm.asking(), site.targets[name]
    before = time.time()
    try:
        told = said(environ, "scontrol", "show", "config")
        after = time.time()
        partitions = partitions_in(said(environ, "scontrol", "--oneliner", "show", "partition"))
    except SchedulerError as error:
        yield Finding("error", "scontrol", error.message, error.hint)
        return
    config = configuration(told)
    yield from clock(before, after, controllers_clock(told))
    try:
        accounts: Sequence[str] | None = accounts_of(environ)
    except SchedulerError:
        accounts = None  # no accounting here, or it does not answer
    rules = site.scheduler.account
    given = one_of(accounts, target.account_suffix) if is_missing(site) else None
    trial = _prepared(session, site, name, given)
    used = trial.plan.job.account if isinstance(trial, Prepared) else rules.default
    person = Person(accounts, _groups(), used)
    yield from account(site, person, config)
    yield from partition(site.id, name, target, partitions, person)
    yield from accounting(site.scheduler, config)
    yield from requeue(site.scheduler, config)
    yield from jobs(site.scheduler, _limits(environ, config, person), _held(slurm))
    try:
        yield from mpi(site, mpi_types(said(environ, "srun", "--mpi=list")), config)
    except SchedulerError as error:
        yield Finding("warning", "MPI", error.message, error.hint)
    if is_missing(site) and given is None:
        yield Finding("warning", "trial", "no run is tried: it needs an account")
    elif isinstance(trial, HpcrunError):
        for problem in getattr(trial, "problems", ()) or (trial,):
            yield Finding("error", "trial", str(problem), "mend the site file")
    else:
        for doubt in doubts_of_site(trial.plan, site, date.today(), os.uname().machine):
            yield Finding("warning", f"site {site.id}", doubt)
        yield _tried(slurm, trial.script.text)


def _limits(
    environ: Mapping[str, str], config: Mapping[str, str], person: Person
) -> JobLimits | None:
    """How many jobs Slurm lets the user have; None where it tells nobody, or does not heed them."""
    used = person.account or next(iter(person.accounts or ()), None)
    if used is None or "limits" not in config.get("AccountingStorageEnforce", ""):
        return None
    try:
        return limits_of(environ, used, limits_of_qos(environ))
    except SchedulerError:
        return None


def _held(slurm: Slurm) -> int:
    """How many of the user's jobs wait or run."""
    try:
        return sum(not word.state.is_end for word in slurm.jobs().values())
    except SchedulerError:
        return 0


def clock(before: float, after: float, controllers: float | None) -> Iterator[Finding]:
    """This host's clock before and after the controller was asked for its own."""
    if controllers is None:
        return
    # It tells whole seconds.
    apart = max(before - (controllers + 1), controllers - after, 0.0)
    if apart > FAR_APART:
        message = f"this host's and the controller's are {apart:.0f} s apart: times of runs are off"
        yield Finding("warning", "clock", message, "tell your cluster's staff")
    else:
        yield Finding("ok", "clock", "as the controller's")


def mpi(site: SiteConfig, known: Sequence[str], config: Mapping[str, str]) -> Iterator[Finding]:
    """Whether srun knows the types of MPI that the site tells it to start programs with."""
    rules = site.launch.mpi
    told = {"type": rules.type, **{f"types.{name}": kind for name, kind in rules.types.items()}}
    wrong = {key: kind for key, kind in told.items() if kind is not None and kind not in known}
    for key, kind in wrong.items():
        message = f"srun knows no --mpi={kind}: it knows {', '.join(known) or 'none'}"
        yield Finding("error", f"launch.mpi.{key}", message, "mend the site file")
    if not wrong:
        default = config.get("MpiDefault", "none")
        message = f"--mpi={rules.type}" if rules.type else f"srun's default, {default}"
        yield Finding("ok", "MPI", f"{message}; srun knows {', '.join(known)}")


def _prepared(
    session: Session, site: SiteConfig, name: str, account: str | None
) -> Prepared | HpcrunError:
    """The smallest run there, or what keeps it from being one."""
    with tempfile.TemporaryDirectory() as empty:
        config = smallest(site, name, ["true"], Path(empty), account=account)
        config.experiment = "hpcrun-doctor"
        try:
            return session.prepare(read_value(RunConfiguration, config))
        except HpcrunError as error:
            return error


def _tried(slurm: Slurm, script: str) -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "script.sh")
        path.write_text(script, encoding="utf-8")
        try:
            answer = slurm.try_out(path)
        except SchedulerError as error:
            grade: Grade = "warning" if error.transient else "error"
            return Finding(grade, "trial", f"a small run is refused: {error.message}", error.hint)
    return Finding("ok", "trial", f"a small run {starts(answer, time.time())}")


def starts(answer: str, now: float) -> str:
    """What sbatch --test-only answers, for people. now: Unix seconds."""
    match = _ANSWER.search(answer)
    if match is None:
        return f"would be taken: {answer}"
    when, _, nodes = match.groups()
    if not when.isdecimal():
        return f"could start at {when}, on {nodes}"
    wait = int(when) - now
    if wait < 60:
        return f"could start now, on {nodes}"
    return f"could start in {timedelta(seconds=int(wait))}, on {nodes}"


def _groups() -> list[str]:
    """The names of this user's groups; a number that has no name is left out."""
    found = []
    for number in {os.getegid(), *os.getgroups()}:
        try:
            found.append(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return found
