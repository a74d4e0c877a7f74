"""The trace as any reader of the format sees it: required keys, events that nest on each track, and as many as there were."""

import csv
import gzip
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.measure import chrome
from harness.measure.attribute import Call, Span, attribute
from harness.profile import Event, Kind, Level, Role

SPANS = [Span(1_000, 11_000), Span(30_000, 41_000), Span(41_000, 50_000)]


def of_a_call(start: int) -> list[Event]:
    """An operator on one thread with a primitive in it, which another source tells of, and two thunks that overlap."""
    operator = Event(start + 500, start + 8_000, "7", Level.OPERATOR, "aten::conv2d", Kind.FRAMEWORK, "torch.profiler")
    primitive = Event(
        start + 1_000, start + 7_000, "oneDNN", Level.PRIMITIVE, "convolution", Kind.CONVOLUTION, "oneDNN",
        "brg_conv_fwd:avx512_core", "mb1_ic3", "acdb", "acdb", Role.FILTER,
    )  # fmt: skip
    thunk = Event(start + 1_500, start + 5_000, "9", Level.COMPILED, "fusion", Kind.ELEMENTWISE, "XLA")
    return [operator, primitive, thunk, replace(thunk, start_ns=start + 3_000, end_ns=start + 6_000)]


@pytest.fixture
def calls() -> list[Call]:
    return attribute([event for span in SPANS for event in of_a_call(span.start_ns)], SPANS)


@pytest.fixture
def trace(calls: Sequence[Call], tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "traces" / "a.json.gz"
    chrome.write(path, {"cell": "conv/fprop"}, calls)
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return found


def complete(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


def tracks(trace: dict[str, Any]) -> dict[int, str]:
    return {event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"}


def test_every_event_has_what_the_format_asks_for(trace: dict[str, Any]):
    assert trace["otherData"] == {"cell": "conv/fprop"}
    assert {event["ph"] for event in trace["traceEvents"]} == {"X", "M"}
    for event in complete(trace):
        assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} <= event.keys()
        assert event["ts"] >= 0
        assert event["dur"] >= 0
    assert {event["tid"] for event in complete(trace)} == tracks(trace).keys()


def test_the_calls_stand_one_right_after_the_other(trace: dict[str, Any]):
    found = [(event["name"], event["ts"], event["dur"]) for event in complete(trace) if event["cat"] == "call"]
    assert found == [("call 1", 0.0, 10.0), ("call 2", 10.0, 11.0), ("call 3", 21.0, 9.0)]


def test_there_are_as_many_convolutions_as_calls_and_each_lies_in_its_call(trace: dict[str, Any]):
    found = [event for event in complete(trace) if event["cat"] == "convolution"]
    assert [event["ts"] for event in found] == [1.0, 11.0, 22.0]
    assert [event["dur"] for event in found] == [6.0] * 3
    assert found[0]["args"] == {
        "level": "primitive", "implementation": "brg_conv_fwd:avx512_core", "detail": "mb1_ic3", "src_format": "acdb",
        "dst_format": "acdb", "role": "filter",
    }  # fmt: skip


def test_each_thread_of_each_source_has_a_track_and_events_of_a_track_nest(trace: dict[str, Any]):
    assert sorted(tracks(trace).values()) == ["XLA 9", "XLA 9 (2)", "calls", "oneDNN", "torch.profiler 7"]
    for track in tracks(trace):
        events = [event for event in complete(trace) if event["tid"] == track]
        for one, other in itertools.combinations(events, 2):
            first, second = sorted((one, other), key=lambda each: (each["ts"], -each["dur"]))
            end, begin = first["ts"] + first["dur"], second["ts"]
            assert begin >= end or begin + second["dur"] <= end


def test_an_event_is_cut_at_the_end_of_its_call():
    (call,) = attribute([Event(50, 300, "1", Level.SPAN, "long", Kind.FRAMEWORK, "s")], [Span(100, 200)])
    (found,) = [event for event in chrome.events([call]) if event["name"] == "long"]
    assert (found["ts"], found["dur"]) == (0.0, 0.1)


def test_the_same_calls_make_the_same_file(calls: Sequence[Call], tmp_path: Path):
    for name in ("a", "b"):
        chrome.write(tmp_path / name, {}, calls)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


PERFETTO = os.environ.get("PERFETTO_BIN") or shutil.which("trace_processor_shell") or shutil.which("trace_processor")
QUERIES = {
    "SELECT name, ts, dur FROM slice WHERE category = 'call' ORDER BY ts": [
        ["call 1", "0", "10000"], ["call 2", "10000", "11000"], ["call 3", "21000", "9000"],
    ],
    "SELECT COUNT(*) FROM slice WHERE category = 'convolution' AND dur = 6000": [["3"]],
    "SELECT DISTINCT thread.name FROM slice JOIN thread_track ON slice.track_id = thread_track.id JOIN thread USING (utid)"
    " ORDER BY thread.name": [["XLA 9"], ["XLA 9 (2)"], ["calls"], ["oneDNN"], ["torch.profiler 7"]],
    "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0": [],
}  # fmt: skip


@pytest.mark.skipif(
    not PERFETTO,
    reason="needs Perfetto's trace processor: PERFETTO_BIN must name the program trace_processor_shell, which is part of every "
    "release at https://github.com/google/perfetto/releases",
)
@pytest.mark.parametrize("query", QUERIES)
def test_perfetto_reads_all_of_it_and_drops_nothing(calls: Sequence[Call], tmp_path: Path, query: str):
    chrome.write(tmp_path / "a.json.gz", {"cell": "conv/fprop"}, calls)
    (tmp_path / "query").write_text(f"{query};\n")
    command = [str(PERFETTO), "-q", str(tmp_path / "query"), str(tmp_path / "a.json.gz")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    _, *rows = [row for row in csv.reader(said.stdout.splitlines()) if row]  # under the names of the columns
    assert rows == QUERIES[query]
