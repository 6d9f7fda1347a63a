"""What becomes of a user's jobs: how many there may be, and what is known of those that ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hpcrun.scheduler.inventory import JobLimits, keeps_records
from hpcrun.site import SchedulerRules, SiteConfig
from hpcrun.workflow.finding import Finding

MEND = "mend the site file"


def accounting(rules: SchedulerRules, config: Mapping[str, str]) -> Iterator[Finding]:
    """Whether sacct tells of jobs that have ended, as the site says."""
    kept = keeps_records(config)
    if kept is None:
        return
    if kept and not rules.accounting:
        message = "this Slurm keeps records, and the site says that sacct is not to be asked"
        yield Finding("warning", "accounting", message, f"scheduler.accounting: true: {MEND}")
    elif not kept and rules.accounting:
        message = (
            "this Slurm keeps no records: who canceled a job, and why a lost one ended, is lost"
        )
        cure = "scheduler.accounting: false in the site file says so"
        yield Finding("warning", "accounting", message, cure)
    else:
        told = "sacct tells of jobs that have ended" if kept else "sacct is not asked"
        yield Finding("ok", "accounting", told)


def requeue(rules: SchedulerRules, config: Mapping[str, str]) -> Iterator[Finding]:
    """Whether jobs are requeued by themselves, as the site says."""
    told, asked = config.get("JobRequeue"), rules.requeue.default
    if told not in ("0", "1"):
        return
    requeues = told == "1"
    does = "requeues jobs unless they say otherwise" if requeues else "requeues only jobs that ask"
    if asked is not None and asked != requeues:
        message = f"this Slurm {does}, and the site says the opposite"
        yield Finding("warning", "scheduler.requeue.default", message, MEND)
    else:
        yield Finding("ok", "requeue", f"this Slurm {does}")


def jobs(rules: SchedulerRules, limits: JobLimits | None, held: int) -> Iterator[Finding]:
    """Whether there is room for another job. limits: Slurm's, None where it tells none. held: how
    many there are now."""
    told = limits or JobLimits()
    of_site = JobLimits(rules.max_jobs, rules.max_running_jobs)
    for key, mine, theirs in (
        ("scheduler.max_jobs", of_site.submitted, told.submitted),
        ("scheduler.max_running_jobs", of_site.running, told.running),
    ):
        if mine is not None and theirs is not None and mine > theirs:
            yield Finding("warning", key, f"the site says {mine}, and Slurm gives {theirs}", MEND)
    most = told.within(of_site)
    if most.submitted is not None and held >= most.submitted:
        message = f"you have {held} jobs, and {most.submitted} are all that you may have"
        yield Finding("error", "jobs", message, "wait until some have ended, or cancel some")
    elif most.running is not None and held >= most.running:
        message = f"you have {held} jobs, and {most.running} run at a time: another one waits"
        yield Finding("warning", "jobs", message, "wait, or cancel some")
    else:
        running = f", of which {most.running} run at a time" if most.running is not None else ""
        may = f"you may have {most.submitted or 'any number'}{running}"
        yield Finding("ok", "jobs", f"{may}; you have {held}")


def modules(site: SiteConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the site's module system is here."""
    rules = site.modules
    found = {"LMOD_CMD": "lmod", "MODULESHOME": "tmod"}
    here = next((system for name, system in found.items() if name in environ), None)
    named = {"lmod": "Lmod", "tmod": "Environment Modules"}
    if rules.system == "none" and here is not None:
        message = f"the site says that there are no modules, and there is {named[here]}"
        yield Finding("warning", "modules", message, MEND)
    elif here is None and (rules.system in named or rules.load or rules.purge or rules.use):
        message = "there is no module system in this shell, and jobs load modules"
        cure = "log in anew; where only login shells have it: shebang: /bin/bash -l"
        yield Finding("warning", "modules", message, cure)
    elif here is not None and rules.system in named and rules.system != here:
        message = f"the site says {named[rules.system]}, and there is {named[here]}"
        yield Finding("warning", "modules", message, MEND)
    elif here is not None:
        yield Finding("ok", "modules", named[here])


def remarks(site: SiteConfig) -> Iterator[Finding]:
    """What its users had better know."""
    for remark in site.remarks:
        yield Finding("ok", f"site {site.id}", remark)
    if site.ssh.agent_policy_url is not None:
        message = f"its rules for programs that log in: {site.ssh.agent_policy_url}"
        yield Finding("ok", f"site {site.id}", message)
