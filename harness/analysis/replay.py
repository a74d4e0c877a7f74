"""The gate's rules, and the nights of one machine judged by them from the first on: who was suspect, confirmed, resolved, when.

Pure, and causal: what is said of a night follows from it and the nights before it alone. All cases of a night are judged at
once, as vectors; the only loop is over the nights. What a night is worth, and how it is said, is `gate`'s business.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.analysis.history import ABSENT, Grid
from harness.analysis.trials import Estimator

SIGMA_PER_MAD = 1.4826  # of a normal distribution
RAW, CORRECTED, STANDARD = 0, 1, 2  # the estimators, as indices
ESTIMATORS = (str(Estimator.MEDIAN), str(Estimator.CORRECTED_MEDIAN), "vs_standard")


@dataclass(frozen=True)
class Rules:
    """The figures of the gate; docs/gate.md says where each comes from."""

    window: int = 30  # good nights in a baseline
    enough: int = 10  # fewer are no baseline
    z: float = 4.0
    floor: float = 0.03
    aa_noises: float = 3.0
    scale_floor: float = 0.005
    cpu_ns: float = 20_000.0
    gpu_ns: float = 1_000.0
    apart_s: float = 3600.0  # a rerun in the same hour is no independent evidence
    event_cells: int = 5
    event_share: float = 0.2
    event_backends: int = 2
    calm: int = 2  # nights under the threshold resolve
    family: int = 200  # above so many cases the false discovery rate is held
    fdr: float = 0.05


@dataclass(frozen=True, eq=False)
class Replay:
    """What the replay says of C cases on N nights.

    Matrices [C, N]: `moved` is 1 where a case was over its threshold, -1 where under the opposite one; `suspect` the same of
    those that were called suspect, `confirmed` of those that became confirmed; `judged` says where there was a verdict.
    `events` holds by night what moved the machine.

    Vectors [C] after the last night: `sign` of the change that is open, 0 where none is, and `since`, the night it began;
    `pending` and `pending_since` likewise of one that is not confirmed; `resolved` the sign of one that the last night ended;
    `acknowledged` whether an acknowledged level is without a complete baseline; `level` the first night of the level in force.
    And of the last night: `estimator`, `measured_ns`, the median of the baseline's figures as they were measured, `change`, `z`
    and `threshold` as shares by that estimator, `scale` as a share of its median, `nights` in the baseline; NaN where there is
    none.
    `aa_noise` is the machine's, by estimator.
    """

    moved: np.ndarray
    suspect: np.ndarray
    confirmed: np.ndarray
    judged: np.ndarray
    events: Mapping[int, str]
    sign: np.ndarray
    since: np.ndarray
    pending: np.ndarray
    pending_since: np.ndarray
    resolved: np.ndarray
    acknowledged: np.ndarray
    level: np.ndarray
    estimator: np.ndarray
    measured_ns: np.ndarray
    change: np.ndarray
    z: np.ndarray
    threshold: np.ndarray
    scale: np.ndarray
    nights: np.ndarray
    aa_noise: np.ndarray


def replay(grid: Grid, acknowledged: Mapping[int, np.ndarray] | None = None, rules: Rules | None = None) -> Replay:
    """The replay of a machine; `acknowledged` marks, by the night from which on it holds, the cases of an acknowledgement."""
    return _Machine(grid, acknowledged or {}, rules or Rules()).run()


class _Window:
    """The last good nights of each case, the newest in no particular place: values [C, W], NaN where there is none yet."""

    def __init__(self, cases: int, size: int) -> None:
        self.values = np.full((len(ESTIMATORS), cases, size), np.nan)
        self.segment, self.yardstick, self.standard, self.method = (np.full((cases, size), ABSENT) for _ in range(4))
        self.carry = np.zeros((cases, size))
        self.next = np.zeros(cases, dtype=np.int64)

    def push(self, rows: np.ndarray, values: np.ndarray, grid: Grid, nights: np.ndarray) -> None:
        """Add a night of each of these cases, in place of the oldest; values are [estimators, rows]."""
        at = self.next[rows]
        self.values[:, rows, at] = values
        for name in ("segment", "yardstick", "standard", "method", "carry"):
            getattr(self, name)[rows, at] = getattr(grid, name)[rows, nights]
        self.next[rows] = (at + 1) % self.segment.shape[1]

    def clear(self, rows: np.ndarray) -> None:
        """Forget all nights of these cases."""
        self.values[:, rows] = np.nan
        self.segment[rows] = self.yardstick[rows] = self.standard[rows] = self.method[rows] = ABSENT
        self.next[rows] = 0


@dataclass
class _Tonight:
    """What the baselines say of one night; vectors [C]."""

    judged: np.ndarray
    own_segment: np.ndarray
    estimator: np.ndarray
    measured_ns: np.ndarray
    scale: np.ndarray
    nights: np.ndarray
    change: np.ndarray
    z: np.ndarray
    threshold: np.ndarray
    moved: np.ndarray


class _Machine:
    """The state of all cases of a machine between two nights."""

    def __init__(self, grid: Grid, acknowledged: Mapping[int, np.ndarray], rules: Rules) -> None:
        self.grid, self.rules, self.acks = grid, rules, acknowledged
        cases, nights = grid.raw.shape
        self.values = np.stack([grid.raw * grid.factor, grid.ratio * grid.factor, grid.vs_standard])
        self.window = _Window(cases, rules.window)
        self.sign, self.pending = np.zeros(cases, dtype=np.int8), np.zeros(cases, dtype=np.int8)
        self.since, self.pending_since = np.full(cases, ABSENT), np.full(cases, ABSENT)
        self.pending_p, self.streak, self.calm = np.ones(cases), np.zeros(cases, dtype=int), np.zeros(cases, dtype=int)
        self.level = np.zeros(cases, dtype=int)
        self.acknowledged, self.resolved = np.zeros(cases, dtype=bool), np.zeros(cases, dtype=np.int8)
        self.shape, self.method = np.full(cases, ABSENT), np.full(cases, ABSENT)
        self.moved, self.suspect, self.confirmed = (np.zeros((cases, nights), dtype=np.int8) for _ in range(3))
        self.judged = np.zeros((cases, nights), dtype=bool)
        self.events: dict[int, str] = {}
        gpu = grid.axes["device"].str.startswith("gpu").to_numpy(dtype=bool)
        self.least_ns = np.where(gpu, rules.gpu_ns, rules.cpu_ns)
        self.backends = np.unique(grid.axes["backend"].to_numpy(dtype=str), return_inverse=True)[1]
        self.pairs = np.flatnonzero(grid.twin != ABSENT)
        self.twins = grid.twin[self.pairs]
        # Equals against each other: their log-ratios, [estimators, pairs, nights]. Both are by the method of their night.
        measured = np.stack([grid.raw, grid.ratio, grid.vs_standard])
        self.equals = np.log(measured[:, self.twins] / measured[:, self.pairs])
        self.equals_same = np.where((grid.yardstick[self.twins] == grid.yardstick[self.pairs])[None], self.equals, np.nan)

    def run(self) -> Replay:
        for night in range(self.grid.raw.shape[1]):
            self._cut(night)
            noise, machine_noise = self._noise(night)
            tonight = self._held_against_baselines(night, noise)
            self.judged[:, night] = tonight.judged
            self.moved[:, night] = tonight.moved
            self.resolved[:] = 0
            if why := self._event(night, tonight):
                self.events[night] = why
            else:
                self._transitions(night, tonight)
        return Replay(
            self.moved, self.suspect, self.confirmed, self.judged, self.events, self.sign, self.since, self.pending,
            self.pending_since, self.resolved, self.acknowledged, self.level, tonight.estimator, tonight.measured_ns,
            tonight.change, tonight.z, tonight.threshold, tonight.scale, tonight.nights, machine_noise,
        )  # fmt: skip

    # Baselines ------------------------------------------------------------------------------------------------------------

    def _cut(self, night: int) -> None:
        """Begin anew where a person has said so, and where the method or the shape is another one.

        A ratio to the standard is of two times by one method: a case that has it before and after goes on with its ratios
        alone.
        """
        said, shape = self.acks.get(night), self.grid.shape[:, night]
        there, method = shape != ABSENT, self.grid.method[:, night]
        before = there & (self.shape != ABSENT)
        same = self.window.standard == self.grid.standard[:, night, None]
        held = (~np.isnan(self.window.values[STANDARD]) & same).any(axis=1) & ~np.isnan(self.grid.vs_standard[:, night])
        other = before & ((shape != self.shape) | (self.method != method) & ~held)
        self.shape[there], self.method[there] = shape[there], method[there]
        rows = np.flatnonzero(other if said is None else other | said)
        if said is not None:
            self.acknowledged |= said
        self.acknowledged[other] = False
        if len(rows):
            self._restart(rows, night)

    def _restart(self, rows: np.ndarray, night: int) -> None:
        self.window.clear(rows)
        self.level[rows] = night
        self.sign[rows] = self.pending[rows] = 0
        self.since[rows] = self.pending_since[rows] = ABSENT

    def _noise(self, night: int) -> tuple[np.ndarray, np.ndarray]:
        """What a figure differs by from its equal, [estimators, C] by case, [estimators] of the machine; NaN: not known.

        Two equals differ by the noise of both, hence the root of 2. As in a comparison a case's own noise counts where it is
        the larger, and the machine's, the median over the pairs, where not.
        """
        cases = np.full((len(ESTIMATORS), len(self.grid.raw)), np.nan)
        if not len(self.pairs):
            return cases, np.full(len(ESTIMATORS), np.nan)
        lately = np.abs(self.equals_same[:, :, max(0, night + 1 - self.rules.window) : night + 1])
        own, counts = _median(lately)
        own *= SIGMA_PER_MAD / np.sqrt(2)
        known = counts > 0
        machine = np.array([np.median(of[there]) if there.any() else np.nan for of, there in zip(own, known, strict=True)])
        cases[:] = machine[:, None]
        own = np.where(counts >= self.rules.enough, np.fmax(own, machine[:, None]), machine[:, None])
        cases[:, self.pairs] = cases[:, self.twins] = own
        return cases, machine

    def _held_against_baselines(self, night: int, noise: np.ndarray) -> _Tonight:
        grid, rules, window = self.grid, self.rules, self.window
        segment, yardstick = grid.segment[:, night], grid.yardstick[:, night]
        own = window.segment == segment[:, None]
        own_count = own.sum(axis=1)
        # The segment's own nights where they are enough, else those before it too, and those since were held against them.
        use = np.where((own_count >= rules.enough)[:, None], own, window.segment != ABSENT)
        same_standard = window.standard == grid.standard[:, night, None]
        timed = use & (window.method == grid.method[:, night, None])
        # Of those carried over from another method, the nights since are enough where there are so many.
        since = timed & (window.carry == grid.carry[:, night, None])
        timed = np.where((since.sum(axis=1) >= rules.enough)[:, None], since, timed)
        carry = np.where(timed, np.abs(window.carry - grid.carry[:, night, None]), 0.0).max(axis=1)
        known = np.stack([timed, timed & (window.yardstick == yardstick[:, None]), use & same_standard])
        kept = np.where(known, window.values, np.nan)
        medians, nights = _median(kept)
        scales = np.fmax(SIGMA_PER_MAD * _median(np.abs(kept - medians[:, :, None]))[0], rules.scale_floor * medians)
        scales[:STANDARD] = np.hypot(scales[:STANDARD], carry * medians[:STANDARD])
        possible = (nights >= rules.enough) & ~np.isnan(self.values[:, :, night])
        # A yardstick must be known for every night that the raw time is, or the two would be held against other nights. What it
        # is worth is seen from night to night, in most cases: equals that are visited in the same turns share their hour.
        quieter = possible[CORRECTED] & (nights[CORRECTED] == nights[RAW])
        scatter = (scales / medians)[:, quieter]
        quieter &= bool(scatter.size) and np.median(scatter[CORRECTED] / scatter[RAW]) < 1
        chosen = np.where(possible[STANDARD], STANDARD, np.where(quieter, CORRECTED, RAW))
        rows = np.arange(len(chosen))
        value, median, scale = self.values[chosen, rows, night], medians[chosen, rows], scales[chosen, rows]
        judged, count = possible[chosen, rows], nights[chosen, rows]
        own_noise = np.nan_to_num(noise[chosen, rows])
        change, z = value / median - 1, (value - median) / scale
        threshold = np.fmax(rules.floor, rules.aa_noises * own_noise)
        threshold = np.maximum(threshold, np.maximum(rules.z * scale, 0) / median)
        usual_ns = np.where(np.isnan(medians[RAW]), self.values[RAW, :, night], medians[RAW])  # of a new method there is none
        threshold = np.maximum(threshold, self.least_ns / usual_ns)
        moved = np.where(judged, (change > threshold).astype(np.int8) - (change < -threshold), 0).astype(np.int8)
        return _Tonight(judged, own_count > 0, chosen, medians[RAW], scale / median, count, change, z, threshold, moved)

    # Machine events -------------------------------------------------------------------------------------------------------

    def _event(self, night: int, tonight: _Tonight) -> str:
        """What shows that the machine itself has moved; empty where nothing does. Ratios to the standard do not show it."""
        pool = tonight.judged & ~self.grid.is_twin & (self.sign == 0) & tonight.own_segment
        beside = tonight.estimator == STANDARD
        if 2 * (pool & beside).sum() > pool.sum():
            return ""
        pool &= ~beside
        for direction, word in ((1, "slower"), (-1, "faster")):
            moved = pool & (tonight.moved == direction)
            count, of = int(moved.sum()), int(pool.sum())
            enough = count >= self.rules.event_cells and count >= self.rules.event_share * of
            backends = len(np.unique(self.backends[moved]))
            if enough and backends >= self.rules.event_backends:
                return f"{count} of {of} cases with unchanged versions are {word}, from {backends} backends"
        off = self._off(np.log(self.grid.references), night)
        if off is not None and not self._in_yardsticks(pool, tonight):
            return f"the yardstick was off by {off:.1f} of its own scales"
        if (off := self._off(self.equals[RAW], night)) is not None:
            return f"cells measured twice differ by {off:.1f} times what they usually do"
        return ""

    def _in_yardsticks(self, pool: np.ndarray, tonight: _Tonight) -> bool:
        """Whether most figures of the pool are ratios to the yardstick, so that a wrong yardstick shows as a move of all."""
        enough = pool.sum() >= self.rules.event_cells and len(np.unique(self.backends[pool])) >= self.rules.event_backends
        return bool(enough and 2 * (pool & (tonight.estimator == CORRECTED)).sum() > pool.sum())

    def _off(self, logs: np.ndarray, night: int) -> float | None:
        """How far the middle one of several series [S, N] is off tonight, in its own scales; None where that is within bounds.

        The middle one: of many series some are always off.
        """
        earlier = [n for n in range(night) if n not in self.events][-self.rules.window :]
        rows = np.flatnonzero(~np.isnan(logs[:, night]))
        if len(rows) == 0 or len(earlier) < self.rules.enough:
            return None
        kept = logs[rows][:, earlier]
        medians, counts = _median(kept)
        scales = np.maximum(SIGMA_PER_MAD * _median(np.abs(kept - medians[:, None]))[0], self.rules.scale_floor)
        off = (np.abs(logs[rows, night] - medians) / scales)[counts >= self.rules.enough]
        return float(np.median(off)) if len(off) and np.median(off) > self.rules.z else None

    # States ---------------------------------------------------------------------------------------------------------------

    def _transitions(self, night: int, tonight: _Tonight) -> None:
        moved, judged = tonight.moved, tonight.judged
        p = self._p(tonight)
        again = (moved != 0) & (self.pending == moved) & (self.sign == 0)
        joint_p = np.where(again, np.maximum(p, self.pending_p) ** (self.streak + 1), p)
        discovered = self._discovered(tonight, joint_p)
        self.suspect[:, night] = np.where(discovered & (self.sign == 0), moved, 0)

        apart = self.grid.started_s[night] - self.grid.started_s[self.pending_since] >= self.rules.apart_s
        confirmed = again & discovered & apart
        self.confirmed[confirmed, night] = moved[confirmed]

        # What was open, and is under its threshold for the second night.
        was_open = self.sign != 0
        self.calm = np.where(was_open & judged, np.where(moved == self.sign, 0, self.calm + 1), self.calm)
        over = was_open & (self.calm >= self.rules.calm)
        self.resolved = np.where(over, self.sign, 0)
        # An improvement needs nobody's consent, and in time it is the baseline.
        better = was_open & ~over & (self.sign < 0)
        for case in np.flatnonzero(better):
            self._accept(int(case), night)
        self.sign[over] = 0
        self.since[over] = ABSENT

        # What was suspect and is no more was one night that was off: it counts like any other.
        alone = (self.pending != 0) & (self.sign == 0) & judged & (moved == 0)
        self._push(alone & (self.streak == 1), self.pending_since)
        free = (self.sign == 0) & ~np.isnan(self.grid.raw[:, night]) & (moved == 0)
        self._push(free, np.full(len(free), night))
        self.acknowledged &= ~(tonight.nights >= self.rules.enough)

        new = (moved != 0) & (self.sign == 0) & ~again & ~over
        self.pending_p = np.where(again, np.maximum(p, self.pending_p), np.where(new, p, 1.0))
        self.streak = np.where(again, self.streak + 1, np.where(new, 1, np.where(judged, 0, self.streak)))
        self.pending_since = np.where(new, night, self.pending_since)
        self.pending = np.where(judged, np.where(again | new, moved, 0), self.pending).astype(np.int8)

        self.sign[confirmed] = moved[confirmed]
        self.since[confirmed] = self.pending_since[confirmed]
        self.calm[confirmed] = 0
        self.pending[confirmed] = 0

    def _p(self, tonight: _Tonight) -> np.ndarray:
        """The one-sided p of z in the direction of the change, by t with the baseline's degrees of freedom; 1 if not judged."""
        from scipy.special import stdtr

        degrees = np.maximum(tonight.nights - 1, 1)
        return np.where(tonight.judged, stdtr(degrees, -np.abs(np.nan_to_num(tonight.z))), 1.0)

    def _discovered(self, tonight: _Tonight, p: np.ndarray) -> np.ndarray:
        """Which of the cases that moved are called so: all, or in a large family those that Benjamini and Hochberg leave.

        Slower and faster are a family each. A case that moved the night before too goes by both nights: the probability that
        both are as far off as the nearer one is the square of its own. Else a change just over the threshold could never be
        confirmed in a suite of thousands, however often it were seen.
        """
        from scipy.stats import false_discovery_control

        family = tonight.judged & ~self.grid.is_twin
        found: np.ndarray = tonight.moved != 0
        if family.sum() <= self.rules.family:
            return found
        for direction in (1, -1):
            one_sided = np.where(np.sign(tonight.change) == direction, p, 1 - p)[family]
            rejected = np.zeros(len(found), dtype=bool)
            rejected[family] = false_discovery_control(one_sided) <= self.rules.fdr
            found &= rejected | (tonight.moved != direction) | ~family
        return found

    def _push(self, which: np.ndarray, nights: np.ndarray) -> None:
        """Add one night of each of these cases to its good ones."""
        rows = np.flatnonzero(which)
        self.window.push(rows, self.values[:, rows, nights[rows]], self.grid, nights[rows])

    def _accept(self, case: int, night: int) -> None:
        """Make an improvement the new level of a case once it has lasted for a whole baseline."""
        nights = np.arange(self.since[case], night + 1)
        good = nights[(self.moved[case, nights] < 0) & ~np.isin(nights, list(self.events))]
        if len(good) < self.rules.enough:
            return
        self._restart(np.array([case]), int(good[0]))
        for each in good:
            self.window.push(np.array([case]), self.values[:, [case], each], self.grid, np.array([each]))


def _median(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The medians along the last axis and how many values each is of; NaN are left out. Faster than nanmedian for many rows."""
    ordered = np.sort(values, axis=-1)
    counts = (~np.isnan(ordered)).sum(axis=-1)
    low, high = np.maximum((counts - 1) // 2, 0), np.minimum(counts // 2, values.shape[-1] - 1)
    middle = np.take_along_axis(ordered, np.stack([low, high], axis=-1), axis=-1)
    return middle.mean(axis=-1), counts
