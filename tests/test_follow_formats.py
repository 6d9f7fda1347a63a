"""What is read of metric files: real event files, and the forms of Lightning and Hugging Face."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboardX.record_writer import RecordWriter

from hpcrun.agent.follow import csv_file, event_file, json_lines, trainer_state
from hpcrun.agent.follow.crc32c import crc32c
from hpcrun.agent.follow.points import Reading


def told(reading: Reading) -> list[tuple[str, Any, int | None]]:
    return [(point.name, point.value, point.step) for point in reading.points]


def written(folder: Path, *events: Event) -> bytes:
    """The bytes of an event file with these events, by tensorboardX's own framing."""
    writer = RecordWriter(str(folder / "events"))
    for event in events:
        writer.write(event.SerializeToString())
    writer.close()
    return (folder / "events").read_bytes()


def read_events(data: bytes) -> Reading:
    return event_file.read(data, "", False)


# -- event files --------------------------------------------------------------------------------


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_a_real_event_file_gives_its_scalars_and_counts_the_rest(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    for step in range(3):
        writer.add_scalar("loss/train", 0.5**step, step, walltime=1700000000.25 + step)
    writer.add_histogram("weights", numpy.arange(10.0), 2)
    writer.add_image("sample", numpy.zeros((3, 4, 4), dtype=numpy.uint8), 2)
    writer.add_text("note", "words", 2)
    writer.add_scalar("nan", math.nan, 7)
    writer.close()
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    reading = read_events(data)
    assert told(reading) == [
        *(("loss/train", 0.5**step, step) for step in range(3)),
        ("nan", {"f": "nan"}, 7),
    ]
    assert [p.time for p in reading.points[:3]] == [1700000000.25 + step for step in range(3)]
    assert (reading.consumed, reading.problem) == (len(data), "")
    assert reading.skipped == {"histogram": 1, "image": 1, "text": 1}


def tensor(dtype: int, shape: tuple[int, ...] = (), **values: Any) -> TensorProto:
    dims = [TensorShapeProto.Dim(size=size) for size in shape]
    return TensorProto(dtype=dtype, tensor_shape=TensorShapeProto(dim=dims), **values)


def scalar_event(tag: str, value: TensorProto, plugin: str = "scalars", step: int = 4) -> Event:
    data = SummaryMetadata.PluginData(plugin_name=plugin)
    metadata = SummaryMetadata(plugin_data=data) if plugin else None
    one = Summary.Value(tag=tag, tensor=value, metadata=metadata)
    return Event(wall_time=1.7e9, step=step, summary=Summary(value=[one]))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (tensor(1, float_val=[0.5]), 0.5),
        (tensor(1, tensor_content=struct.pack("<f", 0.5)), 0.5),
        (tensor(2, double_val=[0.1]), 0.1),
        (tensor(3, int_val=[-3]), -3),
        (tensor(9, int64_val=[1 << 40]), 1 << 40),
        (tensor(9, tensor_content=struct.pack("<q", -5)), -5),
        (tensor(10, bool_val=[True]), True),
        (tensor(19, half_val=[0x3800]), 0.5),
        (tensor(19, tensor_content=numpy.float16(0.5).tobytes()), 0.5),
        (tensor(14, tensor_content=b"\x00\x3f"), 0.5),
        (tensor(14, half_val=[0x3F00]), 0.5),
        (tensor(1), 0),
    ],
)
def test_scalars_of_tensorflow_2(tmp_path: Path, value: TensorProto, number: Any) -> None:
    for plugin in ("scalars", ""):  # only a tag's first value must tell the plugin
        reading = read_events(written(tmp_path, scalar_event("loss", value, plugin)))
        assert told(reading) == [("loss", number, 4)]
        assert reading.skipped == {}


@pytest.mark.parametrize(
    ("value", "plugin", "kind"),
    [
        (tensor(1, (2, 3), float_val=[1.0] * 6), "histograms", "histograms"),
        (tensor(7, string_val=[b"text"]), "text", "text"),
        (tensor(7, string_val=[b"text"]), "", "tensor"),
        (tensor(1, (2,), float_val=[1.0, 2.0]), "", "tensor"),
    ],
)
def test_other_tensors_are_counted(
    tmp_path: Path, value: TensorProto, plugin: str, kind: str
) -> None:
    reading = read_events(written(tmp_path, scalar_event("x", value, plugin)))
    assert (reading.points, reading.skipped) == ([], {kind: 1})


STEPS = (1, 2, 3)


