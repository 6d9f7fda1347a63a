"""The scheduler's words: node lists, states, tables, refusals and reasons, all without Slurm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.errors import OutcomeUnknown, SchedulerError
from hpcrun.scheduler.command import Answer
from hpcrun.scheduler.environment import inherited
from hpcrun.scheduler.hostlist import MOST, expand
from hpcrun.scheduler.lives import joined
from hpcrun.scheduler.process import ProcessName
from hpcrun.scheduler.reasons import reason_in_words
from hpcrun.scheduler.refusal import judge
from hpcrun.scheduler.slurm import job_id_in
from hpcrun.scheduler.states import Exit, Step, Told, word_of
from hpcrun.scheduler.tables import SEPARATOR, Life, controlled, lives, queue_rows, submit_times
from hpcrun.state import Cause, State

# -- node lists ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("(null)", ()),
        ("None assigned", ()),
        ("n1", ("n1",)),
        ("n[1-3,7]", ("n1", "n2", "n3", "n7")),
        ("n[08-11]", ("n08", "n09", "n10", "n11")),
        ("n[8-11]", ("n8", "n9", "n10", "n11")),
        ("a,b[1-2],c", ("a", "b1", "b2", "c")),
        ("r[0-1]n[1-2]", ("r0n1", "r0n2", "r1n1", "r1n2")),
        ("n[1-2]-ib", ("n1-ib", "n2-ib")),
        (
            "nid[001-002,010]x[1,3]",
            tuple(f"nid{n}x{m}" for n in ("001", "002", "010") for m in "13"),
        ),
        # What cannot be read stays as it is.
        ("n[1-", ("n[1-",)),
        ("n]1", ("n]1",)),
        ("n[3-1]", ("n[3-1]",)),
        ("n[a-b]", ("n[a-b]",)),
        ("a,,b", ("a,,b",)),
        (f"n[0-{MOST}]", (f"n[0-{MOST}]",)),
        ("n[0-999]x[0-999]", ("n[0-999]x[0-999]",)),
    ],
)
def test_a_node_list_is_expanded(text: str, names: tuple[str, ...]) -> None:
    assert expand(text) == names


@given(st.text(alphabet="n0129[],-x .", max_size=30))
def test_any_text_is_a_node_list(text: str) -> None:
    names = expand(text)
    assert all(isinstance(name, str) for name in names)


@given(
    st.lists(st.integers(0, 9999), min_size=1, max_size=20, unique=True),
    st.integers(1, 5),
    st.sampled_from(("", "x", "-ib0")),
)
def test_a_list_of_numbers_comes_back(numbers: list[int], width: int, suffix: str) -> None:
    names = [f"n{number:0{width}d}{suffix}" for number in numbers]
    text = f"n[{','.join(f'{number:0{width}d}' for number in numbers)}]{suffix}"
    assert list(expand(text)) == names


# -- ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "job_id"),
    [
        ("123\n", "123"),
        ("123;north\n", "123;north"),
        ("Welcome to the cluster, 2 news\n\n  123\nYour quota: 80 %\n", "123"),
        ("17 nodes free\n99\n", "99"),
        ("", None),
        ("Submitted batch job 123\n", None),
        ("12a\n", None),
        ("123;\n", None),
    ],
)
def test_a_job_id_is_a_whole_line(output: str, job_id: str | None) -> None:
    assert job_id_in(output) == job_id


@pytest.mark.parametrize("text", ["", "host", "host:1", "host:1:x", "host:x:1", ":1:2", "123"])
def test_what_names_no_process(text: str) -> None:
    assert ProcessName.parse(text) is None


def test_a_process_name_comes_back() -> None:
    name = ProcessName("login-1.site.org", 12, 345)
    assert ProcessName.parse(str(name)) == name


# -- states -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "exit"),
    [
        ("3:0", Exit(3, 0)),
        ("0:9", Exit(0, 9)),
        ("768", Exit(3, 0)),  # 22.05 prints what wait() gives
        ("15", Exit(0, 15)),
        ("4021", Exit(0, 53)),
        ("0", Exit(0, 0)),
        ("", None),
        ("N/A", None),
    ],
)
def test_exit_codes_of_all_releases(text: str, exit: Exit | None) -> None:
    assert Exit.parse(text) == exit


ENDS = [
    ("COMPLETED", "0:0", State.COMPLETED, Cause.COMPLETED, 0, None),
    ("FAILED", "3:0", State.FAILED, Cause.EXIT_CODE, 3, None),
    ("FAILED", "0:11", State.FAILED, Cause.SIGNAL, None, 11),
    ("FAILED", "0:53", State.FAILED, Cause.LAUNCH_FAILED, None, None),
    ("FAILED", "0:125", State.FAILED, Cause.OUT_OF_MEMORY, None, None),
    ("FAILED", "0:0", State.FAILED, Cause.UNKNOWN, None, None),
    ("CANCELLED by 1000", "0:15", State.CANCELED, Cause.CANCELED, None, 15),
    ("CANCELLED+", "0:0", State.CANCELED, Cause.CANCELED, None, None),
    ("TIMEOUT", "0:0", State.FAILED, Cause.TIME_LIMIT, None, None),
    ("DEADLINE", "0:0", State.FAILED, Cause.TIME_LIMIT, None, None),
    ("OUT_OF_MEMORY", "0:125", State.FAILED, Cause.OUT_OF_MEMORY, None, None),
    ("NODE_FAIL", "1:0", State.FAILED, Cause.NODE_FAILURE, 1, None),
    ("BOOT_FAIL", "0:0", State.FAILED, Cause.NODE_FAILURE, None, None),
    ("PREEMPTED", "0:15", State.FAILED, Cause.PREEMPTED, None, 15),
    ("REVOKED", "0:0", State.FAILED, Cause.UNKNOWN, None, None),
]


@pytest.mark.parametrize(("text", "exit", "state", "cause", "code", "signal"), ENDS)
def test_ends(
    text: str, exit: str, state: State, cause: Cause, code: int | None, signal: int | None
) -> None:
    word = word_of(Told(text, Exit.parse(exit), nodes="n[1-2]", end=5.0))
    assert (word.state, word.cause, word.exit_code, word.signal) == (state, cause, code, signal)
    assert word.nodes == ("n1", "n2")
    assert word.raw.startswith(f"{text} {exit}")
    assert word.end == 5.0
    assert word.starts is None


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("PENDING", State.QUEUED),
        ("REQUEUED", State.QUEUED),
        ("REQUEUE_HOLD", State.QUEUED),
        ("SPECIAL_EXIT", State.QUEUED),
        ("CONFIGURING", State.STARTING),
        ("RUNNING", State.STARTING),
        ("SUSPENDED", State.STARTING),
        ("STOPPED", State.STARTING),
        ("RESIZING", State.STARTING),
        ("SIGNALING", State.STARTING),
        ("COMPLETING", State.FINALIZING),
        ("STAGE_OUT", State.FINALIZING),
    ],
)
def test_living_states(text: str, state: State) -> None:
    word = word_of(Told(text, Exit(0, 0), start=1.0, end=9.0))
    assert (word.state, word.raw, word.cause) == (state, text, None)
    assert word.end is None
    assert word.starts == (1.0 if state is State.QUEUED else None)
    # What has nodes and does nothing says so.
    assert word.reason == (text if text in ("SUSPENDED", "STOPPED") else "")
    assert not word.reason or "halted" in reason_in_words(word.reason).sentence


@given(st.text(max_size=20), st.text(max_size=10))
def test_any_state_is_a_value(text: str, exit: str) -> None:
    word = word_of(Told(text, Exit.parse(exit)))
    assert word.raw.startswith(text)


def test_an_unknown_state_says_that_there_is_a_job() -> None:
    assert word_of(Told("DREAMING")).state is State.QUEUED


def test_a_job_that_never_had_a_node_was_not_launched() -> None:
    word = word_of(Told("FAILED", Exit(1, 0), reason="BadConstraints"))
    assert word.cause is Cause.LAUNCH_FAILED
    assert word.raw == "FAILED 1:0, BadConstraints"


def test_who_canceled_a_job_that_waited_for_ever() -> None:
    told = Told("CANCELLED", Exit(0, 0), reason="DependencyNeverSatisfied")
    assert word_of(told).by == "Slurm: a job that it depends on failed"
    assert word_of(told, by="alice").by == "alice"


def test_only_a_job_that_waits_has_a_reason() -> None:
    assert word_of(Told("PENDING", reason="JobHeldUser")).reason == "JobHeldUser"
    assert word_of(Told("PENDING", reason="None")).reason == ""
    # 22.05 shows this on a job that was held while it ran.
    assert word_of(Told("RUNNING", reason="JobHeldUser")).reason == ""


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (Told("COMPLETED", Exit(0, 0), nodes="n1"), Cause.OUT_OF_MEMORY),
        (Told("FAILED", Exit(1, 0), nodes="n1"), Cause.OUT_OF_MEMORY),
        (Told("CANCELLED", Exit(0, 15), nodes="n1"), Cause.CANCELED),
        (Told("TIMEOUT", Exit(0, 0), nodes="n1"), Cause.TIME_LIMIT),
    ],
)
def test_a_step_that_ran_out_of_memory_shows(told: Told, cause: Cause) -> None:
    steps = (Step("7.0", "OUT_OF_MEMORY", Exit(0, 125)), Step("7.1", "COMPLETED", Exit(0, 0)))
    word = word_of(told, steps)
    assert word.cause is cause
    assert word.raw.endswith("; step 7.0 OUT_OF_MEMORY 0:125")


# -- tables -------------------------------------------------------------------------------------


def line(*cells: str) -> str:
    return SEPARATOR.join(cells) + SEPARATOR + "\n"


# State, reason, restarts, nodes, start, end, exit code and submit time, as each release prints.
SQUEUE = (
    line("7", "c", "RUNNING", "None", "0", "n[1-2]", "100", "900", "0", "90")  # 22.05
    + line("8", "c", "PENDING", "Priority", "2", "", "N/A", "N/A", "0", "91")
    + line("9_3", "c", "FAILED", "NonZeroExitCode", "0", "n1", "1", "2", "768", "92")
    + line("10_4", "c", "FAILED", "NonZeroExitCode", "0", "n1", "1", "2", "3:0", "93")  # 24.11
    + line("11_[5-7%2]", "c", "PENDING", "JobArrayTaskLimit", "0", "", "N/A", "N/A", "0:0", "94")
    + line("12+1", "c", "EXPEDITING", "None", "1", "", "N/A", "N/A", "0:0", "95")  # 26.05
)


def test_the_queue_is_read() -> None:
    rows = {row.id: row for row in queue_rows("CLUSTER: c\n" + SQUEUE + "\nslurm: bye\n")}
    assert list(rows) == ["7", "8", "9_3", "10_4", "11_[5-7%2]", "12+1"]
    words = {key: word_of(row.told) for key, row in rows.items()}
    assert words["7"].nodes == ("n1", "n2")
    assert (words["8"].reason, words["8"].restart, words["8"].starts) == ("Priority", 2, None)
    assert words["9_3"].exit_code == words["10_4"].exit_code == 3
    assert words["9_3"].end == 2.0
    assert words["12+1"].state is State.QUEUED
    assert rows["12+1"].submitted == 95.0


@given(st.lists(st.text(alphabet="7_\x1fPENDING:N/A[]% \n", max_size=40), max_size=5))
def test_any_output_is_a_queue(lines: list[str]) -> None:
    for row in queue_rows("\n".join(lines)):
        word_of(row.told)


def record(*cells: str) -> str:
    return SEPARATOR.join(cells) + "\n"


SACCT = (
    record("7", "NODE_FAIL", "1:0", "100", "200", "n1", "None", "run")
    + record("7.batch", "CANCELLED", "0:15", "100", "200", "n1", "", "batch")
    + record("8", "COMPLETED", "0:0", "100", "200", "n1", "None", "other")
    + record("7", "COMPLETED", "0:0", "300", "400", "n2", "None", "run")
    + record("7.batch", "COMPLETED", "0:0", "300", "400", "n2", "", "batch")
    + record("7.0", "OUT_OF_MEMORY", "0:125", "300", "400", "n2", "", f"a{SEPARATOR}b")
)


def test_the_lives_of_a_job_are_read_with_their_steps() -> None:
    found = list(lives("a line of the site\n" + SACCT))
    assert [(life.id, life.told.state, len(life.steps)) for life in found] == [
        ("7", "NODE_FAIL", 1),
        ("8", "COMPLETED", 0),
        ("7", "COMPLETED", 2),
    ]
    assert found[2].told.end == 400.0


@given(st.lists(st.text(alphabet="7.\x1fRUN:0 \n", max_size=40), max_size=5))
def test_any_output_is_a_list_of_lives(lines: list[str]) -> None:
    list(lives("\n".join(lines)))
    submit_times("\n".join(lines))


SCONTROL = (
    "JobId=16 ArrayJobId=13 ArrayTaskId=1 ArrayTaskThrottle=2 JobName=a JobState=FAILED x"
    " UserId=alice(61001) JobState=RUNNING Reason=None Restarts=1 ExitCode=0:0 StartTime=5"
    " EndTime=9 ReqNodeList=n9 ExcNodeList=(null) NodeList=n[1-2] Comment=JobState=FAILED "
)


@pytest.mark.parametrize("job", ["16", "13_1"])
def test_the_controllers_word_is_read(job: str) -> None:
    told = controlled(f"{SCONTROL}\n", job)
    assert told == Told("RUNNING", Exit(0, 0), "None", 1, "n[1-2]", 5.0, 9.0)


@pytest.mark.parametrize("job", ["13", "13_2", "1"])
def test_another_job_is_not_taken_for_it(job: str) -> None:
    assert controlled(SCONTROL, job) is None


# -- refusals -----------------------------------------------------------------------------------

FAILED = "sbatch: error: Batch job submission failed: "
RETRIED = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"


@pytest.mark.parametrize(
    ("status", "error", "transient"),
    [
        (1, FAILED + "Invalid partition name specified\n", False),
        (
            1,
            FAILED + "Job violates accounting/QOS policy (job submit limit, …)\n",
            False,
        ),
        (1, FAILED + "Requested time limit is invalid (missing or exceeds some limit)\n", False),
        (1, RETRIED + FAILED + "Invalid qos specification\n", False),
        (1, "sbatch: error: no GPU job without --account here\n" + FAILED + "Unspecified error", 0),
        (255, "sbatch: unrecognized option '--bogus'\nTry \"sbatch --help\"\n", False),
        (1, FAILED + "Unable to contact slurm controller (connect failure)\n", True),
        (1, FAILED + "Required partition not available (inactive or drain)\n", True),
        (1, "sbatch: error: 'x' can't be reached now, or it is an invalid entry for --cluster.", 1),
    ],
)
def test_what_is_a_refusal(status: int, error: str, transient: bool) -> None:
    told = judge(Answer(status, "", error))
    assert type(told) is SchedulerError
    assert told.transient == bool(transient)
    assert error.splitlines()[-1].removeprefix("sbatch: ").removeprefix("error: ") in told.message


@pytest.mark.parametrize(
    ("status", "output", "error"),
    [
        (1, "", FAILED + "Socket timed out on send/recv operation\n"),
        (1, "", FAILED + "Unable to contact slurm controller (send failure)\n"),
        (1, "", FAILED + "Zero Bytes were transmitted or received\n"),
        (1, "", RETRIED + FAILED + "Unable to contact slurm controller (connect failure)\n"),
        (1, "", FAILED + "the moon is full\n"),
        (1, "", ""),
        (1, "123\n", ""),
        (255, "", "ssh: connect to host login port 22: Connection timed out\n"),
        (-9, "", ""),
        (-15, "", FAILED + "Invalid partition name specified\n"),
        (0, "", ""),
        (0, "Thank you for flying with us\n", ""),
    ],
)
def test_what_is_not_known(status: int, output: str, error: str) -> None:
    assert isinstance(judge(Answer(status, output, error)), OutcomeUnknown)


HINTS = {"AssocMaxSubmitJobLimit": "set resources.account", "the moon is full": "wait for dawn"}
LIMIT = "sbatch: error: AssocMaxSubmitJobLimit\n"
POLICY = LIMIT + FAILED + "Job violates accounting/QOS policy (job submit limit, …)\n"
MOON = FAILED + "the moon is full\n"
LATE = FAILED + "Socket timed out on send/recv operation\n"


def test_a_site_says_what_its_refusals_mean() -> None:
    assert judge(Answer(1, "", POLICY), HINTS).hint == "set resources.account"
    assert judge(Answer(1, "", POLICY)).hint.startswith("wait until some of your jobs")
    told = judge(Answer(1, "", MOON), HINTS)
    assert type(told) is SchedulerError and (told.hint, told.transient) == ("wait for dawn", False)
    hints = {"Socket timed out": "no refusal at all"}
    assert isinstance(judge(Answer(1, "", LATE), hints), OutcomeUnknown)


def test_a_site_says_what_its_reasons_mean() -> None:
    said = reason_in_words("AssocMaxSubmitJobLimit", None, HINTS)
    assert said.hint == "set resources.account"
    assert said.sentence == reason_in_words("AssocMaxSubmitJobLimit").sentence
    assert reason_in_words("Priority", None, HINTS) == reason_in_words("Priority")


# -- the environment ----------------------------------------------------------------------------


_STAYS = """
AWS_SECRET_ACCESS_KEY CONDA_PREFIX VIRTUAL_ENV PYTHONPATH DISPLAY LOCALE XDG_RUNTIME_DIR
LD_LIBRARY_PATH SBATCH_PARTITION SLURM_JOB_ID SRUN_CPUS_PER_TASK SLURM_CONF SQUEUE_FORMAT
HPCRUN_RUN_ID CUDA_VISIBLE_DEVICES
"""


def test_only_what_is_on_the_list_travels() -> None:
    travels = {"HOME": "/h", "LC_ALL": "C", "BASH_FUNC_module%%": "() { :; }", "MODULEPATH": "/m"}
    stays = dict.fromkeys(_STAYS.split(), "x")
    assert inherited({**travels, **stays}) == travels
    assert inherited({**travels, **stays}, ("SLURM_CONF",)) == {**travels, "SLURM_CONF": "x"}


def test_an_active_environments_programs_stay_behind() -> None:
    environ = {"PATH": "/venv/bin:/conda/bin/:/usr/bin", "VIRTUAL_ENV": "/venv"}
    environ |= {"CONDA_PREFIX": "/conda"}
    assert inherited(environ) == {"PATH": "/usr/bin"}


# -- reasons ------------------------------------------------------------------------------------

# All that 22.05 to 26.05 know (src/common/job_state_reason.c), but those of BlueGene.
REASONS = """
Prolog Priority Dependency Resources PartitionNodeLimit PartitionTimeLimit PartitionDown
PartitionInactive JobHeldAdmin JobHeldUser BeginTime Licenses AssociationJobLimit
AssociationResourceLimit AssociationTimeLimit Reservation ReqNodeNotAvail FrontEndDown SchedDefer
NodeDown BadConstraints SystemFailure JobLaunchFailure NonZeroExitCode RaisedSignal TimeLimit
InactiveLimit InvalidAccount InvalidQOS QOSUsageThreshold QOSJobLimit QOSResourceLimit
QOSTimeLimit Cleaning QOSNotAllowed AccountNotAllowed DependencyNeverSatisfied QOSGrpCpuLimit
QOSGrpCPUMinutesLimit QOSGrpCPURunMinutesLimit QOSGrpJobsLimit QOSGrpMemLimit QOSGrpNodeLimit
QOSGrpSubmitJobsLimit QOSGrpWallLimit QOSMaxCpuPerJobLimit QOSMaxCpuMinutesPerJobLimit
QOSMaxNodePerJobLimit QOSMaxWallDurationPerJobLimit QOSMaxCpuPerUserLimit QOSMaxJobsPerUserLimit
QOSMaxNodePerUserLimit QOSMaxSubmitJobPerUserLimit QOSMinCpuNotSatisfied AssocGrpCpuLimit
AssocGrpCPUMinutesLimit AssocGrpCPURunMinutesLimit AssocGrpJobsLimit AssocGrpMemLimit
AssocGrpNodeLimit AssocGrpSubmitJobsLimit AssocGrpWallLimit AssocMaxJobsLimit
AssocMaxCpuPerJobLimit AssocMaxCpuMinutesPerJobLimit AssocMaxNodePerJobLimit
AssocMaxWallDurationPerJobLimit AssocMaxSubmitJobLimit JobHoldMaxRequeue JobArrayTaskLimit
BurstBufferResources BurstBufferStageIn BurstBufferOperation PowerNotAvail PowerReserved
AssocGrpGRES AssocGrpGRESMinutes AssocGrpGRESRunMinutes AssocMaxGRESPerJob AssocMaxGRESPerNode
AssocMaxGRESMinutesPerJob AssocGrpMemMinutes AssocGrpMemRunMinutes AssocMaxMemPerJob AssocGrpBB
AssocGrpLicense AssocGrpEnergy AssocGrpBilling AssocGrpUnknown AssocMaxCpuPerNode QOSGrpGRES
QOSGrpMemoryMinutes QOSMaxMemoryPerUser QOSMinMemory QOSMaxGRESPerUser QOSMinGRES QOSMinNode
QOSMaxLicensePerUser QOSGrpBillingRunMinutes QOSMaxBBPerNode QOSMaxUnknownPerUser DeadLine
MaxBBPerAccount MaxCpuPerAccount MaxGRESPerAccount MaxJobsPerAccount MaxSubmitJobsPerAccount
MaxCpuRunMinsPerUser MaxGRESRunMinsPerAccount PartitionConfig AccountingPolicy FedJobLock
OutOfMemory MaxMemPerLimit ReservationDeleted ReservationInvalid Constraints MaxPoweredUpNodes
MpiPortsBusy NvidiaImexChannels
"""


@pytest.mark.parametrize("reason", REASONS.split())
def test_every_reason_has_words(reason: str) -> None:
    words = reason_in_words(reason)
    assert words.sentence != reason
    assert " " in words.sentence


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("QOSMaxGRESPerUser", "the limit of its QOS on GPUs for all jobs of a user is reached"),
        ("AssocMaxWallDurationPerJobLimit", "your account on time for one job is lower than"),
        ("AssocGrpCPURunMinutesLimit", "on minutes of CPUs for all jobs together"),
        ("QOSMinGRES", "fewer GPUs than its QOS wants"),
        ("MaxJobsPerAccount", "running jobs for all jobs of an account"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", "(n[1-2])"),
        ("(ReqNodeNotAvail,_UnavailableNodes:n1)", "(n1)"),
        ("ReqNodeNotAvail, Reserved for maintenance", "maintenance"),
        ("Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved", "down, drained or reserved"),
        ("launch failed requeued held", "could not be launched"),
        ("launch_failed_requeued_held", "could not be launched"),
        ("job_requeued_in_held_state", "order to hold it"),
        ("Reservation brief was deleted", "its reservation was deleted"),
        ("Reservation_brief_is_invalid", "its reservation cannot be used"),
        (
            "Job's account not permitted to use this partition (low allows tight not lab)",
            "the partition does not take its account",
        ),
        ("Job's QOS not permitted to use this partition (a allows b not c)", "take its QOS"),
        ("uid 7 not in group permitted to use this partition (a).", "the partition's rules"),
        (
            "Job is at or exceeds association (acc=a/user=b/part=c) group wall limit 1 with 2",
            "your account uses as much as it may",
        ),
        ("Job is at or exceeds QOS a's max TRES(cpu) minutes of 1", "its QOS uses as much"),
        ("user env retrieval failed requeued held", "your environment could not be read"),
    ],
)
def test_reasons_in_words(reason: str, said: str) -> None:
    assert said in reason_in_words(reason).sentence


@given(st.text(max_size=30))
def test_an_unknown_reason_stays_as_it_is(reason: str) -> None:
    assert reason_in_words("Xy" + reason) == ("Xy" + reason, "")


# -- lives --------------------------------------------------------------------------------------

NODE_FAIL = Life("7", "run", Told("NODE_FAIL", Exit(0, 0), start=100.0, end=133.0))
FAILED = Life("7", "run", Told("FAILED", Exit(40, 0), start=229.0, end=229.0))
BACK = Life("7", "run", Told("FAILED", Exit(40, 0), start=229.0))


@pytest.mark.parametrize(
    ("held", "records", "told"),
    [
        # sacct knows the end before the controller says more than COMPLETING.
        ("COMPLETING", [NODE_FAIL, FAILED], [(0, "node_failure"), (1, None)]),
        ("FAILED", [NODE_FAIL, FAILED], [(0, "node_failure"), (1, "exit_code")]),
        # sacct has not heard of the newest life.
        ("COMPLETING", [NODE_FAIL], [(0, "node_failure"), (1, None)]),
        ("RUNNING", [NODE_FAIL], [(0, "node_failure"), (1, None)]),
        ("FAILED", [NODE_FAIL], [(0, "node_failure"), (1, "exit_code")]),
        # sacct has not heard of the job at all: it may yet.
        ("RUNNING", [], [(1, None)]),
        # slurmdbd is back, and tells of the newest before the others come.
        ("FAILED", [BACK], [(1, "exit_code")]),
        # sacct has the newest alone: the others do not come any more.
        ("FAILED", [FAILED], [(0, "requeued"), (1, "exit_code")]),
    ],
)
def test_each_life_has_its_own_end(
    held: str, records: list[Life], told: list[tuple[int, str | None]]
) -> None:
    now = Told(held, Exit(40, 0), restart=1, nodes="n1", start=229.0, end=229.0)
    assert [(word.restart, word.cause) for word in joined(now, records)] == told
