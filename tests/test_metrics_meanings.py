"""The table of meanings in docs/metrics.md, line by line; images, charts, and columns."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest

from hpcrun.api.columns import columns_of, frame_of
from hpcrun.errors import StoreError
from hpcrun.fold import fold
from hpcrun.layout import Attempt, JournalKind
from hpcrun.metrics import Context, Metric, RankFacts, Run, metrics_of
from hpcrun.metrics.charts import CHARTS, chart
from hpcrun.metrics.images import IMAGE_LIMIT, image
from hpcrun.metrics.uploads import place_of
from hpcrun.metrics.values import decoded
from hpcrun.record import RunFile
from tests.metrics_job import RUN_ID, VERSIONS, Job, interpreter

DOCUMENT = Path(__file__).resolve().parents[1] / "docs/metrics.md"

PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"
RESIDUALS = {
    "schema_type": "residuals",
    "schema_version": "v1",
    "data": {"bin_edges": [0.0, 0.5, 1.0], "bin_counts": [3, 4]},
}


def rows() -> list[tuple[str, str, str]]:
    table = DOCUMENT.read_text(encoding="utf-8").partition("| these calls |")[2]
    table = table.partition("\n\n")[0]
    return re.findall(r"^\| ([^`|]+) \| `(.+?)` \| `(.+?)` \|$", table, re.MULTILINE)


ROWS = rows()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path).make()


REQUEST = {"run_id": RUN_ID, "experiment": "x", "user": "x", "target": "x", "created": 0.0}


def make_run(job: Job, rank: int = 0, attempt: str = "1.0", outputs: Path | None = None) -> Run:
    context = Context(
        run_id=RUN_ID,
        experiment="digits",
        attempt=Attempt.parse(attempt),
        ranks=RankFacts(rank, 2),
        record=str(job.record),
        spool=str(job.spool),
        files=str(job.root / "files"),
        outputs=str(outputs or job.root / "files/outputs"),
        offline=False,
    )
    return Run(context, rank_guard=False)


def test_every_line_of_the_table_is_read() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").partition("| these calls |")[2]
    assert len(ROWS) == text.partition("\n\n")[0].count("\n| ") > 30


@pytest.mark.parametrize(("what", "calls", "gives"), ROWS, ids=[row[0] for row in ROWS])
def test_meaning(job: Job, what: str, calls: str, gives: str) -> None:
    run, rank_1 = make_run(job), make_run(job, rank=1)
    (job.root / "x.png").write_bytes(PNG)
    names = {
        "run": run,
        "rank_1": rank_1,
        "retry": make_run(job, attempt="1.1"),
        "numpy": numpy,
        "nan": math.nan,
        "inf": math.inf,
        "RESIDUALS": RESIDUALS,
        "PNG": job.root / "x.png",
        "DIGEST": hashlib.sha256(PNG).hexdigest()[:12],
    }
    if "torch." in calls:
        names["torch"] = pytest.importorskip("torch", reason="torch is not installed")
    if gives in ("TypeError", "ValueError"):
        with pytest.raises({"TypeError": TypeError, "ValueError": ValueError}[gives]):
            exec(calls, names)
        assert run.get_metrics() == {}
        return
    exec(calls, names)
    # repr tells 1 from 1.0 and from True, and nan is nan.
    assert repr(run.get_metrics()) == repr(eval(gives, names))


# -- images ----------------------------------------------------------------------------------------


def png(width: int = 1) -> bytes:
    """A whole PNG of one gray line."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\x08\0\0\0\0"
    pixels = zlib.compress(b"\0" + b"\x80" * width)
    return PNG[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (png(), "png"),
        (b"\xff\xd8\xff\xe0 jpeg", "jpg"),
        (b"GIF89a...", "gif"),
        (b"BM...", "bmp"),
        (b"II*\0...", "tif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"<?xml version='1.0'?><svg xmlns='...'/>", "svg"),
    ],
)
def test_the_bytes_tell_an_images_type(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / "anything").write_bytes(content)
    found = image("name", path=tmp_path / "anything")
    digest = hashlib.sha256(content).hexdigest()
    assert found.file == (f"images/name-{digest[:12]}.{suffix}", len(content), digest)


def test_images_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no image")
    with pytest.raises(ValueError, match="is no PNG"):
        image("x", path=tmp_path / "text")
    with (tmp_path / "long").open("wb") as file:
        file.write(PNG)
        file.truncate(IMAGE_LIMIT + 1)
    with pytest.raises(ValueError, match=f"{IMAGE_LIMIT} at most"):
        image("x", path=tmp_path / "long")
    for given in ({}, {"path": "a", "plot": "b"}):
        with pytest.raises(ValueError, match="either path or plot"):
            image("x", **given)
    with pytest.raises(TypeError, match="a str has no savefig"):
        image("x", plot="not a figure")
    with pytest.raises(FileNotFoundError):
        image("x", path=tmp_path / "absent")


