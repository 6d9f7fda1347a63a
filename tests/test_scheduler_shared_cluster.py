"""One answer of the real Slurm for all of a user's processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from tests.alice import Alice, wrappers

pytestmark = pytest.mark.cluster


def test_one_question_serves_all_processes(alice: Alice) -> None:
    count = alice.folder / "count"
    bin = wrappers(alice, squeue=f'echo >> {count}; sleep 0.5; exec /usr/bin/squeue "$@"')
    job_id = alice.submit(alice.script("job.sh", "sleep 60"))
    body = 'tell(told(shared_jobs, slurm.jobs, Path("cache/jobs.json"), float(sys.argv[1])))'

    def together(pace: float, processes: int) -> Sequence[Any]:
        words = alice.words(body, pace, env=bin)
        started = [
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        return [json.loads(process.communicate()[0]) for process in started]

    answers = together(60, 6)
    assert all(job_id in answer for answer in answers)
    assert count.read_text() == "\n"
    together(60, 1)
    assert count.read_text() == "\n"
    together(0, 1)
    together(0, 1)
    assert count.read_text() == "\n" * 3
    cache = alice.folder / "cache" / "jobs.json"
    assert cache.stat().st_mode & 0o777 == 0o600


def test_a_failure_is_shared_too(alice: Alice) -> None:
    count = alice.folder / "count"
    says = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    bin = wrappers(alice, squeue=f'echo >> {count}; sleep 0.5; echo "{says}" >&2; exit 1')
    body = 'tell(told(shared_jobs, slurm.jobs, Path("jobs.json"), 60))'
    words = alice.words(body, env=bin)
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    answers = [json.loads(process.communicate()[0]) for process in started]
    assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1
    assert answers[0]["transient"] is True
    assert "connect failure" in answers[0]["message"]
    assert count.read_text() == "\n"
