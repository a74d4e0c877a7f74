import json
import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import codec
from harness.axes import Device, Direction, Optimizer
from harness.flags import Flag
from harness.isolate.wire import Prepare, Setup
from harness.plan import Budget, Plan, Step
from harness.record import Check, Environment, Memory, Record, Run, Samples, Series, Status, Visit
from harness.spec import Cell, CopySpec, GemmSpec
from tests.builders import cell, environment, record, run
from tests.convolutions import small_specs

NUMBERS = st.floats(allow_nan=False)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))
SERIES = st.from_type(Series)


SIZES = st.integers(1, 10**6)
CEILINGS = st.builds(GemmSpec, SIZES, SIZES, SIZES) | SIZES.map(lambda size: CopySpec(16 * size))


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    direction = draw(st.sampled_from(Direction))
    optimizer = draw(st.sampled_from(Optimizer)) if direction is Direction.TRAIN else None
    some: dict[str, st.SearchStrategy[Any]] = {
        "spec": CEILINGS if direction is Direction.NONE else small_specs(),
        "direction": st.just(direction),
        "optimizer": st.just(optimizer),
    }
    others = dict.fromkeys(("mode", "device", "precision", "layout", "cache", "threads", "count", "network", "scaled"), ...)
    return draw(st.builds(Cell, **some, **others))


RECORDS = st.builds(
    Record,
    cell=cells(),
    started_at=TIMES,
    flop_framework=NUMBERS,
    check=st.builds(Check, max_rel_err=NUMBERS, tolerance=NUMBERS),
    samples=st.builds(Samples, series=st.lists(SERIES, max_size=2).map(tuple)),
    memory=st.from_type(Memory),
    **dict.fromkeys(("reason", "flags", "op", "op_reason", "settings", "threads_used", "environment_id", "spent_ns"), ...),
)
ENVIRONMENTS = st.builds(Environment, cpu_quota=st.none() | NUMBERS)
RUNS = st.builds(
    Run,
    started_at=TIMES,
    finished_at=st.none() | TIMES,
    tags=...,
    environments=st.lists(ENVIRONMENTS, max_size=2).map(tuple),
)
STEPS = st.builds(Step, cell=cells())
PLANS = st.builds(Plan, steps=st.lists(STEPS, max_size=2).map(tuple), budget=st.just(Budget(trials=2, timeout_s=7.5)))
VISITS = st.builds(Visit, series=st.lists(SERIES, max_size=2).map(tuple), steal_ns=..., spent_ns=...)


def through_text(value: Any) -> Any:
    return codec.loads(type(value), codec.dumps(value))


@settings(max_examples=40, deadline=None)
@given(st.one_of(cells(), RECORDS, RUNS, PLANS, VISITS, ENVIRONMENTS, st.from_type(Device)))
def test_what_crosses_a_border_arrives_as_it_left(value):
    assert through_text(value) == value
    assert "\n" not in codec.dumps(value)


def test_what_is_empty_arrives_too():
    bare = Record("r", 0, 0, cell(), Status.NOT_RUN, datetime(2026, 1, 1, tzinfo=UTC))
    for value in (bare, run(), environment(), Plan("s", (), 0, Budget()), Budget(), Prepare(Step(0, 1, cell()), 7)):
        assert through_text(value) == value


def test_types_are_restored_and_not_only_their_texts():
    back = through_text(record(flags=(Flag.NOISY,)))
    assert back.status is Status.OK
    assert back.flags == (Flag.NOISY,)
    assert type(back.flags[0]) is Flag
    assert back.started_at.tzinfo is not None
    assert type(back.cell.spec.padding) is tuple
    assert type(back.cell.spec.padding[0]) is tuple


def test_what_is_not_a_number_survives():
    assert math.isnan(through_text(Check(False, "spot", math.nan, 1e-6)).max_rel_err)
    assert through_text(Check(False, "spot", math.inf, 1e-6)).max_rel_err == math.inf


def test_a_check_of_an_older_journal_says_nothing_of_later_calls():
    old = {"ok": True, "method": "spot", "max_rel_err": 0.25, "tolerance": 1.0}
    assert codec.decode(Check, old) == Check(True, "spot", 0.25, 1.0, results_vary=None, compared_calls=())


def test_a_whole_number_may_stand_where_a_fraction_is_asked_for():
    back = codec.decode(float, 3)
    assert (back, type(back)) == (3.0, float)


def test_a_field_with_a_default_may_be_missing_in_what_an_older_version_wrote():
    data = codec.encode(cell())
    del data["count"]
    assert codec.decode(Cell, data) == cell()


# What does not fit -------------------------------------------------------------------------------------------------------

PLAIN = codec.encode(record())


def test_an_unknown_field_is_told_with_its_type():
    with pytest.raises(ValueError, match="Record: unknown field 'mood'"):
        codec.decode(Record, {**PLAIN, "mood": "good"})
    with pytest.raises(ValueError, match="Device: unknown field 'colour'"):
        codec.decode(Record, {**PLAIN, "cell": {**PLAIN["cell"], "device": {**PLAIN["cell"]["device"], "colour": 1}}})
    with pytest.raises(ValueError, match=r"no member of .*ConvSpec.* fits .*'colour'"):
        codec.decode(Record, {**PLAIN, "cell": {**PLAIN["cell"], "spec": {**PLAIN["cell"]["spec"], "colour": 1}}})