def test_images_come_back_byte_for_byte(job: Job) -> None:
    run = make_run(job)
    for name, width in (("a", 1), ("b", 2), ("b", 3)):
        (job.root / "plot.png").write_bytes(png(width))
        run.log_image(name, str(job.root / "plot.png"))
    read = run.get_metrics(populate=True)
    assert read == {"a": png(1), "b": [png(2), png(3)]}
    assert run.get_metrics("a")["a"].startswith("images/a-")
    # In the spool, with the others: no call has waited for the record.
    kinds = sorted(name.split(".", 2)[2] for name in os.listdir(job.spool))
    assert kinds == ["artifacts.jsonl", "metrics.jsonl"]
    assert not list(job.record.iterdir())


def test_a_figure_draws_itself(job: Job) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot([1, 2, 3])
    run = make_run(job)
    for name, plot in (("figure", figure), ("pyplot", pyplot), ("axes", axes)):
        run.log_image(name, plot=plot)
    pyplot.close(figure)
    drawn = run.get_metrics(populate=True)
    assert list(drawn) == ["axes", "figure", "pyplot"]
    assert {content[:8] for content in drawn.values()} == {PNG[:8]}


@pytest.mark.parametrize("version", VERSIONS)
def test_images_and_charts_need_nothing_but_python(job: Job, version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    code = """
import sys
from hpcrun.metrics import Run
run = Run.get_context()
class Figure:
    def savefig(self, file, format):
        assert format == "png"
        file.write(b"\\x89PNG\\r\\n\\x1a\\n...")
run.log_image("drawn", plot=Figure())
run.log_residuals("r", '{"schema_type": "residuals", "schema_version": "v1", '
    '"data": {"bin_edges": [1, 2], "bin_counts": [NaN]}}')
run.upload_file("outputs/a.txt", "words")
assert not {"numpy", "matplotlib"} & set(sys.modules)
print(len(run.get_metrics(populate=True)["drawn"]), run.get_metrics()["r"]["data"])
"""
    (job.root / "words").write_text("words")
    out = job.python(code, python=python).stdout
    assert out == "11 {'bin_edges': [1, 2], 'bin_counts': [nan]}\n"
    assert (job.root / "files/outputs/a.txt").read_text() == "words"


def test_images_that_cannot_be_written_wait_in_memory_up_to_a_limit(job: Job) -> None:
    code = """
import os
import hpcrun.metrics.spool as spool
spool.IMAGES_LIMIT = 3
from hpcrun.metrics import Run
run = Run.get_context()
for i in range(5):
    with open("x.png", "wb") as file:
        file.write(b"\\x89PNG\\r\\n\\x1a\\n%d" % i)
    run.log_image("x", "x.png")
os.rename("aside", "record")
run.log_image("x", "x.png")
print(len([c for c in run.get_metrics(populate=True)["x"] if c]))
"""
    job.record.rename(job.root / "aside")
    job.python(code, spool=False)
    losses = [f.data["count"] for f in job.facts(kind=JournalKind.FACTS) if f.kind == "loss"]
    assert sum(losses) == 2
    assert len(job.facts()) == 6


# -- charts ----------------------------------------------------------------------------------------


def document(kind: str, **more: Any) -> dict[str, Any]:
    data: dict[str, Any] = {key: [] for key in CHARTS[kind]}
    return {"schema_type": kind, "schema_version": "v1", "data": {**data, **more}}


@pytest.mark.parametrize("kind", CHARTS)
def test_charts_are_documents(job: Job, kind: str) -> None:
    run = make_run(job)
    log: Callable[[str, Any], None] = getattr(run, f"log_{kind}")
    log("dict", document(kind, more=[1, None, "ä"]))
    log("json", json.dumps(document(kind)))
    assert run.get_metrics() == {
        "dict": document(kind, more=[1, None, "ä"]),
        "json": document(kind),
    }
    metric = metrics_of(job.facts())["dict"]
    assert (metric.kind, metric.last_text(), metric.points()) == (kind, kind, [])


def test_arrays_in_charts_become_lists() -> None:
    value = document("confusion_matrix", class_labels=numpy.array(["a", "b"]))
    value["data"]["matrix"] = numpy.array([[1, 2], [3, 4]])
    value["data"]["sum"] = numpy.int64(10)
    read: Any = decoded(chart("confusion_matrix", value))
    assert read["data"] == {"class_labels": ["a", "b"], "matrix": [[1, 2], [3, 4]], "sum": 10}


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"schema_type": "residuals"}, ValueError, "schema_type is 'residuals'"),
        ({"schema_version": None, "data": 3}, TypeError, "is a dict, not a int"),
        ({"data": {"class_labels": ["a"]}}, ValueError, "needs a list 'matrix'"),
        ({"data": {"class_labels": ["a"], "matrix": [[1, 2]]}}, ValueError, r"rows have \[2\]"),
        ({"data": {"class_labels": ["a"], "matrix": [object()]}}, TypeError, "a object cannot"),
    ],
)
def test_charts_that_are_refused(
    change: Mapping[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        chart("confusion_matrix", {**document("confusion_matrix"), **change})


def test_what_is_no_chart() -> None:
    for wrong, error in (("{", ValueError), ("[]", TypeError), (3, TypeError), ("{}", ValueError)):
        with pytest.raises(error):
            chart("residuals", wrong)  # type: ignore[arg-type]


# -- uploads ---------------------------------------------------------------------------------------


def test_uploads(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(job)
    (job.root / "a").write_bytes(b"aaa")
    (job.root / "folder/deep").mkdir(parents=True)
    (job.root / "folder/deep/b").write_bytes(b"b")
    digest = hashlib.sha256(b"aaa").hexdigest()
    assert run.upload_file("outputs/a", job.root / "a") == [("outputs/a", 3, digest)]
    assert [f.name for f in run.upload_files(["x", "y"], [job.root / "a"] * 2)] == ["x", "y"]
    assert [f.name for f in run.upload_folder("up", job.root / "folder")] == ["up/deep/b"]
    assert run.upload_file("stream", io.BytesIO(b"s"))[0].size == 1
    assert len(run.upload_files(["twice", "twice"], [job.root / "a"] * 2)) == 1
    assert "stand twice" in caplog.text
    files = job.root / "files"
    assert (files / "outputs/a").read_bytes() == (files / "uploads/x").read_bytes() == b"aaa"
    assert (files / "uploads/up/deep/b").read_bytes() == b"b"
    told = [f.data["files"] for f in job.facts(kind=JournalKind.FACTS) if f.kind == "uploaded"]
    assert told[0] == [["outputs/a", 3, digest]]
    # What lies there already, as a job's ./outputs do, is recorded and not copied.
    assert run.upload_file("outputs/a", files / "outputs/a") == [("outputs/a", 3, digest)]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("outputs/a", "has another file 'outputs/a' already"),
        ("../a", "no name for a file"),
        ("/a", "no name for a file"),
        ("a/../../b", "no name for a file"),
        ("", "no name for a file"),
        ("a//b", "no name for a file"),
        ("a\0", "no name for a file"),
        ("images/a.png", "hpcrun itself"),
        ("user_logs/a", "hpcrun itself"),
    ],
)
def test_uploads_that_are_refused(job: Job, name: str, sentence: str) -> None:
    run = make_run(job)
    run.upload_file("outputs/a", io.BytesIO(b"first"))
    with pytest.raises(StoreError, match=sentence):
        run.upload_file(name, io.BytesIO(b"second"))
    assert (job.root / "files/outputs/a").read_bytes() == b"first"
    files = [path for path in (job.root / "files").rglob("*") if path.is_file()]
    assert len(files) == 1


@pytest.mark.parametrize("name", ["outputs/model.pt", "weights"])
def test_a_later_attempt_uploads_its_own(job: Job, name: str) -> None:
    path = Path(place_of(str(job.root / "files"), name))
    for attempt, content in (("1.0", b"old"), ("1.1", b"new"), ("2.0", b"newest")):
        run = make_run(job, attempt=attempt)
        for _ in range(2):  # the same content once more is no news
            run.upload_file(name, io.BytesIO(content))
        with pytest.raises(StoreError, match="has another file"):
            run.upload_file(name, io.BytesIO(b"another"))
        assert path.read_bytes() == content
        digest = hashlib.sha256(content).hexdigest()
        # Clocks of nodes differ, and the agent may bring an old node's journals late.
        told = job.facts(kind=JournalKind.FACTS)
        late = [f._replace(time=f.time + 60 * (f.attempt == Attempt(1))) for f in told]
        assert fold(REQUEST, late).uploads == (RunFile(name, len(content), digest),)
    files = [path for path in (job.root / "files").rglob("*") if path.is_file()]
    assert files == [path]


def test_an_output_of_the_nodes_own_disk_replaces_what_was_uploaded_before(job: Job) -> None:
    outputs = job.root / "node/outputs"
    outputs.mkdir(parents=True)
    run = make_run(job, outputs=outputs)
    for content in ("first", "second"):
        (outputs / "model.pt").write_text(content)
        run.upload_file("outputs/model.pt", outputs / "model.pt")
        assert (job.root / "files/outputs/model.pt").read_text() == content
    (job.root / "other").write_text("third")
    with pytest.raises(StoreError, match="has another file"):
        run.upload_file("outputs/model.pt", job.root / "other")


def test_what_was_uploaded_before_an_error_is_in_the_record(job: Job) -> None:
    run = make_run(job)
    (job.root / "a").write_text("a")
    with pytest.raises(FileNotFoundError):
        run.upload_files(["a", "b"], [job.root / "a", job.root / "absent"])
    told = fold(REQUEST, job.facts(kind=JournalKind.FACTS)).uploads
    assert [file.name for file in told] == ["a"]


def test_a_pipe_of_the_scripts_is_no_file_to_be_compared(job: Job) -> None:
    (job.root / "files/outputs").mkdir()
    os.mkfifo(job.root / "files/outputs/pipe")
    with pytest.raises(StoreError, match="has another file"):
        make_run(job).upload_file("outputs/pipe", io.BytesIO(b""))


def test_uploads_of_unequal_length_and_of_nothing(job: Job) -> None:
    run = make_run(job)
    with pytest.raises(StoreError, match="2 names are given for 1 files"):
        run.upload_files(["a", "b"], ["a"])
    with pytest.raises(StoreError, match="there is no folder"):
        run.upload_folder("a", job.root / "absent")
    with pytest.raises(FileNotFoundError):
        run.upload_file("a", job.root / "absent")


# -- columns ---------------------------------------------------------------------------------------


def metric_of(job: Job, code: Callable[[Run], None]) -> Metric:
    code(make_run(job))
    return metrics_of(job.facts())["x"]


def test_columns(job: Job) -> None:
    run, other = make_run(job), make_run(job, rank=1)
    run.log("x", 1, step=4)
    run.log("x", 2)
    other.log("x", 0.5, step=7)
    columns = columns_of(metrics_of(job.facts())["x"])
    assert list(columns) == ["step", "rank", "attempt", "time", "x"]
    assert columns["step"].tolist() == [4, -1, 7]
    assert columns["rank"].tolist() == [0, 0, 1]
    assert columns["attempt"].tolist() == ["1.0"] * 3
    assert columns["time"].dtype == numpy.float64
    assert (columns["x"].dtype, columns["x"].tolist()) == (numpy.float64, [1.0, 2.0, 0.5])


def test_columns_with_the_names_of_others(job: Job) -> None:
    make_run(job).log_table("x", {"step": [1], "step_": [2], "rank": [3], "y": [4]})
    columns = columns_of(metrics_of(job.facts())["x"])
    assert list(columns)[4:] == ["step__", "step_", "rank_", "y"]
    assert [columns[name].tolist() for name in list(columns)[4:]] == [[1], [2], [3], [4]]
    assert columns["step"].tolist() == [-1]


@pytest.mark.parametrize(
    ("values", "dtype", "read"),
    [
        ([1, 2], numpy.int64, [1, 2]),
        ([True, False], numpy.bool_, [True, False]),
        ([1.5, math.inf], numpy.float64, [1.5, math.inf]),
        ([1, None], numpy.float64, [1.0, math.nan]),
        ([2**60, None], numpy.object_, [2**60, None]),
        ([2**70], numpy.object_, [2**70]),
        (["a", 1], numpy.object_, ["a", 1]),
        ([True, 1], numpy.object_, [True, 1]),
        ([None], numpy.object_, [None]),
        ([], numpy.object_, []),
    ],
)
def test_a_column_has_the_narrowest_type(
    job: Job, values: list[Any], dtype: type, read: list[Any]
) -> None:
    column = columns_of(metric_of(job, lambda run: run.log_list("x", values)))["x"]
    assert column.dtype == dtype
    assert repr(column.tolist()) == repr(read)


def test_a_tables_columns_and_their_frame(job: Job) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")

    def log(run: Run) -> None:
        run.log_table("x", {"a": [1, 2], "step": ["s", "t"]})
        run.log_row("x", a=3)

    columns = columns_of(metric_of(job, log))
    assert list(columns) == ["step", "rank", "attempt", "time", "a", "step_"]
    frame = frame_of(columns)
    assert isinstance(frame, pandas.DataFrame)
    assert frame["a"].tolist() == [1, 2, 3]
    assert frame["step_"].tolist()[:2] == ["s", "t"] and frame["step_"].isna()[2]
