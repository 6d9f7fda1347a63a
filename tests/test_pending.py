"""Submissions to another machine of which it is not known what became of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hpcrun.workflow.pending import Pending

NOTE = """\
import sys
from pathlib import Path
from hpcrun.workflow.pending import Pending

with Pending(Path(sys.argv[1]), "far:").noted("a_1_0"):
    print("noted", flush=True)
    sys.stdin.read()
"""


def test_who_is_at_work_on_a_submission_is_the_only_one_to_ask_of_it(tmp_path: Path) -> None:
    pending = Pending(tmp_path, "far:")
    with pending.noted("b_1_0"):
        assert Pending(tmp_path, "far:").runs() == [] and pending.has("b_1_0")
    assert Pending(tmp_path, "other:").runs() == [] and pending.runs() == ["b_1_0"]
    pending.remove("b_1_0")
    words = [sys.executable, "-c", NOTE, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"noted\n"
        assert pending.runs() == []
        other.kill()
    assert pending.runs() == ["a_1_0"]
