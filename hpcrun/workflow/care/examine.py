"""Examining one run: its journals, its sealed files, and the files that its record tells of."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import StoreError
from hpcrun.layout import JournalKind, RunPaths
from hpcrun.record import RunRecord
from hpcrun.store import FileStore
from hpcrun.store.layers import kind_of
from hpcrun.store.plain import open_plain
from hpcrun.store.stored import StoredRun
from hpcrun.workflow.care.finding import (
    Finding,
    Grade,
    Look,
    SetAside,
    count_of,
    note,
    some,
    words_of,
    wrong,
)
from hpcrun.workflow.care.images import Images
from hpcrun.workflow.care.lines import PLACES, BadLines, lines
from hpcrun.workflow.care.seals import findings_of_seals
from hpcrun.workflow.code import digest_of
from hpcrun.workflow.files import found_on_disk, take_inventory
from hpcrun.workflow.inventory import CLOSED, FILE, Taken, compare, is_closed, keep, known


class Examined(NamedTuple):
    """What was found of a run. digest: of its snapshot, if it has one and its record is read."""

    findings: Sequence[Finding]
    digest: str | None = None


def examine(
    store: FileStore, paths: RunPaths, user: str, look: Look, tell: Callable[[int], None]
) -> Examined:
    """All findings of a run. Nothing is changed but that digests are added which were not known.

    tell: hears of the bytes of files that were read.
    """
    run = store.stored(paths)
    images = Images(set(), set())
    journals = _Journals(run, look, images)
    findings = [*journals.findings(), *findings_of_seals(run, look, images)]
    try:
        if journals.size > look.of_record:
            message = f"its record has {journals.size} bytes, of which {look.of_record} are read"
            raise StoreError(message, f"look into {paths.record}")
        record = store.read(paths.run_id, user)
    except StoreError as error:
        if not any(finding.grade is Grade.WRONG for finding in findings):
            cure = error.hint or "a backup may have it whole"
            findings.append(wrong(run, "record", paths.record, error.message, cure))
        return Examined(findings)
    findings += images.missing(run)
    if record.has_ended:
        keeps = look.limit is None and all(f.grade is not Grade.WRONG for f in findings)
        findings += _files(store, record, run, look, keeps, tell)
    digest = digest_of(record)
    if record.imported is not None and digest and not Path(paths.owner.manifest(digest)).exists():
        digest = None  # where it came from it was missing as well
    return Examined(findings, digest)


# -- journals -------------------------------------------------------------------------------------


class _Journals:
    """The journals of a run that are not sealed, each read once."""

    def __init__(self, run: StoredRun, look: Look, images: Images) -> None:
        self.size = 0
        """Bytes of what makes its record, without metrics and images."""
        self._run = run
        self._look = look
        self._images = images

    def findings(self) -> Iterator[Finding]:
        record = Path(self._run.paths.record)
        has_any = False
        for entry in _entries(record):
            if entry.is_dir(follow_symlinks=False):
                continue
            has_any = True
            if not entry.is_file(follow_symlinks=False):
                yield self._odd(entry.path)
            elif kind_of(entry.name) is not None:
                yield from self._journal(Path(entry.path))
            else:
                self.size += entry.stat(follow_symlinks=False).st_size
        if not record.is_dir() or self._run.is_whole or self._run.seals():
            return
        if self._run.retired_folders():
            return  # what is told of the seals says it
        what = "its journals are there" if has_any else "nothing is in it"
        message = f"the record has no run.json; {what}"
        yield wrong(self._run, "record", record, message, "look into it, then remove it")

    def _odd(self, path: str) -> Finding:
        message = "is a link, a pipe or the like where a plain file should be; no reader passes it"
        return wrong(self._run, "record", path, message, "remove it")

    def _journal(self, path: Path) -> Iterator[Finding]:
        bad, kind = BadLines(), kind_of(path.name)
        try:
            with open_plain(path) as file:
                size = os.fstat(file.fileno()).st_size
                if kind is JournalKind.FACTS:
                    self.size += size
                for line in lines(file, self._look.limit):
                    bad = bad.with_line(line)
                    if line.artifact is not None:
                        self._images.there.add(line.artifact)
                    elif line.fact is not None and kind is JournalKind.METRICS:
                        self._images.tell([line.fact])
        except (OSError, StoreError) as error:
            message = f"cannot be read: {words_of(error)}"
            yield wrong(self._run, "journal", path, message, "look into it")
            return
        if self._look.is_too_long(size):
            message = f"has {size} bytes, of which {self._look.limit} were read"
            yield note(self._run, "journal", path, message)
        if bad.garbled:
            places = ", ".join(map(str, bad.places)) + (" …" if bad.garbled > PLACES else "")
            message = f"{count_of(bad.garbled, 'line')} garbled or foreign (line {places})"
            cure = "what they told is lost; a backup of the journal may have it"
            yield wrong(self._run, "journal", path, message, cure)
        if bad.torn:
            message = f"{count_of(bad.torn, 'line')} torn: its writer was never told that it stood"
            yield note(self._run, "journal", path, message)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name; nothing if it is none, or a link."""
    if not stat.S_ISDIR(_mode(folder)):
        return []
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(found, key=lambda entry: entry.name)


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


