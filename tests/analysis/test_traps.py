"""What could fool a comparison, each on equals or on cells whose times are known; most at a size that takes a second or two."""

import math

import numpy as np
import pytest

from harness.analysis.inference import moderated
from harness.analysis.race import Looks
from harness.analysis.ranking import LEVEL
from tests.analysis.machine import PROCESS, VISIT, pairs_of_equals, raced, seen

MOST = 12


def different(ratios: np.ndarray, cells_of_run: int = 1) -> float:
    """The share of equals, by the log-ratios of their pairs, (comparisons, trials), of which one is called slower in a race."""
    logs = np.stack([ratios, np.zeros_like(ratios)], axis=1)
    return float(raced(logs, cells_of_run)[0].slower.any(axis=1).mean())


@pytest.mark.fault("visits of one process are taken for independent of each other", "the unit is the pair of processes")
def test_visits_are_not_independent():
    rng = np.random.default_rng(1)
    differ = PROCESS * math.sqrt(2) * rng.standard_normal((2000, 4, 1))
    visits = differ + VISIT * math.sqrt(2) * rng.standard_normal((2000, 4, 10))
    each = visits.reshape(2000, 40)
    assert (np.abs(each.mean(axis=1)) > 2.02 * each.std(axis=1, ddof=1) / math.sqrt(40)).mean() > 0.15
    found = moderated(np.median(visits, axis=2), np.repeat(np.arange(250), 8))
    assert (np.abs(found.mean) > found.half()).mean() < 0.065


@pytest.mark.fault(
    "a run is looked at after each of 4 to 12 pairs of processes",
    "of equals at most 3 % are called different, whether their variance is their own or shared",
)
@pytest.mark.parametrize("comparisons", [2400, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("cells_of_run", [1, 8])
def test_looking_again_and_again(cells_of_run: int, comparisons: int):
    ratios = pairs_of_equals(np.random.default_rng(2), comparisons, MOST)
    assert different(ratios, cells_of_run) <= 0.03


def test_looking_again_and_again_at_one_level_is_the_trap():
    ratios = pairs_of_equals(np.random.default_rng(3), 2000, MOST)
    logs = np.stack([ratios, np.zeros_like(ratios)], axis=1)
    called = np.zeros(2000, dtype=bool)
    for trials in range(4, MOST + 1):
        here = logs[:, :, :trials]
        called |= seen(here, np.ones(here.shape, dtype=bool), lambda pairs: np.full(pairs.shape, LEVEL)).slower.any(axis=1)
    assert called.mean() > 0.12


@pytest.mark.fault(
    "processes are of two kinds, 1 or 1.8 times as slow", "of equals at most 2.5 % are called different by four trials"
)
@pytest.mark.parametrize("runs", [4000, pytest.param(20_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_processes_of_two_kinds(runs: int, share: float):
    rng = np.random.default_rng(4)
    kinds = math.log(1.8) * (rng.random((2, runs, MOST)) < share)
    alone = kinds[0] - kinds[1] + 0.02 * rng.standard_normal((runs, MOST))
    assert different(alone[:, :4]) <= 0.025
    assert different(alone) <= 0.03


@pytest.mark.fault(
    "cells leave a race when they happen to look sure",
    "ratios are what they would be without it, within 0.2 %, whenever a cell left",
)
@pytest.mark.parametrize("groups", [1000, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("process", [0.012, 0.03])
def test_the_race_itself(groups: int, process: float):
    rng = np.random.default_rng(5)
    true = np.log(np.concatenate([np.ones((groups, 1)), rng.uniform(1.0, 2.0, (groups, 3))], axis=1))
    logs = true[:, :, None] + process * rng.standard_normal((*true.shape, MOST))
    found, visited = raced(logs)
    assert visited.mean() < 0.5  # it is worth it
    known = np.where(visited, logs, np.nan)
    with_race = np.nanmean(known[:, 1:] - known[:, :1], axis=2)
    without = (logs[:, 1:] - logs[:, :1]).mean(axis=2)
    assert abs(np.median(with_race - without)) < 0.002
    assert abs(np.median(np.nanmean(known, axis=2) - logs.mean(axis=2))) < 0.002
    error, left = with_race - true[:, 1:], visited[:, 1:].sum(axis=2)
    slope = np.polyfit(left.ravel(), error.ravel(), 1)[0]
    assert abs(slope) * (MOST - 4) < 0.005
    assert (found.slower & (true == 0)).any(axis=1).mean() < 0.01


def test_a_race_finds_what_is_there():
    rng = np.random.default_rng(6)
    logs = np.log([1.0, 1.05, 1.5])[None, :, None] + 0.012 * rng.standard_normal((600, 3, MOST))
    found, visited = raced(logs, cells_of_run=6)
    assert (found.fastest == 0).mean() > 0.99
    assert found.slower[:, 1:].mean() > 0.98
    assert visited[:, 2].sum(axis=1).mean() < 4.2
    assert visited[:, 1].sum(axis=1).mean() < 7


def test_what_a_look_may_take_depends_on_its_number_alone():
    pairs = np.array([[4, 9], [12, 4]])
    assert Looks(MOST).level(pairs).tolist() == [[Looks(MOST).level(each) for each in row] for row in pairs]
