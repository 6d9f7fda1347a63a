"""A workspace in use: its store, its schedulers, and the shared answers of this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.assets import Assets
from hpcrun.errors import HpcrunError
from hpcrun.ports import JobId, JobWord, Scheduler
from hpcrun.record import RunRecord
from hpcrun.saying import say_on_stderr
from hpcrun.workflow.liveness import Heartbeats
from hpcrun.workflow.settings import DEFAULT, find_workspace, open_assets, wanted_adapter

if TYPE_CHECKING:
    from hpcrun.config import RunConfiguration
    from hpcrun.plan import Awaiting
    from hpcrun.reading import Read
    from hpcrun.scheduler.adapters import Choice
    from hpcrun.scheduler.reasons import Words
    from hpcrun.site import SiteConfig
    from hpcrun.templating import Compiled
    from hpcrun.workflow.prepare import Prepared
    from hpcrun.workflow.sent import Sent


class Session:
    """What commands and the Python API work with. The constructor only stores.

    origin: where the workspace's name came from.
    """

    def __init__(self, workspace: Path, assets: Assets, origin: str = "given") -> None:
        # Who only looks for a workspace, and finds it on another machine, does without.
        from hpcrun.store import FileStore
        from hpcrun.store.users import own_name

        self.workspace = workspace
        self.origin = origin
        self.assets = assets
        self.user = own_name(workspace)
        self.store = FileStore(workspace, self.user)
        self._sites: dict[str, SiteConfig] = {}
        self._choices: dict[str, Choice] = {}

    @property
    def cache(self) -> Path:
        """This user's cache folder on this host."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "hpcrun"

    def site(self, target: str) -> SiteConfig:
        """The site of a target such as `mysite/gpu`, as that target wants it."""
        if target not in self._sites:
            from hpcrun.workflow.site import choose_target

            self._sites[target] = choose_target(target, self.assets)[0]
        return self._sites[target]

    def scheduler(self, target: str) -> Scheduler:
        """The scheduler behind a target."""
        if self.site(target).scheduler.kind == "slurm":
            return self.choice(target).scheduler
        from hpcrun.scheduler.local import Local

        return Local()

    def choice(self, target: str) -> Choice:
        """The adapter to the Slurm behind a target, for as long as this session lives.

        Where `auto` does without pyslurm, that is told on standard error.
        """
        site = self.site(target)
        if site.id not in self._choices:
            from hpcrun.scheduler.adapters import choose

            rules = site.scheduler
            choice = choose(
                wanted_adapter(self.assets.folders) or rules.adapter,
                rules.client_env,
                error_hints=rules.error_hints,
                accounting=rules.accounting,
            )
            if choice.is_less:
                say_on_stderr(f"Slurm is asked by its commands: {choice.why}")
            self._choices[site.id] = choice
        return self._choices[site.id]

    def words_on(self, reason: str, record: RunRecord) -> Words:
        """Why a run waits, in words, and what its site says of that."""
        from hpcrun.scheduler.reasons import reason_in_words

        try:
            hints = self.site(record.target).scheduler.error_hints
        except HpcrunError:
            hints = {}  # the site file of a run may be gone
        return reason_in_words(reason, record.job_id, hints)

    def jobs(self, target: str, not_older_than: float | None = None) -> Mapping[JobId, JobWord]:
        """All jobs of this user behind a target, at the pace that its site allows."""
        site = self.site(target)
        if site.scheduler.kind == "local":
            return self.scheduler(target).jobs()
        from hpcrun.scheduler.shared import shared_jobs

        def ask() -> Mapping[JobId, JobWord]:
            return self.scheduler(target).jobs()

        return shared_jobs(ask, self._answer(site), *_pace(site, not_older_than))

    def lives(
        self,
        target: str,
        job_id: JobId,
        is_enough: Callable[[Sequence[JobWord]], bool],
        not_older_than: float | None = None,
    ) -> Sequence[JobWord]:
        """All that is known of a job, at the same pace. is_enough: whether what was said before
        tells what is sought."""
        site, scheduler = self.site(target), self.scheduler(target)
        if site.scheduler.kind == "local":
            return scheduler.lives(job_id)
        from hpcrun.scheduler.shared import shared_lives

        def ask() -> Sequence[JobWord]:
            return scheduler.lives(job_id)

        file, pace = self._answers_on_jobs(site), _pace(site, not_older_than)
        return shared_lives(ask, file, job_id, *pace, is_enough)

    def _answer(self, site: SiteConfig) -> Path:
        """Where a site's answer is kept for all of this user's processes."""
        return self.cache / f"jobs-{site.id}.json"

    def _answers_on_jobs(self, site: SiteConfig) -> Path:
        return self.cache / f"lives-{site.id}.json"

    @cached_property
    def _compiled(self) -> Compiled:
        """What templates were compiled to, as long as hpcrun compiles them in the same way."""
        import hashlib

        from hpcrun import templating
        from hpcrun.remembered import Remembered

        way = hashlib.sha256(Path(templating.__file__).read_bytes()).hexdigest()
        return templating.Compiled(Remembered(self.cache / "templates", f"template {way}"))

    def prepare(
        self,
        asked: Read[RunConfiguration],
        run_id: str | None = None,
        folder: Path | None = None,
        sent: Sent | None = None,
        force: bool = False,
    ) -> Prepared:
        """Resolves and renders a run; nothing is written. sent: a source that is another
        machine's. force: directives that the site forbids are written."""
        from hpcrun.workflow.prepare import prepare

        prepared = prepare(
            asked,
            self.workspace,
            self.assets,
            run_id=run_id,
            folder=folder,
            find=self.store.find,
            sent=sent,
            force=force,
            compiled=self._compiled,
        )
        self._sites[prepared.plan.target] = prepared.site
        return prepared

    def submit(self, prepared: Prepared, parent: str | None = None) -> RunRecord:
        """Submits a prepared run. parent: the id of the run whose child it becomes.

        What speaks against it is told on standard error.
        """
        from hpcrun.workflow.doubts import doubts_here

        for doubt in doubts_here(prepared.plan, prepared.site):
            say_on_stderr(doubt)
        for doubt, cure in self.misplaced(prepared.site):
            say_on_stderr(f"{doubt}: {cure}")
        plan, scheduler = prepared.plan, self.scheduler(prepared.plan.target)
        self._before_submission(prepared.site)
        try:
            waits = self._dependency(plan.awaiting, plan.target)
            if plan.tasks is not None:
                from hpcrun.workflow.tasks import submit_tasks

                return submit_tasks(prepared, self.store, scheduler, parent, waits)
            from hpcrun.workflow.submit import submit

            return submit(prepared, self.store, scheduler, parent, waits)
        finally:
            self._forget_jobs(prepared.plan.target)

    def _before_submission(self, site: SiteConfig) -> None:
        """Waits as long as the site wants between two. SchedulerError: it takes none from here."""
        from hpcrun.transport.pace import keep_gap
        from hpcrun.workflow.doubts import jobs_of_jobs

        refused = jobs_of_jobs(site, os.environ)
        if refused is not None:
            raise refused
        gap = site.scheduler.poll.submit_gap_seconds
        if gap:
            keep_gap(self.cache / "submissions", site.id, gap)

    def misplaced(self, site: SiteConfig) -> Iterator[tuple[str, str]]:
        """That a site wants its history elsewhere than in the workspace, which nobody has named;
        and the cure."""
        from hpcrun.workflow.places import expanded, is_below

        root = site.storage.run_history_root
        if root is None or self.origin != DEFAULT:
            return
        wanted = expanded(root, os.environ)
        if not is_below(str(self.workspace), wanted):
            told = f"{self.workspace} is used since none is named; the site wants it in {wanted}"
            yield told, f"hpcrun init -w {wanted}"

    def resubmit(self, record: RunRecord, resume_from: str | Path | None = None) -> RunRecord:
        """Submits a run that has ended once more. record: up to date or not. resume_from: the
        checkpoint to begin with; default: the run's newest."""
        from hpcrun.plan import Awaiting
        from hpcrun.workflow.resubmit import check, resubmit

        (record,) = self.refreshed([record])
        check(record, self.store)
        self._before_submission(self.site(record.target))
        comment = self.site(record.target).scheduler.comment
        waits = self._dependency(Awaiting.of(record.request.get("after")), record.target)
        try:
            checkpoint = Path(resume_from).expanduser().absolute() if resume_from else None
            scheduler = self.scheduler(record.target)
            return resubmit(record, self.store, scheduler, comment, checkpoint, waits)
        finally:
            self._forget_jobs(record.target)

    def _dependency(self, awaiting: Awaiting | None, target: str) -> Sequence[str]:
        """The scheduler's options for a run that waits for others."""
        if awaiting is None:
            return ()
        from hpcrun.workflow.after import dependency

        records = [self.store.read(run.run_id, run.user) for run in awaiting.runs]
        records = self.refreshed(records, not_older_than=0)
        return dependency(awaiting, records, target, self._tasks)

    def _tasks(self, record: RunRecord) -> Sequence[RunRecord]:
        """The independent tasks that a run is made of; none, if it is not."""
        if not record.request.get("tasks"):
            return ()
        tasks = [i for i in record.children if self.store.has(i, record.user)]
        return self.refreshed(self.store.read(task, record.user) for task in tasks)

    def cancel_job(self, target: str, job_id: JobId) -> None:
        """Asks the scheduler behind a target for a job's end."""
        try:
            self.scheduler(target).cancel(job_id)
        finally:
            self._forget_jobs(target)

    def _forget_jobs(self, target: str) -> None:
        """After a change of ours: what was known of the jobs is out of date."""
        from hpcrun.scheduler.shared import forget

        site = self.site(target)
        forget(self._answer(site))
        forget(self._answers_on_jobs(site))

    def refreshed(
        self, records: Iterable[RunRecord], not_older_than: float | None = None
    ) -> list[RunRecord]:
        """The records, joined with the scheduler's word where one is needed."""
        from hpcrun.workflow.refresh import refresh

        heartbeats = Heartbeats(self.cache / "heartbeats.json")
        result = refresh(
            records,
            self.store,
            self.scheduler,
            lambda target: self.jobs(target, not_older_than),
            lambda target, job_id, enough: self.lives(target, job_id, enough, not_older_than),
            heartbeats,
        )
        heartbeats.save()
        return result

    def is_over(self, record: RunRecord) -> bool:
        """Whether nothing more happens by itself. Only a run's own user can ask its scheduler."""
        return record.has_ended or (record.state.is_end and record.user != self.user)

    def alone(self, name: str, act: Callable[[], object]) -> None:
        """Does what another process of this user on this host need not do at the same time."""
        from filelock import FileLock, Timeout

        file = self.cache / f"{name}.lock"
        lock = FileLock(file, timeout=0, mode=0o600, fallback_to_soft=False)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            return
        except OSError:
            pass  # no lock here: doing it twice does no harm
        try:
            act()
        finally:
            lock.release()

    def record(
        self, run_id: str, user: str | None = None, not_older_than: float | None = None
    ) -> RunRecord:
        """The record of a run, up to date."""
        return self.refreshed([self.store.read(run_id, user)], not_older_than)[0]


def _pace(site: SiteConfig, not_older_than: float | None) -> tuple[float, float]:
    """Seconds that an answer may be old, and while nothing changes."""
    poll = site.scheduler.poll
    if not_older_than is not None:
        return not_older_than, 0.0
    return poll.interval_seconds, poll.max_interval_seconds


def open_session(
    start: Path | None = None, given: str | None = None, templates: str | None = None
) -> Session:
    """The session of a folder (default: the current one).

    templates: a folder of templates that comes before all others.
    """
    start = (start or Path.cwd()).absolute()
    workspace, origin = find_workspace(start, os.environ, given)
    assets = open_assets(start, templates)
    if origin == DEFAULT:
        from hpcrun.workflow.whereabouts import history_here

        told = history_here(assets, os.uname().nodename, os.environ)
        workspace, origin = told or (workspace, origin)
    return Session(workspace, assets, origin)
