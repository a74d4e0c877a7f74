"""What stored runs say of how sure they are. Runs in, numbers out; nothing here measures.

Two cells are compared as `harness.analysis` compares them: the median of the log-ratios of their visits in a trial, then over
the pairs of processes. A run whose trials were not cut into visits has one visit per cell and trial.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from harness.analysis import inference, pairs, times
from harness.analysis.fastest import Groups, Standing, standing
from harness.analysis.inference import Estimates
from harness.analysis.race import Looks
from harness.analysis.ranking import LEVEL
from harness.analysis.visits import Turns, median_of_rows, turns, visits
from harness.outcome import ENOUGH_PAIRS, EQUIVALENT

SAME_SIZE = 0.05  # within which two times are called the same when engines are held against each other
LEVEL_OF_ONE = 0.025  # the probability of calling one pair of equals different
GROUPS, MEMBERS = 1000, 6  # of equals
PLANTED, SEEDS = 1.05, range(20)
SHORT_NS, OFF = 2e6, 0.10  # beside a busy process no time of a shorter call may be off by more without a flag

Pairs = Sequence[tuple[str, str]]  # cells by name: the left over the right


@dataclass(frozen=True)
class Run:
    """A stored run: its cells that are ok, a row each, and its visits as `visits.visits` has them."""

    name: str
    cells: pd.DataFrame  # cell, workload, direction, backend, mode, flags
    visited: pd.DataFrame
    looks: Looks | None = None  # where it was looked at after each trial

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """From its folder."""
        from harness.store import journal, table

        run, records, samples = journal.read_run(folder), table.load(folder), table.samples(folder)
        ok = records[records["status"] == "ok"]
        flags = ok.groupby("cell")["flags"].agg(lambda texts: ",".join(sorted(set(filter(None, ",".join(texts).split(","))))))
        cells = ok.drop_duplicates("cell")[["cell", "workload", "direction", "backend", "mode"]]
        last = int(ok["trial"].max()) + 1 if len(ok) else 0
        looks = Looks(run.most_trials, last) if run.most_trials else None
        return cls(run.id, cells.assign(flags=cells["cell"].map(flags)).reset_index(drop=True), visits(samples), looks)

    @cached_property
    def turns(self) -> Turns:
        """Its visits as a table, by their medians."""
        return self.turns_by("median_ns")

    def turns_by(self, figure: str) -> Turns:
        """Its visits as a table, by another figure of them."""
        return next(iter(turns(self.visited, figure).values()))

    def ratios(self, compared: Pairs, of: Turns | None = None) -> np.ndarray:
        """The log-ratios of these pairs of cells by pairs of processes, (pairs, trials)."""
        table = of or self.turns
        left, right = (table.places(side) for side in zip(*compared, strict=True))
        return pairs.log_ratios(table, left, right)

    def estimates(self, compared: Pairs, ratios: np.ndarray | None = None) -> Estimates:
        """What their log-ratios come to; the variance is shared by comparisons of the same two backends."""
        backends = dict(zip(self.cells["cell"], self.cells["backend"], strict=True))
        sides = [np.array([backends.get(cell, "") for cell in side]) for side in zip(*compared, strict=True)]
        found = self.ratios(compared) if ratios is None else ratios
        return inference.moderated(found, pairs.pools(*sides))

    def times(self) -> pd.DataFrame:
        """Time and interval of each cell, by name."""
        backends = dict(zip(self.cells["cell"], self.cells["backend"], strict=True))
        return times.times(self.visited, backends).set_index("cell")

    def medians(self) -> pd.Series:
        """The raw median time of each cell, in ns, by name."""
        return self.visited.groupby("cell")["median_ns"].median()


# Engines --------------------------------------------------------------------------------------------------------------------


def with_the_fastest(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Each cell with the fastest of its workload and direction, by all runs together, so that every run has the same pairs."""
    level = np.log(pd.DataFrame({number: run.medians() for number, run in enumerate(runs)})).mean(axis=1)
    cells = runs[0].cells[runs[0].cells["cell"].isin(level.index)]
    found = []
    for _, group in cells.groupby(["workload", "direction"], sort=False):
        fastest = min(group["cell"], key=lambda cell: float(level[cell]))
        found += [(cell, fastest) for cell in group["cell"] if cell != fastest]
    return found