def test_an_event_file_that_is_cut_anywhere_gives_its_whole_records(tmp_path: Path) -> None:
    events = [scalar_event("a", tensor(1, float_val=[n]), step=n) for n in STEPS]
    data = written(tmp_path, *events)
    size = len(data) // 3
    for cut in range(len(data) + 1):
        reading = read_events(data[:cut])
        assert reading.consumed == cut // size * size
        assert [point.step for point in reading.points] == list(STEPS[: cut // size])
        assert reading.problem == ""


def test_a_damaged_record_ends_what_is_read(tmp_path: Path) -> None:
    events = [scalar_event("a", tensor(1, float_val=[n]), step=n) for n in STEPS]
    data = written(tmp_path, *events)
    size = len(data) // 3
    for place in range(size, 2 * size):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        reading = read_events(damaged)
        assert (reading.consumed, len(reading.points)) == (size, 1)
        assert "damaged" in reading.problem


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_in_a_record_are_a_reading(body: bytes) -> None:
    framed = struct.pack("<QI", len(body), event_file.masked(struct.pack("<Q", len(body))))
    whole = framed + body + struct.pack("<I", event_file.masked(body))
    assert read_events(whole).consumed == len(whole)


# -- JSON lines ---------------------------------------------------------------------------------


def lines(text: str, step: str = "", final: bool = False) -> Reading:
    return json_lines.read(text.encode(), step, final)


def test_numbers_of_nested_objects_with_their_step_and_time() -> None:
    row = {"step": 3, "epoch": 0.5, "train": {"loss": 0.25, "ok": True}, "note": "x", "n": None}
    reading = lines(json.dumps({**row, "timestamp": 1.7e9, "time": 12.5, "list": [1]}) + "\n")
    assert told(reading) == [
        ("epoch", 0.5, 3),
        ("train/loss", 0.25, 3),
        ("train/ok", True, 3),
        ("time", 12.5, 3),
    ]
    assert {point.time for point in reading.points} == {1.7e9}
    assert reading.skipped == {"list": 1}


@pytest.mark.parametrize(
    ("row", "step", "points"),
    [
        ({"global_step": 2, "a": 1}, "", [("a", 1, 2)]),
        ({"epoch": 2.0, "a": 1}, "", [("a", 1, 2)]),
        ({"epoch": 2, "step": 7, "a": 1}, "epoch", [("step", 7, 2), ("a", 1, 2)]),
        ({"step": -1, "a": 1}, "", [("step", -1, None), ("a", 1, None)]),
        ({"a": 10**30}, "", [("a", {"i": hex(10**30)}, None)]),
        ({"step": 1}, "", []),
    ],
)
def test_which_key_is_the_step(row: dict[str, Any], step: str, points: list[Any]) -> None:
    assert told(lines(json.dumps(row) + "\n", step)) == points


def test_nan_and_infinity_as_python_writes_them() -> None:
    reading = lines('{"a": NaN, "b": -Infinity}\n')
    assert told(reading) == [("a", {"f": "nan"}, None), ("b", {"f": "-inf"}, None)]


def test_lines_that_are_no_objects_are_counted() -> None:
    reading = lines('[1]\n{"a": 1}\n\n{"a": \n' + "[" * 100_000 + "\n")
    assert told(reading) == [("a", 1, None)]
    assert reading.skipped == {"line that is no object": 1, "line that is no JSON": 2}


def test_a_last_line_without_a_newline_counts_once_nothing_follows() -> None:
    text = '{"a": 1}\n{"a": 2}'
    assert told(lines(text)) == [("a", 1, None)]
    reading = lines(text, final=True)
    assert (len(reading.points), reading.consumed) == (2, len(text))
    torn = lines('{"a": 1}\n{"a": 2', final=True)
    assert (len(torn.points), torn.consumed, torn.skipped) == (1, 9, {})


# -- CSV ----------------------------------------------------------------------------------------


def table(text: str, step: str = "") -> Reading:
    return csv_file.read(text.encode(), step, True)


def test_lightnings_rows_with_empty_cells() -> None:
    reading = table("epoch,loss,step,val_loss\r\n0,0.5,9,\r\n0,,9,0.75\r\n")
    assert told(reading) == [
        ("epoch", 0, 9),
        ("loss", 0.5, 9),
        ("epoch", 0, 9),
        ("val_loss", 0.75, 9),
    ]


def test_cells_that_are_no_numbers_give_no_points() -> None:
    text = '\ufeffname,a,"b ""x""",,a\n"two\nlines",1,nan,5,1_0\nshort\nlong,1,2,3,4,5\n'
    reading = table(text)
    # Of two columns of one name the second is a.1.
    first = [("a", 1, None), ('b "x"', {"f": "nan"}, None)]
    assert told(reading) == [*first, ("a", 1, None), ('b "x"', 2, None), ("a.1", 4, None)]
    assert (reading.consumed, reading.skipped) == (
        len(text.encode()),
        {"row longer than its header": 1},
    )


def test_a_row_without_its_newline_may_be_a_part_of_one() -> None:
    reading = table("step,a\n1,2\n2,0.1")
    assert (told(reading), reading.consumed) == ([("a", 2, 1)], 11)


def test_a_header_that_is_written_again_is_no_row() -> None:
    assert told(table("step,a\n1,2\nstep,a\n2,3\n")) == [("a", 2, 1), ("a", 3, 2)]


def test_a_cell_of_several_lines_is_one_cell() -> None:
    text = 'a,name,b\n1,"two\nlines, ""3,4"" in\n5,6,7",2\n'
    reading = table(text)
    assert told(reading) == [("a", 1, None), ("b", 2, None)]
    assert (reading.consumed, reading.skipped) == (len(text), {})


# -- Hugging Face -------------------------------------------------------------------------------

STATE = {
    "best_metric": None,
    "global_step": 20,
    "log_history": [
        {"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 5e-05, "loss": 2.5, "step": 10},
        {"epoch": 1.0, "eval_loss": 2.25, "step": 20},
        {"epoch": 1.0, "step": 20, "train_runtime": 3.5},
    ],
}


def test_the_log_history_of_a_trainer() -> None:
    reading = trainer_state.read(json.dumps(STATE, indent=2).encode(), "", False)
    assert told(reading) == [
        *(
            ("epoch", 0.5, 10),
            ("grad_norm", 1.5, 10),
            ("learning_rate", 5e-05, 10),
            ("loss", 2.5, 10),
        ),
        *(("epoch", 1.0, 20), ("eval_loss", 2.25, 20)),
        *(("epoch", 1.0, 20), ("train_runtime", 3.5, 20)),
    ]


@pytest.mark.parametrize("text", ["", "{", '{"log_history": 3}', "[]", json.dumps(STATE)[:-9]])
def test_a_trainers_file_that_is_not_whole_is_not_read(text: str) -> None:
    reading = trainer_state.read(text.encode(), "", False)
    assert (reading.points, reading.consumed) == ([], 0)
    assert reading.problem
