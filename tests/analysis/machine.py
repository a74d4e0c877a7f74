"""A scripted machine: the logs of visits to cells whose true times are known, on a machine whose speed wanders."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from harness.analysis.fastest import Groups, Level, Standing, standing
from harness.analysis.inference import moderated
from harness.analysis.race import Looks
from harness.analysis.visits import Turns
from harness.outcome import ENOUGH_PAIRS
from tests.analysis.visiting import RUN

PROCESS, VISIT = 0.04, 0.10


def pairs_of_equals(
    rng: np.random.Generator, comparisons: int, trials: int, visits: int = 10, process: float = PROCESS, visit: float = VISIT
) -> np.ndarray:
    """The log-ratios of pairs of processes that do the same, (comparisons, trials), each the median over so many visits.

    Bursts make visits up to several times as long; they hit one of two neighbours, and often the next turn as well.
    """
    size = (comparisons, trials, visits)
    ratios = visit * (rng.standard_normal(size) - rng.standard_normal(size))
    burst = rng.random(size) < 0.15
    burst[..., 1:] |= (rng.random(size)[..., 1:] < 0.5) & burst[..., :-1]
    ratios += burst * 0.5 * rng.exponential(size=size) * rng.choice([-1, 1], size)
    differ = process * (rng.standard_normal(size[:2]) - rng.standard_normal(size[:2]))
    found: np.ndarray = np.median(ratios, axis=2) + differ
    return found


def seen(logs: np.ndarray, visited: np.ndarray, level: Level, cells_of_run: int = 1) -> Standing:
    """Where groups of cells stand by the logs of their times, (groups, cells, trials), in the trials that visited them.

    So many groups in a row are of one run: in these the same two places are of the same two backends.
    """
    count, size, trials = logs.shape
    left, right = np.triu_indices(size, 1)
    known = np.where(visited, logs, np.nan)
    ratios = (known[:, left] - known[:, right]).reshape(-1, trials)
    pools = np.repeat(np.arange(count) // cells_of_run, len(left)) * len(left) + np.tile(np.arange(len(left)), count)
    return standing(Groups.of(moderated(ratios, pools), (left, right), (count, size), level))


def raced(logs: np.ndarray, cells_of_run: int = 1) -> tuple[Standing, np.ndarray]:
    """A race of these groups over all their trials: the last look, and which cell was visited in which trial.

    A cell that is sure is visited no more, and the fastest no more when all others of its group are; slower once is slower.
    """
    visited = np.ones(logs.shape, dtype=bool)
    looks = Looks(logs.shape[2])
    slower = np.zeros(logs.shape[:2], dtype=bool)
    for trials in range(ENOUGH_PAIRS, logs.shape[2] + 1):
        found = seen(logs[:, :, :trials], visited[:, :, :trials], looks.level, cells_of_run)
        slower |= found.slower & visited[:, :, trials - 1]
        fastest = np.arange(logs.shape[1]) == found.fastest[:, None]
        going = (~found.decided & ~fastest).any(axis=1, keepdims=True)
        visited[:, :, trials:] &= np.where(fastest, going, ~found.decided)[:, :, None]
    return replace(found, slower=slower), visited


def wander(rng: np.random.Generator, turns: int, slow: float = 0.25) -> np.ndarray:
    """Whether the machine is slow in each turn, (turns,): for 2 to 11 turns in a row, in this share of all."""
    lengths = rng.integers(2, 12, turns)
    found: np.ndarray = np.repeat(rng.random(turns) < slow, lengths)[:turns]
    return found


def table(log_ns: np.ndarray, trials: int, cells: Sequence[str] = ()) -> Turns:
    """The visits of a run by their logs, (cells, turns), in so many trials of as many turns; a process per cell and trial."""
    count, turns = log_ns.shape
    trial = np.repeat(np.arange(trials), turns // trials)
    process = trial[None, :] * count + np.arange(count)[:, None]
    names = tuple(cells) or tuple(f"cell-{place}" for place in range(count))
    return Turns(names, tuple(range(trials)), trial, log_ns, np.where(np.isnan(log_ns), -1, process), True)


def visits_of(of_run: Turns) -> pd.DataFrame:
    """The frame of visits that such a table was made from."""
    cell, turn = np.nonzero(~np.isnan(of_run.log_ns))
    return pd.DataFrame({
        "run_id": RUN, "trial": of_run.trial[turn], "cell": np.array(of_run.cells)[cell],
        "process": of_run.process[cell, turn], "turn": turn, "median_ns": np.exp(of_run.log_ns[cell, turn]),
        "turned": of_run.turned,
    })  # fmt: skip
