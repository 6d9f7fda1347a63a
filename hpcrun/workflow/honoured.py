"""What a probe saw of a file system, and what it means for hpcrun. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpcrun.workflow.finding import Finding

Seen = Mapping[str, Any]
"""The outcome of `agent.probe`: hosts, file_system, limit, errors; where it came so far also clock,
visible_after, one_winner, whole, locks, looks, latency, space, names, holes, times, silence."""

LITTLE_SPACE, FEW_INODES = 1 << 30, 10_000
SLOW = 0.05
"""Seconds of a call on a file above which a workspace feels slow."""

FAR_APART = 2.0
"""Seconds by which clocks may differ without a word."""

SHARED = "choose a workspace that all nodes share: -w FOLDER"


def findings(seen: Seen) -> list[Finding]:
    """A sentence for each thing that was looked at, what is in the way graded error."""
    if not seen.get("hosts"):
        return []
    return [
        *_nodes(seen),
        *_sights(seen),
        *_winners(seen),
        *_whole(seen),
        *_locks(seen),
        *_speed(seen),
        *_space(seen),
        *_names(seen),
        *_clocks(seen),
        *_errors(seen),
    ]


def one_host(seen: Seen) -> bool:
    """Whether both sides were on the same host."""
    return len(set(seen["hosts"])) == 1


def _nodes(seen: Seen) -> Iterator[Finding]:
    hosts, mounts = seen["hosts"], seen["file_system"]
    kind = " ".join(filter(None, (mounts[0].get("kind"), mounts[0].get("source"))))
    if "silence" in seen:
        who = f"{hosts[0]} and {hosts[1]}" if len(hosts) > 1 else f"{hosts[0]} and the second node"
        message = f"{who} did not hear each other to the end: {seen['silence']}"
        yield Finding("error", "nodes", message, SHARED)
    elif one_host(seen):
        message = f"looked at from {hosts[0]} alone ({kind}): nothing is known of other nodes"
        yield Finding("warning", "nodes", message, "hpcrun store probe -t SITE/TARGET")
    else:
        yield Finding("ok", "nodes", f"{hosts[0]} and {hosts[1]} see the same files ({kind})")
    if len(mounts) > 1 and mounts[0].get("options") != mounts[1].get("options"):
        told = " and ".join(
            f"{host}: {mount.get('kind')} {mount.get('options')}"
            for host, mount in zip(hosts, mounts, strict=True)
        )
        yield Finding("warning", "mounts", f"they are not mounted alike: {told}")


def _sights(seen: Seen) -> Iterator[Finding]:
    after, limit = seen.get("visible_after") or {}, seen["limit"]
    known = {what: delay for what, delay in after.items() if delay is not None}
    if known:
        slowest = max(known, key=lambda what: known[what])
        quickest = min(known, key=lambda what: known[what])
        yield Finding(
            "ok",
            "visible",
            f"what one node did ({_words(list(known))}) the other saw after "
            f"{_time(known[quickest])} ({quickest}) to {_time(known[slowest])} ({slowest}): "
            "so old is what `hpcrun list` and `logs -f` tell of a run on another node",
        )
    unseen = [what for what in after if after[what] is None]
    if "appended" in unseen:
        unseen.remove("appended")
        message = f"what was written and not synced was not seen within {limit:g} s"
        yield Finding("ok", "unsynced", f"{message}: hpcrun syncs, your own log files may be late")
    if unseen:
        message = f"{_words(unseen)}: not seen on the other node within {limit:g} s"
        means = "what hpcrun tells of runs that go on elsewhere is as old; nothing is lost"
        yield Finding("error", "unseen", f"{message}: {means}", SHARED)


def _winners(seen: Seen) -> Iterator[Finding]:
    means = {
        "create": "files of two writers could become one",
        "link": "two jobs of one submission could both run",
        "mkdir": "two runs could get one folder",
    }
    good = []
    for way, outcome in (seen.get("one_winner") or {}).items():
        rounds = outcome["rounds"]
        if outcome["error"]:
            instead = " (hpcrun renames instead)" if way == "link" else ""
            yield Finding("warning", way, f"does not work: {outcome['error']}{instead}")
        elif outcome["both"]:
            message = f"both nodes got the same name {outcome['both']} of {rounds} times"
            yield Finding("error", way, f"{message}: {means[way]}", "choose another workspace")
        elif outcome["nobody"]:
            message = f"who got a name was told that it was taken, {outcome['nobody']} of {rounds}"
            yield Finding("warning", way, f"{message}: hpcrun looks whose it is")
        else:
            good.append(f"{way} (a loser is told {outcome['loser']})" if outcome["loser"] else way)
    if good:
        rounds = next(iter(seen["one_winner"].values()))["rounds"]
        message = f"{_words(good)}: of two nodes that want a name exactly one gets it"
        yield Finding("ok", "one winner", f"{message} ({rounds} times each)")


def _whole(seen: Seen) -> Iterator[Finding]:
    good, count = [], 0
    for way, reads in (seen.get("whole") or {}).items():
        all_reads = reads["whole"] + reads["torn"] + reads["missing"] + reads["errors"]
        if reads["error"]:
            yield Finding("warning", f"publish by {way}", f"does not work: {reads['error']}")
        elif reads["torn"]:
            message = f"{reads['torn']} of {all_reads} reads met a part of a file"
            means = "a reader may call a record damaged that is whole a moment later"
            yield Finding("error", f"publish by {way}", f"{message}: {means}", "try again then")
        elif reads["missing"] or reads["errors"]:
            message = f"{reads['missing'] + reads['errors']} of {all_reads} reads met no file"
            means = "hpcrun gives new files new names; only what replaces a file may miss a moment"
            yield Finding("warning", f"publish by {way}", f"{message}: {means}")
        else:
            good.append(way)
            count += all_reads
    if good:
        message = f"{_words(good)}: a file that gets its name is whole at once ({count} reads)"
        yield Finding("ok", "whole files", message)


def _locks(seen: Seen) -> Iterator[Finding]:
    for kind, worth in (seen.get("locks") or {}).items():
        where = "on one host" if one_host(seen) else "across nodes"
        if worth == "excludes":
            yield Finding("ok", kind, f"locks work {where}; hpcrun does not need them")
            continue
        told = {
            "one host only": "locks of one node do not hold on the other",
            "nobody": "locks exclude nobody",
            "stuck": "a lock stays when its holder is gone",
            "late": "a lock was not given or refused in time",
        }.get(worth, f"locks do not work: {worth}")
        message = f"{told}: hpcrun does not need them, two clients of yours may repeat work"
        cure = "programs of yours may need them; HDF5: HDF5_USE_FILE_LOCKING=FALSE"
        yield Finding("warning", kind, message, cure)


def _speed(seen: Seen) -> Iterator[Finding]:
    speeds = {**(seen.get("latency") or {}), **((seen.get("looks") or {}).get("looks") or {})}
    if not speeds:
        return
    told = ", ".join(f"{what} {_time(seconds)}" for what, seconds in speeds.items())
    slow = [what for what, seconds in speeds.items() if seconds > SLOW and what != "list"]
    if slow:
        message = f"slow ({told}): a submission makes about thirty such calls, a listing one or two"
        yield Finding("warning", "speed", f"{message} for each run that is not sealed")
    else:
        yield Finding("ok", "speed", told)


def _space(seen: Seen) -> Iterator[Finding]:
    space = seen.get("space")
    if space:
        free, inodes = space["bytes_free"], space["inodes_free"]
        little = free < LITTLE_SPACE or (inodes is not None and inodes < FEW_INODES)
        counted = "inodes are not counted" if inodes is None else f"{inodes:,} inodes"
        message = f"{free / 2**30:,.1f} GiB and {counted} are free"
        cure = "free space: hpcrun store seal, hpcrun delete" if little else ""
        yield Finding("warning" if little else "ok", "space", message, cure)
    if seen.get("quota"):
        yield Finding("ok", "quota", "; ".join(seen["quota"]))
    if seen.get("holes") is False:
        yield Finding("ok", "holes", "a file with a hole takes up as much as it is long")


def _names(seen: Seen) -> Iterator[Finding]:
    names = seen.get("names")
    if not names:
        return
    if not names["case_matters"]:
        message = "names that differ by case alone are one name: experiments and models too"
        yield Finding("warning", "names", message, "give them names that differ otherwise")
    longest = names["longest_name"]
    if longest < 255:
        message = f"a name may have {longest} bytes, which hpcrun shares with what it adds (80)"
        yield Finding("warning", "names", message, f"names of experiments: at most {longest - 80}")
    elif names["case_matters"]:
        yield Finding("ok", "names", f"case matters; a name may have {longest} bytes")


def _clocks(seen: Seen) -> Iterator[Finding]:
    hosts, clock, times = seen["hosts"], seen.get("clock"), seen.get("times")
    if clock and not one_host(seen):
        ahead = (clock["least"] + clock["most"]) / 2
        yield _clock(f"{hosts[1]}'s clock", ahead, (clock["most"] - clock["least"]) / 2, hosts[0])
    if times:
        least, most = times["ahead"]
        subject = "the clock that stamps files"
        yield _clock(subject, (least + most) / 2, (most - least) / 2, hosts[0])
        if times["unit"] in ("s", "none"):
            message = f"file times are kept to {times['unit']}"
            means = "of two changes of a file within it that leave its length, one may be missed"
            yield Finding("ok", "file times", f"{message}: {means} where files are collected")
        else:
            yield Finding("ok", "file times", f"kept to {times['unit']}")


def _clock(whose: str, ahead: float, about: float, host: str) -> Finding:
    way = "ahead of" if ahead >= 0 else "behind"
    message = f"{whose} is {_time(abs(ahead))} {way} {host}'s (± {_time(about)})"
    if abs(ahead) - about <= FAR_APART:
        return Finding("ok", "clocks", message)
    means = "times that nodes tell differ by that; no state depends on it"
    return Finding("warning", "clocks", f"{message}: {means}", "ask your cluster's staff")


def _errors(seen: Seen) -> Iterator[Finding]:
    for name, error in (seen.get("errors") or {}).items():
        yield Finding("warning", name, f"could not be looked at: {error}")


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _words(names: Sequence[str]) -> str:
    return ", ".join(names)
