"""The best settings of scripted runs: who is chosen, how sure that is, and what it gains."""

import math

import pandas as pd
import pytest

from harness.analysis.summary import summarize
from harness.analysis.times import figures
from harness.analysis.tuning import networks, tuned
from harness.analysis.visits import visits
from harness.axes import Direction, Layout, Mode
from harness.columns import TUNED_COLUMNS
from harness.record import Record, Status
from harness.store import frames
from tests.builders import cell, failed, record

OVER = {"layout": "NHWC", "mode": "eager"}
FIRST, LAST = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST
STEADY = (1.0, 1.001, 0.999, 1.0)


def trials(time_ns: float, factors=STEADY, **of) -> list[Record]:
    """A record per factor, each with samples close around its time."""
    return [
        record([round(time_ns * factor * (1 + 0.002 * (place % 3 - 1))) for place in range(30)], trial=trial, of=cell(**of))
        for trial, factor in enumerate(factors)
    ]


def framed(records: list[Record]) -> tuple[pd.DataFrame, pd.DataFrame]:
    blocks = frames.samples_frame(records)
    return summarize(frames.records_frame(records, [], "small"), blocks), visits(blocks)


def found(records: list[Record], **more) -> list:
    frame = tuned(*framed(records), OVER, **more)
    assert tuple(frame.columns) == TUNED_COLUMNS
    return list(frame.itertuples())


def test_the_fastest_setting_is_chosen_and_its_gain_is_that_over_the_default():
    (row,) = found(
        trials(200_000, (1.0, 1.01, 0.99, 1.0), layout=LAST)
        + trials(100_000, layout=FIRST)
        + trials(300_000, layout=FIRST, mode=Mode.COMPILED)
    )
    assert (row.setting, row.choice, row.layout, row.mode) == ("NCHW eager", "best", "NCHW", "eager")
    assert row.default_cell == str(cell(layout=LAST))
    assert row.gain == pytest.approx(2, rel=0.01)
    assert 1.9 < row.gain_low < row.gain < row.gain_high < 2.1
    assert row.gain_pairs == 4
    assert (row.equal_to, row.open, row.dropped, row.failed) == ("", "", "", "")


def test_settings_that_are_equal_are_said_to_be():
    (row,) = found(
        trials(100_000, layout=LAST) + trials(100_050, layout=FIRST) + trials(250_000, layout=LAST, mode=Mode.COMPILED)
    )
    assert (row.setting, row.choice, row.equal_to) == ("NHWC eager", "equal", "NCHW eager")
    assert (row.gain, row.gain_low) == (1, 1)


def test_what_is_not_known_is_left_open():
    (row,) = found(trials(100_000, (0.7, 1.3, 0.9, 1.2), layout=LAST) + trials(95_000, (1.2, 0.8, 1.1, 0.9), layout=FIRST))
    assert row.choice == "undecided"
    assert row.open in ("NHWC eager", "NCHW eager")
    assert row.open != row.setting
    assert row.gain_low == 1


def test_before_four_pairs_of_processes_and_in_a_run_that_goes_on_nothing_is_decided():
    few = trials(100_000, STEADY[:3], layout=LAST) + trials(900_000, STEADY[:3], layout=FIRST)
    assert [(row.setting, row.choice) for row in found(few)] == [("NHWC eager", "undecided")]
    enough = trials(100_000, layout=LAST) + trials(900_000, layout=FIRST)
    assert [(row.setting, row.choice, row.best) for row in found(enough, ended=False)] == [("NHWC eager", "undecided", False)]


def test_a_wrong_result_is_never_chosen_however_fast():
    fast = trials(1_000, layout=FIRST)
    fast[2] = failed(Status.INCORRECT, "dw is off", trial=2, of=cell(layout=FIRST))
    (row,) = found(trials(100_000, layout=LAST) + fast + trials(50_000, layout=LAST, mode=Mode.COMPILED))
    assert (row.setting, row.choice, row.failed) == ("NHWC compiled", "best", "NCHW eager: incorrect")


def test_without_a_default_there_is_a_choice_but_no_gain_and_without_a_figure_neither():
    broken = [failed(Status.ERROR, "no", trial=trial, of=cell(layout=LAST)) for trial in range(4)]
    (row,) = found(broken + trials(100_000, layout=FIRST))
    assert (row.setting, row.choice) == ("NCHW eager", "alone")
    assert math.isnan(row.gain)
    (row,) = found(broken)
    assert (row.cell, row.setting, row.choice, row.failed) == ("", "", "none", "NHWC eager: error")


def test_what_was_dropped_is_named_with_its_trials():
    six = (*STEADY, 1.0, 1.001)
    (row,) = found(
        trials(100_000, six, layout=LAST) + trials(99_000, six, layout=FIRST) + trials(400_000, layout=LAST, mode=Mode.COMPILED)
    )
    assert row.dropped == "NHWC compiled: 4 trials"


