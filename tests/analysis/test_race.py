import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from harness.analysis import race
from harness.analysis.race import Looks, look, visits_per_process
from harness.analysis.ranking import LEVEL, SAME
from harness.analysis.summary import summarize
from harness.analysis.visits import visits
from harness.axes import Layout
from harness.flags import Flag
from harness.record import Record
from harness.store import frames
from tests.analysis.visiting import of_cells, samples
from tests.builders import cell, record

NUMBERS = np.arange(1, 13)


def run(times: dict[str, list[int]], spread: float = 0.002, **of) -> list[Record]:
    """A record per backend and trial, each with thirty samples around its time."""
    return [
        record(
            [round(time * (1 + spread * (place % 3 - 1))) for place in range(30)], trial=trial, of=cell(backend=backend, **of)
        )
        for backend, by_trial in times.items()
        for trial, time in enumerate(by_trial)
    ]


def looked(records: list[Record], looks: Looks, until: float | None = None) -> dict[str, tuple[str, bool]]:
    """State and whether it goes on, by backend."""
    blocks = frames.samples_frame(records)
    found = look(summarize(frames.records_frame(records, [], "small"), blocks), visits(blocks), looks, until)
    return {row.backend: (row.state, row.goes_on) for row in found.itertuples()}


def test_what_the_looks_take_adds_up_to_one_level():
    levels = Looks(12).level(NUMBERS)
    assert levels[3:].sum() == pytest.approx(LEVEL)
    assert (np.diff(levels[3:]) > 0).all()
    assert levels[3] == pytest.approx(2 * norm.sf(norm.isf(LEVEL / 2) / math.sqrt(4 / 12)))
    assert (levels[:3] == levels[3]).all()  # an interval is shown before anything may be decided


def test_a_run_that_has_ended_takes_what_is_left():
    levels = Looks(12, last=6).level(NUMBERS)
    assert levels[3:6].sum() == pytest.approx(LEVEL)
    assert levels[3] == Looks(12).level(NUMBERS)[3]
    assert Looks(12, last=4).level(NUMBERS)[3] == LEVEL


def test_one_look_takes_all():
    assert Looks(4).level(NUMBERS)[3] == pytest.approx(LEVEL)
    assert Looks(3).level(NUMBERS)[2] == pytest.approx(LEVEL)


def test_what_is_sure_stops_and_what_is_not_keeps_a_partner():
    wanders = [1000, 1030, 980, 1010]
    near = [1010, 1000, 1020, 990]
    assert looked(run({"a": wanders, "b": near, "c": [3000, 3060, 2990, 3010]}), Looks(12)) == {
        "a": ("undecided", True), "b": ("undecided", True), "c": ("slower", False),
    }  # fmt: skip