@dataclass(frozen=True)
class Known:
    """What several runs say of the same logs: (runs, logs) each. NaN where a run says nothing."""

    value: np.ndarray
    half: np.ndarray

    @property
    def slower(self) -> np.ndarray:
        """Whether the whole interval lies above 0."""
        found: np.ndarray = self.value - self.half > 0
        return found

    @property
    def faster(self) -> np.ndarray:
        """Whether the whole interval lies below 0."""
        found: np.ndarray = self.value + self.half < 0
        return found

    @property
    def same(self) -> np.ndarray:
        """Whether the whole interval lies within SAME_SIZE."""
        found: np.ndarray = np.abs(self.value) + self.half <= np.log1p(SAME_SIZE)
        return found

    @property
    def decided(self) -> np.ndarray:
        """How many are decided, by run."""
        found: np.ndarray = (self.slower | self.faster | self.same).sum(axis=1)
        return found

    @property
    def opposite(self) -> int:
        """How many are decided in opposite directions in two runs."""
        return int((self.slower.any(axis=0) & self.faster.any(axis=0)).sum())

    @property
    def covered(self) -> tuple[int, int]:
        """Of how many of all pairs of runs the values differ by no more than the intervals together, and of how many in all."""
        held = told = 0
        for one, other in combinations(range(len(self.value)), 2):
            apart = np.abs(self.value[one] - self.value[other])
            together = np.hypot(self.half[one], self.half[other])
            known = ~np.isnan(apart) & ~np.isnan(together)
            held, told = held + int((apart <= together)[known].sum()), told + int(known.sum())
        return held, told

    def half_width(self) -> float:
        """The median half width of all intervals, as a share: 0.04 for ± 4 %."""
        known = self.half[~np.isnan(self.half)]
        return float(np.expm1(np.median(known))) if len(known) else float("nan")


def comparisons_of(runs: Sequence[Run], compared: Pairs) -> Known:
    """What each run says of these pairs; each interval holds for itself, at 95 %."""
    found = [run.estimates(compared) for run in runs]
    return Known(np.stack([each.mean for each in found]), np.stack([each.half() for each in found]))


def times_of(runs: Sequence[Run]) -> Known:
    """What each run says of the time of each cell that all of them have."""
    tables = [np.log(run.times()[["time_ns", "time_low_ns", "time_high_ns"]].astype(float)) for run in runs]
    cells = sorted(set.intersection(*(set(table.index) for table in tables)))
    value = np.stack([table.loc[cells, "time_ns"].to_numpy() for table in tables])
    high = np.stack([table.loc[cells, "time_high_ns"].to_numpy() for table in tables])
    return Known(value, high - value)


# Equals ---------------------------------------------------------------------------------------------------------------------


def equals(run: Run) -> list[tuple[str, str]]:
    """The pairs of a cell and its equal: the same backend under a label."""
    known = set(run.cells["cell"])
    found = [(cell.replace(f"/{backend}/", f"/{backend.partition('@')[0]}/"), cell)
             for cell, backend in zip(run.cells["cell"], run.cells["backend"], strict=True) if "@" in backend]  # fmt: skip
    return [(plain, twin) for plain, twin in found if plain in known]


def different(run: Run, compared: Pairs, ratios: np.ndarray | None = None) -> np.ndarray:
    """-1, 0 or 1 for each pair of cells: whether it is called faster, neither, or slower, at LEVEL_OF_ONE for each by itself.

    Where the run was looked at after each trial, what may go wrong is spent over the looks as its own rule does.
    """
    found = run.estimates(compared, ratios)
    level = np.full(len(found.mean), LEVEL_OF_ONE)
    if run.looks:
        level = LEVEL_OF_ONE / LEVEL * run.looks.level(found.count)
    half = inference.all_pairs_quantile(level, np.array(2), found.df) * found.error
    sure = (np.abs(found.mean) > half) & (found.count >= ENOUGH_PAIRS)
    return np.where(sure, np.sign(found.mean), 0).astype(int)


def groups_of_equals(runs: Sequence[Run], seed: int = 0, groups: int = GROUPS) -> tuple[int, float]:
    """In how many groups of MEMBERS equal cells one is called slower, and the mean factor to the fastest that is shown.

    Both are by the rule for the best of several.

    A pair of equals gives the visits of one member: their log-ratios over the square root of 2, so that those of two members
    vary as those of a cell and its equal do, bursts and processes included. Members are drawn from all pairs of all runs that
    have enough trials, with a sign by chance; a group has as many trials as the member with the fewest.
    """
    members = [trials for run in runs for trials in _visits_of_equals(run) if len(trials) >= ENOUGH_PAIRS]
    if len(members) < MEMBERS:
        return 0, float("nan")
    rng, slower, factors = np.random.default_rng(seed), 0, []
    for _ in range(groups):
        drawn = [members[number] for number in rng.choice(len(members), MEMBERS, replace=False)]
        signs = rng.choice((-1.0, 1.0), MEMBERS)
        found = _standing([[sign * trial for trial in trials] for sign, trials in zip(signs, drawn, strict=True)])
        slower += bool(found.slower.any())
        factors.append(float(np.exp(found.shown).mean()))
    return slower, float(np.mean(factors))