# -- files ----------------------------------------------------------------------------------------


def _files(
    store: FileStore,
    record: RunRecord,
    run: StoredRun,
    look: Look,
    keeps: bool,
    tell: Callable[[int], None],
) -> Iterator[Finding]:
    """Files that the record of an ended run tells of, and that are not there as it tells.

    keeps: whether digests that were not known go into the record.
    """
    try:
        taken = known(run)
    except StoreError as error:
        path, mend = f"{run.paths.record}/{FILE}", SetAside() if look.limit is None else None
        found = wrong(run, "files.json", path, error.message, error.hint)
        yield found._replace(mend=mend)
        return
    uploads = {f.name: Taken(f.size, 0, f.sha256) for f in record.uploads if f.sha256}
    # What an upload became before the run's end is the script's own affair.
    told = {**uploads, **(taken or {})}
    here = dict(found_on_disk(run.paths))
    absent = told.keys() - here.keys()
    closed = {name for name in absent if is_closed(run.paths, name)}
    odd = {CLOSED: closed, "missing": absent - closed, "changed": set()}
    for name, file in told.items():
        if name in here and here[name].st_size != file.size:
            odd["changed"].add(name)
    if look.digests:
        small = {n: s for n, s in here.items() if not look.is_too_long(s.st_size)}
        wanted = {name: told[name] for name in told.keys() & small.keys()}
        compared = compare(run.paths, wanted, ((n, small[n]) for n in wanted), tell)
        for what, _, name in (line.partition(": ") for line in compared.differences):
            odd.setdefault(what, set()).add(name)
        if keeps and taken is None:
            take_inventory(store, record)
        elif keeps and taken is not None and compared.learned:
            keep(store, run.paths, {**taken, **compared.learned})
    later = [n for n, file in uploads.items() if taken and n in taken and _differ(file, taken[n])]
    if later:
        message = f"changed after its upload, before the run's end: {some(sorted(later))}"
        yield note(run, "file", run.paths.files, message)
    left_out = record.imported.left_out if record.imported is not None else 0
    if record.imported is not None and record.imported.mirror:
        odd["missing"].clear()  # a mirror has the files that were asked for
    if 0 < len(odd["missing"]) <= left_out:
        message = (
            f"{len(odd.pop('missing'))} of {len(told)} files did not come when it was imported"
        )
        yield note(run, "file", run.paths.files, message)
    if names := odd.pop(CLOSED):
        message = f"{CLOSED}: {len(names)} of {len(told)} files: {some(sorted(names))}"
        yield note(run, "file", run.paths.files, message)
    for what, names in odd.items():
        if names:
            message = f"{what}: {len(names)} of {len(told)} files: {some(sorted(names))}"
            cure = f"a backup may have them; hpcrun files --check {run.paths.run_id} lists all"
            yield wrong(run, "file", run.paths.files, message, cure)


def _differ(file: Taken, other: Taken) -> bool:
    """Whether two are not the same file, as far as that is known."""
    return file.size != other.size or other.sha256 not in (None, file.sha256)