def test_two_labels_of_a_framework_go_on_until_they_are_told_apart():
    wanders, near, fast = [3000, 3060, 2990, 3010], [3030, 3000, 3040, 2980], [1000, 1010, 990, 1000]
    found = looked(run({"a": wanders, "a@old": near, "b": [2000, 2020, 1980, 2000], "c": fast}), Looks(12))
    assert found == {
        "a": ("slower", True), "a@old": ("slower", True), "b": ("slower", False), "c": ("fastest", False),
    }  # fmt: skip
    steady = [30_000, 30_003, 29_997, 30_000]
    twice = {"a": steady, "a@old": [2 * time for time in steady], "c": [time // 3 for time in steady]}
    assert [goes_on for _, goes_on in looked(run(twice), Looks(12)).values()] == [False, False, False]


def test_when_all_are_sure_all_stop():
    steady = [100_000, 100_010, 99_990, 100_000]
    found = looked(run({"a": steady, "b": [2 * time for time in steady], "c": steady}), Looks(4))
    assert found == {"a": ("fastest", False), "b": ("slower", False), "c": ("equivalent", False)}


def test_an_interval_narrow_enough_stops():
    times = {"a": [10_000, 10_100, 9_900, 10_050], "b": [10_600, 10_500, 10_650, 10_400]}
    assert looked(run(times), Looks(12))["b"] == ("undecided", True)
    assert looked(run(times), Looks(12), until=0.05)["b"] == ("undecided", True)
    assert looked(run(times), Looks(12), until=0.30) == {"a": ("fastest", False), "b": ("within", False)}


def test_settings_compete_where_they_are_asked_to():
    records = run({"a": [1000, 1010, 990, 1000]}) + run({"a": [2000, 2020, 1980, 2000]}, layout=Layout.CHANNELS_LAST)
    blocks = frames.samples_frame(records)
    summary = summarize(frames.records_frame(records, [], "small"), blocks)
    found = look(summary, visits(blocks), Looks(4), same=[name for name in SAME if name != "layout"])
    assert found["state"].tolist() == ["fastest", "slower"]
    assert look(summary, visits(blocks), Looks(4))["state"].tolist() == ["alone", "alone"]


def test_before_four_trials_all_go_on():
    assert looked(run({"a": [1000] * 3, "b": [9000] * 3}), Looks(12)) == {"a": ("undecided", True), "b": ("undecided", True)}


def test_a_cell_alone_goes_on_until_it_is_narrow_enough():
    assert looked(run({"a": [1000, 1100, 900]}), Looks(12)) == {"a": ("alone", True)}
    assert looked(run({"a": [1000, 1100, 900, 1000]}), Looks(12)) == {"a": ("alone", False)}
    assert looked(run({"a": [1000, 1100, 900, 1000]}), Looks(12), until=0.03) == {"a": ("alone", True)}
    assert looked(run({"a": [1000, 1001, 999, 1000]}), Looks(12), until=0.03) == {"a": ("alone", False)}


def test_what_is_not_ranked_does_not_go_on():
    assert looked(run({"numpy": [1000] * 4, "a": [2000] * 4}), Looks(4)) == {"numpy": ("", False), "a": ("alone", False)}


def turned(count: int, process: float, visit: float, trials: int = 12) -> pd.DataFrame:
    """The samples of two cells, each visited so often by a process in a trial; processes and visits differ by so much."""
    rng = np.random.default_rng(1)
    made = []
    for trial in range(trials):
        levels = 1e6 * np.exp(process * rng.standard_normal((2, 1)) + visit * rng.standard_normal((2, count)))
        names = {str(cell(backend=backend)): by_turn[:, None] for backend, by_turn in zip("ab", levels, strict=True)}
        made += of_cells(names, trial=trial, first_turn=trial * count)
    return samples(made)


def allotted(blocks: pd.DataFrame, visit_s: float = 0.062, process_s: float = 2.0, trials: int = 12) -> int | None:
    records = [record(trial=trial, of=cell(backend=backend)) for backend in "ab" for trial in range(trials)]
    summary = summarize(frames.records_frame(records, [], "small"), blocks)
    return visits_per_process(summary, visits(blocks), visit_s=visit_s, process_s=process_s)


def test_the_dearer_a_process_and_the_noisier_a_visit_the_more_visits():
    expected = math.sqrt(2.0 / 0.062 * math.pi / 2 * 0.04**2 / 0.04**2)
    assert allotted(turned(30, process=0.04, visit=0.04)) == pytest.approx(expected, rel=0.35)
    assert allotted(turned(30, process=0.04, visit=0.04), process_s=0.5) == pytest.approx(expected / 2, rel=0.35)
    assert allotted(turned(30, process=0.04, visit=0.01)) == race.FEWEST_VISITS
    assert allotted(turned(30, process=0.001, visit=0.04)) == race.MOST_VISITS
    assert allotted(turned(5, process=0.04, visit=0.0)) == race.FEWEST_VISITS


def test_before_two_trials_or_without_a_comparison_nothing_is_known_of_visits():
    assert allotted(turned(5, 0.04, 0.04, trials=1), trials=1) is None
    alone = [record(trial=trial) for trial in range(4)]
    blocks = frames.samples_frame(alone)
    summary = summarize(frames.records_frame(alone, [], "small"), blocks)
    assert visits_per_process(summary, visits(blocks), visit_s=0.1, process_s=1.0) is None


def test_beside_a_time_that_a_flag_bars_all_go_on():
    records = run({"b": [2000, 2010, 2020, 2000]}) + [
        record([1000] * 30, trial=trial, flags=(Flag.CONTENDED,), of=cell(backend="a")) for trial in range(4)
    ]
    assert looked(records, Looks(4)) == {"a": ("undecided", True), "b": ("undecided", True)}