def _visits_of_equals(run: Run) -> list[list[np.ndarray]]:
    """For each pair of equals, by trial: the log-ratios of the paired visits over the square root of 2."""
    left, right = (run.turns.places(side) for side in zip(*equals(run), strict=True))
    by_trial = list(pairs.paired_visits(run.turns, left, right))
    kept = [[trial[number][~np.isnan(trial[number])] / np.sqrt(2) for trial in by_trial] for number in range(len(left))]
    return [[trial for trial in trials if len(trial)] for trials in kept]


def _standing(members: list[list[np.ndarray]]) -> Standing:
    """Where these stand by the rule for the best of several: members by trial, each an array of visits."""
    count = min(map(len, members))
    left, right = np.triu_indices(len(members), 1)
    ratios = np.empty((len(left), count))
    for trial in range(count):
        least = min(len(member[trial]) for member in members)
        table = np.stack([member[trial][:least] for member in members])
        ratios[:, trial] = np.median(table[left] - table[right], axis=1)
    estimates = inference.moderated(ratios, np.zeros(len(left), dtype=np.int64))
    shape = (1, len(members))
    return standing(Groups.of(estimates, (left, right), shape, lambda counts: np.full(counts.shape, LEVEL)))


def planted(runs: Sequence[Run], seed: int, times_as_slow: float = PLANTED) -> bool:
    """Whether a slowdown by that factor is found, of one equal of one run, both drawn by the seed."""
    rng = np.random.default_rng(seed)
    run = runs[int(rng.integers(len(runs)))]
    compared = [(twin, plain) for plain, twin in equals(run)]
    which = int(rng.integers(len(compared)))
    ratios = run.ratios(compared)
    ratios[which] += np.log(times_as_slow)  # each visit of the twin times as slow, so each of its log-ratios, and their median
    return bool(different(run, compared, ratios)[which] == 1)


# Spread ---------------------------------------------------------------------------------------------------------------------


def spread(run: Run, compared: Pairs, figure: str = "median_ns", of: Turns | None = None) -> np.ndarray:
    """The standard deviation of the log-ratio between pairs of processes, of each pair of cells; NaN for fewer than two."""
    return _deviation(run.ratios(compared, of or run.turns_by(figure)))


def _deviation(values: np.ndarray) -> np.ndarray:
    """The standard deviation of each row over what is not NaN; NaN for fewer than two."""
    count = np.count_nonzero(~np.isnan(values), axis=1)
    found = np.full(len(values), np.nan)
    found[count > 1] = np.nanstd(values[count > 1], axis=1, ddof=1)
    return found


def spread_unpaired(run: Run, compared: Pairs, figure: str = "median_ns") -> np.ndarray:
    """That of the ratio of the figures of two processes that are no neighbours, of each pair of equals.

    A process's figure is the median of its visits; the ratio of two of independent processes varies by the square root of 2
    times as much as one figure does, over all processes of both equals.
    """
    table = run.turns_by(figure)
    figures = table.by_trial(table.of_one_process())
    left, right = (table.places(side) for side in zip(*compared, strict=True))
    return np.sqrt(2) * _deviation(np.concatenate([figures[left], figures[right]], axis=1))


def beside_in_group(run: Run, equal: bool) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """(backend, backend, pairs of cells) of each two that stand in one group: of equals, or of two different frameworks."""
    cells = run.cells.assign(adapter=run.cells["backend"].str.partition("@")[0])
    kinds: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for _, group in cells.groupby(["workload", "direction"], sort=False):
        for one, other in combinations(group.itertuples(), 2):
            if (one.adapter == other.adapter) is equal:
                kinds.setdefault(tuple(sorted((one.adapter, other.adapter))), []).append((one.cell, other.cell))
    for (one, other), compared in sorted(kinds.items()):
        yield one, other, compared