def test_each_backend_has_its_own_best_setting_and_these_are_compared():
    rows = found([
        *trials(100_000, layout=LAST), *trials(200_000, layout=FIRST),
        *trials(150_000, layout=LAST, backend="jax"), *trials(50_000, layout=FIRST, backend="jax"),
    ])  # fmt: skip
    assert [(row.backend, row.setting, row.choice, row.best) for row in rows] == [
        ("torch", "NHWC eager", "best", False), ("jax", "NCHW eager", "best", True),
    ]  # fmt: skip
    assert rows[0].vs_best == pytest.approx(2, rel=0.01)


def test_threads_are_said_in_words():
    records = [each for threads in (0, 1, 4) for each in trials(100_000 * (threads or 9), threads=threads)]
    frame = tuned(*framed(records), {"threads": "0"})
    assert frame[["setting", "choice", "gain"]].round(2).to_numpy().tolist() == [["1 thread", "best", 9.0]]
    untuned = trials(100_000, layout=LAST) + trials(300_000, layout=LAST, threads=4)
    assert [row.threads for row in found(untuned)] == [0, 4]


def test_the_reference_competes_with_itself_and_with_no_other():
    rows = found([
        *trials(100_000, layout=LAST), *trials(200_000, layout=FIRST),
        *trials(1_000, layout=LAST, backend="numpy"), *trials(500, layout=FIRST, backend="numpy"),
    ])  # fmt: skip
    assert [(row.backend, row.setting, row.choice, row.best) for row in rows] == [
        ("torch", "NHWC eager", "best", False), ("numpy", "NCHW eager", "best", False),
    ]  # fmt: skip


def network(direction: Direction, layers: dict[str, tuple[int, dict[Layout, float]]], factors=STEADY) -> list[Record]:
    """Trials of the layers of a network: name to count and time by layout; the machine's speed in each trial by `factors`."""
    return [
        each
        for name, (count, times) in layers.items()
        for layout, time_ns in times.items()
        for each in trials(
            time_ns, factors, workload=name, layout=layout, direction=direction, count=count, network="Net", scaled=""
        )
    ]


def rolled(records: list[Record]) -> list:
    summary, visited = framed(records)
    found = figures(visited, summary.set_index("cell")["backend"].to_dict())
    return list(networks(tuned(summary, visited, OVER), found, OVER).itertuples())


def test_a_network_is_the_sum_of_its_layers_each_in_its_best_setting():
    layers = {"a": (3, {LAST: 200_000, FIRST: 100_000}), "b": (1, {LAST: 50_000, FIRST: 80_000})}
    (row,) = rolled(network(Direction.FPROP, layers, (1.0, 1.5, 0.8, 1.1)))
    assert (row.network, row.backend, row.direction, row.layers, row.shapes, row.trials) == ("Net", "torch", "fprop", 4, 2, 4)
    assert row.default_ns / row.best_ns == pytest.approx(650 / 350, rel=0.001)
    assert row.gain == pytest.approx(650 / 350, rel=0.001)
    assert row.gain_low == pytest.approx(row.gain, rel=0.01)  # the machine's speed is not in the ratio
    assert (
        row.default_low_ns < 0.8 * row.default_ns < 1.2 * row.default_ns < row.default_high_ns
    )  # but in a time of one backend
    assert row.best_high_ns / row.best_ns == pytest.approx(row.default_high_ns / row.default_ns, rel=0.01)


def test_the_three_passes_are_added_up_and_a_layer_without_a_figure_leaves_no_sum():
    layers = {"a": (2, {LAST: 200_000, FIRST: 100_000})}
    records = [each for way in (Direction.FPROP, Direction.DGRAD, Direction.WGRAD) for each in network(way, layers)]
    rows = {row.direction: row for row in rolled(records)}
    assert list(rows) == ["fprop", "dgrad", "wgrad", "passes"]
    assert rows["passes"].best_ns == pytest.approx(600_000, rel=0.01)
    assert (rows["passes"].layers, rows["passes"].shapes) == (2, 1)
    broken = [failed(Status.OOM, "", trial=each.trial, of=each.cell) if each.cell.direction is Direction.DGRAD and
              each.cell.layout is LAST else each for each in records]  # fmt: skip
    rows = {row.direction: row for row in rolled(broken)}
    assert math.isnan(rows["dgrad"].gain)
    assert math.isnan(rows["passes"].gain)
    assert rows["wgrad"].gain == pytest.approx(2, rel=0.01)


def test_a_sum_takes_only_the_trials_that_all_of_its_layers_have():
    short = network(Direction.FPROP, {"a": (1, {LAST: 200_000, FIRST: 100_000})})
    long = network(Direction.FPROP, {"b": (1, {LAST: 100_000, FIRST: 99_900})}, (*STEADY, 5.0, 5.0))
    (row,) = rolled(short + long)
    assert row.trials == 4
    assert row.default_ns == pytest.approx(300_000, rel=0.01)