@pytest.mark.parametrize("name", ["run_id", "cell", "status", "started_at"])
def test_a_missing_field_is_told(name):
    data = {key: value for key, value in PLAIN.items() if key != name}
    with pytest.raises(ValueError, match=f"Record: .*'{name}'"):
        codec.decode(Record, data)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (int, "3"), (int, 3.0), (int, True), (int, None), (float, "1.5"), (float, True), (str, 3), (bool, 1), (bool, "true"),
        (Status, "splendid"), (Status, 3), (Status, ["ok"]),
        (tuple[int, ...], "12"), (tuple[str, ...], "abc"), (tuple[int, ...], 5), (tuple[int, ...], {"0": 1}),
        (tuple[int, ...], None),
        (tuple[int, int], [1]), (tuple[int, int], [1, 2, 3]), (tuple[int, ...], [1, "2"]),
        (dict[str, str], [["a", "b"]]), (dict[str, str], "a"), (dict[str, str], {"a": 1}), (dict[str, int], None),
        (datetime, "yesterday"), (datetime, 1_700_000_000), (datetime, None),
        (Cell, None), (Cell, []), (Cell, "conv/fprop"), (int | None, "3"), (Device | None, "cpu"),
    ],
)  # fmt: skip
def test_data_of_another_type_is_refused(kind, data):
    with pytest.raises(ValueError, match=r"\S"):
        codec.decode(kind, data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("trial", "0"),
        ("flags", "noisy"),
        ("flags", ["soso"]),
        ("settings", [1]),
        ("spent_ns", {"a": 0.5}),
        ("memory", 3),
        ("status", None),
    ],
)
def test_a_field_of_another_type_is_refused(name, data):
    with pytest.raises(ValueError, match=r"\S"):
        codec.decode(Record, {**PLAIN, name: data})


def test_a_value_that_its_own_type_refuses_is_refused():
    broken = {**PLAIN["cell"], "optimizer": "sgd"}
    with pytest.raises(ValueError, match="train needs one"):
        codec.decode(Cell, broken)


def test_text_that_is_no_json_is_refused():
    with pytest.raises(ValueError, match="Expecting"):
        codec.loads(Cell, '{"workload": ')


def test_a_number_that_no_table_can_hold_is_refused_by_its_field():
    with pytest.raises(ValueError, match="order: expected a whole number within 64 bits, found 1000"):
        codec.decode(Record, {**PLAIN, "order": 10**30})
    with pytest.raises(ValueError, match="expected a number within 64 bits"):
        codec.decode(float, 10**400)


@pytest.mark.parametrize("text", ["2026-03-01T02:30:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"])
def test_a_time_that_cannot_be_compared_or_kept_is_refused(text):
    with pytest.raises(ValueError, match="started_at: expected a time"):
        codec.decode(Record, {**PLAIN, "started_at": text})


@pytest.mark.fault("JSON holds brackets without end, huge numbers or no UTF-8", "it is refused like any wrong value")
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, b"\xff", b'"\xed\xa0\x80"', b"\xff\xfe[\x00]\x00", "nul", ""]
)
def test_whatever_stands_in_the_place_of_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"\S"):
        codec.parse(text)


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", "1e999"])
def test_a_number_without_an_end_is_refused_where_figures_are_asked_for(text):
    codec.parse(text)
    with pytest.raises(ValueError, match="expected a number with an end"):
        codec.parse(text, finite=True)


def test_half_a_surrogate_pair_becomes_a_mark_and_a_whole_one_stays():
    assert codec.parse(r'{"a\ud800": ["\udc00 \ud83d\ude00", 1]}') == {"a\ufffd": ["\ufffd 😀", 1]}
    assert codec.loads(str, codec.dumps("\udcff")) == "\ufffd"


def test_a_message_shows_little_of_what_it_is_about():
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for data in (deep, "x" * 10**6, [1] * 10**6, {"k" * 10**6: 1}):
        with pytest.raises(ValueError, match=r"\S") as caught:
            codec.decode(Cell, {"workload": data})
        assert len(str(caught.value)) < 500
    while deep:  # Python itself follows a list down when it lets go of it
        (deep,) = deep


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "."])
def test_what_is_no_file_is_not_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises((ValueError, IsADirectoryError)):
        codec.read(name)


@dataclass(frozen=True)
class Circle:
    radius: int


@dataclass(frozen=True)
class Box:
    width: int
    height: int


@given(st.one_of(st.from_type(Circle), st.from_type(Box), st.none()))
def test_members_of_a_union_are_told_apart_by_their_fields(value):
    assert codec.decode(Circle | Box | None, json.loads(codec.dumps(value))) == value


@pytest.mark.parametrize("data", [{"radius": 1, "width": 2}, {}, 5, None])
def test_what_is_no_member_of_a_union_is_refused(data):
    with pytest.raises(ValueError, match="no member"):
        codec.decode(Circle | Box, data)


def test_a_setup_for_a_worker_arrives():
    setup = Setup("harness.backends.numpy:NumpyBackend", "numpy", Device("gpu", 1), (0, 2), Budget(), 3, "run", probe=True)
    assert through_text(setup) == setup