def by_distance(run: Run, compared: Pairs, far: int = 3) -> dict[int, tuple[float, int]]:
    """By how far apart two visits stood in their turn: the standard deviation of one log-ratio, and how many there are.

    Each ratio is taken from the median of its pair of processes, whose visits of all distances it is; `far` stands for itself
    and all beyond.
    """
    places = {cell: (group["turn"].to_numpy(), group["place"].to_numpy()) for cell, group in run.visited.groupby("cell")}
    left, right = (run.turns.places(side) for side in zip(*compared, strict=True))
    numbers = np.unique(run.visited["turn"])
    found: dict[int, list[np.ndarray]] = {distance: [] for distance in range(1, far + 1)}
    for span, ratios in zip(run.turns.spans, pairs.paired_visits(run.turns, left, right), strict=True):
        beyond = ratios - median_of_rows(ratios)[:, None]
        for row, (one, other) in enumerate(compared):
            apart = np.abs(_placed(places[one], numbers[span]) - _placed(places[other], numbers[span]))
            for distance in found:
                here = (np.minimum(apart, far) == distance) & ~np.isnan(beyond[row])
                found[distance].append(beyond[row][here])
    joined = {distance: np.concatenate(parts) for distance, parts in found.items()}
    return {distance: (robust(values), len(values)) for distance, values in joined.items()}


def _placed(of: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """The place of a cell in each of these turns; NaN where it was not visited."""
    known = dict(zip(*of, strict=True))
    return np.array([known.get(turn, np.nan) for turn in wanted], dtype=float)


def robust(values: np.ndarray) -> float:
    """The standard deviation of normal values by their median deviation, which bursts do not move; NaN for none."""
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if len(values) else float("nan")


# Beside something busy --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disturbed:
    """A run beside a busy process against a quiet one of the same cells: how many are wrong, and how many of these say so."""

    comparisons: int
    comparisons_off: int  # by more than SAME_SIZE
    comparisons_silent: int  # of these without a flag on either cell
    times: int  # of calls under SHORT_NS
    times_off: int  # by more than OFF
    times_silent: tuple[str, ...]  # those of these without a flag


def disturbed(quiet: Run, busy: Run, barred: Mapping[str, str]) -> Disturbed:
    """`barred` says by cell what bars a verdict on it beside the busy process, if anything."""
    both = set(quiet.cells["cell"]) & set(busy.cells["cell"])
    compared = [pair for _, _, of_kind in beside_in_group(quiet, equal=False) for pair in of_kind if both.issuperset(pair)]
    off = np.abs(busy.estimates(compared).mean - quiet.estimates(compared).mean) > np.log1p(SAME_SIZE)
    silent = [not barred.get(one) and not barred.get(other) for one, other in compared]
    before, after = (run.times()["time_ns"].astype(float) for run in (quiet, busy))
    short = sorted(cell for cell in both if before[cell] < SHORT_NS)
    wrong = [cell for cell in short if abs(after[cell] / before[cell] - 1) > OFF]
    return Disturbed(
        len(compared), int(off.sum()), int((off & np.array(silent)).sum()), len(short), len(wrong),
        tuple(cell for cell in wrong if not barred.get(cell)),
    )  # fmt: skip


# What is worth its time -------------------------------------------------------------------------------------------------------


def figures_of_processes(run: Run, samples: pd.DataFrame) -> dict[str, np.ndarray]:
    """The standard deviation of each cell's figure between processes: raw, less the turns' common part, over the yardstick."""
    table = run.turns
    log_ns = table.of_one_process()
    backends = dict(zip(run.cells["cell"], run.cells["backend"], strict=True))
    _, backend = np.unique([backends.get(cell, "") for cell in table.cells], return_inverse=True)
    paces = samples[samples["yardstick_ns"].notna()].groupby(["cell", "turn"])["yardstick_ns"].median().astype(float)
    pace = np.log(
        paces.unstack("turn").reindex(index=table.cells, columns=np.unique(run.visited["turn"])).to_numpy(dtype=float)
    )
    common = times.common_parts(log_ns, backend).part
    found = {"raw": log_ns, "without the turn's common part": log_ns - common, "over the yardstick": log_ns - pace}
    return {kind: _deviation(table.by_trial(logs)) for kind, logs in found.items()}


# Tuned ------------------------------------------------------------------------------------------------------------------------


def confirmed(full: Run, cell: str) -> tuple[str, float]:
    """What a full run says of the setting that a cell has: fastest, equal, slower or undecided; and over the fastest.

    It is held against every other setting of its layer and backend. `equal`: at most 2 % slower, by the estimate.
    """
    (named,) = full.cells[full.cells["cell"] == cell].itertuples()
    cells = full.cells
    alike = cells[(cells["workload"] == named.workload) & (cells["direction"] == named.direction)
                  & (cells["backend"] == named.backend) & (cells["cell"] != cell)]  # fmt: skip
    if alike.empty:
        return "fastest", 1.0
    found = full.estimates([(cell, other) for other in alike["cell"]])
    low, over = found.mean - found.half(), float(np.nanmax(found.mean))
    if over <= 0:
        return "fastest", 1.0
    if over <= np.log(EQUIVALENT):
        return "equal", float(np.exp(over))
    return ("slower" if (low > 0).any() else "undecided"), float(np.exp(over))
