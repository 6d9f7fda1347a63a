"""What the agent can be asked for. Standard library only (Python 3.8+).

check                               can the agent run here? 0, or 1 with a sentence
run [--teardown TEXT] -- WORD...    run the command as its parent; ends with its status
node                                keep another node's spool until told to stop
lay                                 lay the snapshot only, for a job whose agent cannot run
bring SPOOL RECORD                  bring a spool that was left behind; prints the bytes
bring-files WORK FILES yes|no       bring a working folder that was left behind; prints problems and
                                    the bytes (yes: its names may replace what is there)
beside TOLD                         in a step beside a run's: a command with its environment (JSON)
stage                               bring the run's data to this node; prints what came (JSON)
bring-data TOLD                     bring outputs that were left behind; prints what came (JSON)
relay                               the same: pass on connections to this node
preflight TOLD                      as a task of a run: tell what it sees, before the command (JSON)
probe                               as a task of a run: find out what the file system honours
"""

from __future__ import annotations

import os
import sys
from typing import List, Optional, Sequence, Tuple

from hpcrun.agent import agent, bringing, keeper, setting, spool
from hpcrun.agent.lay import lay_out
from hpcrun.agent.witness import say
from hpcrun.errors import HpcrunError

SDK = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The published folder: what the interpreter is called with."""

OWN_WORDS = (sys.executable, "-I", "-S", SDK)
"""Those that start the agent."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs one act of the agent (default: what the interpreter was called with); its status."""
    words = list(sys.argv[1:] if argv is None else argv)
    acts = {
        "check": _check,
        "run": _run,
        "node": _node,
        "lay": _lay,
        "bring": _bring,
        "bring-files": _bring_files,
        "stage": _stage,
        "bring-data": _bring_data,
        "beside": _beside,
        "relay": _relay,
        "preflight": _preflight,
        "probe": _probe,
    }
    if not words or words[0] not in acts:
        return _fail(f"the agent can {', '.join(acts)}; it was asked for {words[:1]}")
    try:
        return acts[words[0]](words[1:])
    except HpcrunError as error:
        return _fail(str(error))


def _fail(sentence: str) -> int:
    say(sentence)
    return 1


def _check(words: Sequence[str]) -> int:
    """All that `run` needs is imported by now; what is left is the record folder."""
    told = setting.read(os.environ)
    probe = os.path.join(told.paths.record, f".check-{told.attempt}-{told.host}-{os.getpid()}")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(probe)
    except OSError as error:
        return _fail(f"cannot write to {told.paths.record}: {error.strerror}")
    return 0


def _run(words: Sequence[str]) -> int:
    command, teardown = _split(words)
    return agent.run(command, teardown, (*OWN_WORDS, "node"))


def _split(words: Sequence[str]) -> Tuple[List[str], str]:
    """(command, teardown) of `[--teardown TEXT] -- WORD...`."""
    rest = list(words)
    teardown = ""
    if rest[:1] == ["--teardown"] and len(rest) > 1:
        teardown = rest[1]
        del rest[:2]
    if rest[:1] == ["--"]:
        del rest[:1]
    return rest, teardown


def _node(words: Sequence[str]) -> int:
    return keeper.keep_node(setting.read(os.environ), OWN_WORDS)


def _lay(words: Sequence[str]) -> int:
    told = setting.read(os.environ)
    lay_out(told.snapshot, told.paths)
    return 0


def _bring(words: Sequence[str]) -> int:
    left, record = words
    try:
        print(spool.bring(left, record))
    except OSError as error:
        return _fail(f"cannot bring {left} to {record}: {error.strerror}")
    return 0


def _bring_files(words: Sequence[str]) -> int:
    work, files, first = words
    try:
        print(bringing.bring(work, files, first == "yes", print))
    except OSError as error:
        return _fail(f"cannot bring {work} to {files}: {error.strerror}")
    return 0


def _stage(words: Sequence[str]) -> int:
    from hpcrun.agent import staging

    print(*staging.lines(setting.read(os.environ)), sep="\n", flush=True)
    return 0


def _bring_data(words: Sequence[str]) -> int:
    import json

    from hpcrun.agent import outgoing

    print(outgoing.bring_left(json.loads(words[0])))
    return 0


def _beside(words: Sequence[str]) -> int:
    import json

    from hpcrun.agent import beside

    return beside.run(json.loads(words[0]))


def _relay(words: Sequence[str]) -> int:
    from hpcrun.agent import relay

    return relay.serve()


def _preflight(words: Sequence[str]) -> int:
    import json

    from hpcrun.agent.preflight.sight import look

    print(look(os.environ, json.loads(words[0])).line, flush=True)
    return 0


def _probe(words: Sequence[str]) -> int:
    from hpcrun.agent.probe.sides import probe

    try:
        return probe(os.environ)
    except OSError as error:
        return _fail(f"cannot probe: {error}")


if __name__ == "__main__":
    raise SystemExit(main())
