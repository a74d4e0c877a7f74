"""A stored run, read once: its tables, and what is worked out of them, are kept for whoever asks next."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.analysis import called, elsewhere, explain, noise, ranking, roofline, tuning, validity, what_ran
from harness.analysis import extent as extents
from harness.analysis import networks as summing
from harness.analysis import profiles as profiling
from harness.analysis import spent as time_spent
from harness.analysis.along import BESIDE, SETTINGS, along, varied
from harness.analysis.compare import Side
from harness.analysis.gate import NightJudgement
from harness.analysis.history import FIGURES, History
from harness.analysis.noise import Noise
from harness.analysis.race import Looks
from harness.analysis.rows import framed
from harness.analysis.summary import summarize, with_kept
from harness.analysis.times import Figures, figures
from harness.analysis.trials import trials
from harness.analysis.visits import visits
from harness.analysis.what_ran import Ran
from harness.axes import Direction
from harness.columns import EXPLANATION_COLUMNS, PROFILE_COLUMNS, TUNED_COLUMNS, of_convolutions
from harness.errors import HistoryError, RunNotFoundError, SelectionError, UserError
from harness.execution import host
from harness.outcome import Check, Extent
from harness.record import AA, NIGHTLY, Run, Status
from harness.review import nights
from harness.review.nights import Night
from harness.store import acknowledgements, journal, published, table
from harness.store import nights as night_tables
from harness.store.table import Stored


class AANoise(NamedTuple):
    """An A/A run, and the noise of its machine by it."""

    run: Run
    noise: Noise


class Reading:
    """One run. Each part of it is read, or worked out, when it is first asked for, and then kept.

    `folder` is that of the run. `cells` are those that are ranked, among themselves; None: all of them. `run` is what run.json
    says, where that was read before. A run that is damaged raises UserError from the property that needs the damaged part.
    """

    def __init__(self, folder: Path, cells: Collection[str] | None = None, run: Run | None = None) -> None:
        self.folder, self.cells = folder, cells
        if run:
            self.run = run

    # What stands on disk ------------------------------------------------------------------------------------------------

    @cached_property
    def run(self) -> Run:
        """What run.json says."""
        return journal.read_run(self.folder)

    @property
    def of(self) -> Stored:
        """The run with its folder, as the store has it."""
        return Stored(self.folder, self.run)

    @property
    def store(self) -> Path:
        """The store that the run stands in."""
        return self.folder.resolve().parent.parent

    @cached_property
    def stored(self) -> list[Stored]:
        """All runs of that store, oldest first."""
        return table.stored(self.store, self.of)

    @cached_property
    def records(self) -> pd.DataFrame:
        """A row per trial and cell, with RECORD_COLUMNS."""
        return table.records_of(self.of)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row per block, with SAMPLE_COLUMNS."""
        return table.samples_of(self.of)

    @property
    def pruned(self) -> bool:
        """Whether its samples are not in the store: they were removed by `convbench prune` or by hand."""
        return table.pruned(self.folder)

    @property
    def remark(self) -> str:
        """What is not kept of the run, in a sentence; empty where all of it is."""
        if not self.pruned:
            return ""
        kept = self.summary["median_ns"].notna().any()
        what = "medians are kept; intervals, spread and what they would decide are not" if kept else "no figure of it is kept"
        return f"samples not in the store (convbench prune removes those of old runs): {what}"

    # Its figures --------------------------------------------------------------------------------------------------------

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per cell with SUMMARY_COLUMNS, in the run's own order, which is shuffled."""
        return _summarized(self.records, self.samples, [self.of])

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """The summary of the cells that are ranked, with what ranking adds, by workload, direction, backend and mode.

        Where the run was profiled, with `kernel`, too.
        """
        summary = self.summary
        if self.cells is not None:  # the ceilings stay, since the cells are held against them
            summary = summary[summary["cell"].isin(self.cells) | ~of_convolutions(summary)]
        ranked = ranking.rank(summary, self.visits, level=self._level)
        people = for_people(ranked if self.run.ended else ranking.unfinished(ranked))
        return called.with_kernel(people, self.kernels)

    @property
    def _level(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """What one look may take of the probability of an error, where the run was looked at after each trial."""
        if not self.run.most_trials:
            return None
        last = int(self.summary["trials"].max()) if self.run.ended else None
        return Looks(self.run.most_trials, last).level

    @cached_property
    def visits(self) -> pd.DataFrame:
        """A row per visit of a process to a cell: see `analysis.visits.visits`."""
        return visits(self.samples)

    def along(self, axis: str, base: str | None = None) -> pd.DataFrame:
        """Its cells beside those that are alike but have `base` on that axis, with ALONG_COLUMNS, in the order of `ranking`.

        Without a base it is the usual one. Raises ValueError as `analysis.along` does.
        """
        return along(self.ranking, self.visits, axis, base, self.run.ended)

    @cached_property
    def worth(self) -> dict[str, pd.DataFrame]:
        """What its settings are worth: the frame of `along` beside the usual base for each axis that has pairs, by its name."""
        return dict(varied(self.ranking, self.visits, SETTINGS, self.run.ended))

    @cached_property
    def beside_settings(self) -> tuple[str, str] | None:
        """Another axis along which its cells can be compared, with the usual base there; None where there is none."""
        found = varied(self.ranking, self.visits, BESIDE, self.run.ended)
        return next(((axis, str(frame.attrs["base"])) for axis, frame in found), None)

    @cached_property
    def explanations(self) -> pd.DataFrame:
        """Why its calls take as long as they do, where a rule knows: EXPLANATION_COLUMNS, in the order of `ranking`."""
        cores = {each.backend: len(each.affinity) or each.cores for each in self.run.environments}
        return for_people(explain.explanations(self.kernels, self.profiles, cores))

    @cached_property
    def ranked_samples(self) -> pd.DataFrame:
        """The samples of the cells that are ranked."""
        return self.samples if self.cells is None else self.samples[self.samples["cell"].isin(self.cells)]

    def side(self, records: pd.DataFrame | None = None) -> Side:
        """What a comparison needs of the run, or of those of its records."""
        if records is None:
            return Side(self.summary, trials(self.samples), self.run)
        samples = self.samples
        asked = samples["cell"].isin(records["cell"].unique())
        if not asked.all():  # a copy of a long run's samples is 50 MB
            samples = samples[asked]
        return Side(_summarized(records, samples, [self.of]), trials(samples), self.run)

    @cached_property
    def ceilings(self) -> pd.DataFrame:
        """What the machine can do at best, by the ceilings that joined the run: see `analysis.roofline.ceilings`."""
        return roofline.ceilings(self.ranking)

    @cached_property
    def kernels(self) -> pd.DataFrame:
        """What ran inside the calls of its cells, with KERNEL_COLUMNS; empty where none was profiled."""
        return self._asked_for(table.kernels_of(self.of))

    @cached_property
    def profiles(self) -> pd.DataFrame:
        """A row per cell that was profiled, with PROFILE_COLUMNS."""
        stored = self._asked_for(table.profiles_of(self.of))
        return profiling.profiles(stored, self.kernels, self.summary) if len(stored) else framed([], PROFILE_COLUMNS)

    def _asked_for(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of the cells that are ranked."""
        return frame if self.cells is None else frame[frame["cell"].isin(self.cells)]

    @cached_property
    def networks(self) -> pd.DataFrame:
        """The time of all convolutions of its networks, with SUM_COLUMNS."""
        return summing.networks(self.ranking, self._figures)

    @cached_property
    def tuned(self) -> pd.DataFrame:
        """The best settings of a tuning, with TUNED_COLUMNS; empty for another run."""
        if not self.run.tuned:
            return framed([], TUNED_COLUMNS)
        summary = for_people(self.summary if self.cells is None else self.summary[self.summary["cell"].isin(self.cells)])
        return tuning.tuned(summary, self.visits, self.run.tuned, self._level, self.run.ended)

    @cached_property
    def tuned_networks(self) -> pd.DataFrame:
        """What the best settings of a tuning gain over whole networks: see `analysis.tuning.networks`."""
        return tuning.networks(self.tuned, self._figures, self.run.tuned)

    @cached_property
    def _figures(self) -> dict[str, Figures]:
        """What its processes say of each cell: see `analysis.times.figures`."""
        return figures(self.visits, dict(zip(self.summary["cell"], self.summary["backend"], strict=True)))

    @cached_property
    def beside(self) -> pd.DataFrame:
        """Its cells beside what is published for them, with BESIDE_COLUMNS."""
        return elsewhere.beside(self.ranking, published.load(self.store))

    @cached_property
    def spent(self) -> pd.DataFrame:
        """Where its time went: a row per kind of step, see `analysis.spent`."""
        return time_spent.spent(self.records, self.run.wall_s)

    # Whether they can be trusted ----------------------------------------------------------------------------------------

    @cached_property
    def extent(self) -> Extent | None:
        """How far it came, where it has not ended; None for one that has."""
        return None if self.run.ended else extent_of(self.of, self.records)

    @cached_property
    def aa(self) -> AANoise | None:
        """The latest A/A run of the store by the same method on the same machine, with its noise; None: there is none."""
        for folder, run in reversed(self.stored):
            here = self.run.machines.keys() & run.machines.keys()
            if AA in run.tags and here and run.method_version == self.run.method_version:
                one = self if run.id == self.run.id else Reading(folder, run=run)
                if len((known := noise.measure(one.side())).cells):
                    return AANoise(run, known)
        return None

    @cached_property
    def noise(self) -> Noise | None:
        """What equals differ by on the machine: by the latest A/A run, else by the run's own pairs of equals, if any."""
        if self.aa:
            return self.aa.noise
        if not any(environment.backend.endswith(f"@{AA}") for environment in self.run.environments):
            return None
        own = noise.measure(self.side())
        return own if len(own.cells) else None

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """Whether the figures of the ranked cells can be trusted."""
        return self.checks_beside(None, None)

    def checks_beside(self, base: Run | None, cases: pd.DataFrame | None) -> tuple[Check, ...]:
        """The same where it is held against a baseline: `cases` are those of the comparison, with `judgement.CASES`."""
        return validity.checks(
            self.ranking, self.ranked_samples, self.run, noise=self.noise, base=base, cases=cases, extent=self.extent,
            pruned=self.pruned,
        )  # fmt: skip

    # As a night ---------------------------------------------------------------------------------------------------------

    @property
    def is_night(self) -> bool:
        """Whether it is a night of its suite."""
        return NIGHTLY in self.run.tags

    @cached_property
    def night(self) -> Night:
        """The night that it is, and those before it. Raises HistoryError for a run that is no night."""
        history = History(*night_tables.load(self.stored, self.run.suite, self._night_table, FIGURES))
        try:
            history = history.until(self.run.id)
        except KeyError:
            raise HistoryError(f"{self.folder}: found no night there; a night is a run tagged {NIGHTLY}") from None
        return Night(self.run, history, tuple(acknowledgements.read(self.store)), _unmeasured(self.records))

    def _night_table(self, of: Stored) -> pd.DataFrame:
        return nights.figures(self.run, self.records, self.samples) if of.run.id == self.run.id else nights.read(of)

    @cached_property
    def judgement(self) -> NightJudgement:
        """What the gate says of the night, its checks included, and what ran in the cases that have changed.

        Raises HistoryError for a run that is no night.
        """
        judged = self.night.judge(validity.blocking(self.checks))
        return what_ran.with_kernels(judged, self.night.history.runs, lambda run: self.other(run).ran)

    @cached_property
    def ran(self) -> dict[str, Ran]:
        """What its profiles saw, by cell; nothing where they are damaged, which is warned of."""
        try:
            return what_ran.read(table.kernels_of(self.of), table.profiles_of(self.of))
        except (UserError, OSError) as error:
            journal.warn(f"left out: {error}")
            return {}

    def other(self, run: Run) -> "Reading":
        """A run of the same store, read in the same way."""
        return self if run.id == self.run.id else Reading({of.run.id: of.folder for of in self.stored}[run.id], run=run)


def _unmeasured(records: pd.DataFrame) -> str:
    """Why nothing was measured, where that was decided before the first cell; else empty."""
    if len(records) and (records["status"] == str(Status.NOT_RUN)).all():
        return f"not measured: {records['reason'].mode().iloc[0]}"
    return ""


def _summarized(records: pd.DataFrame, samples: pd.DataFrame, runs: Sequence[Stored]) -> pd.DataFrame:
    """The summary of these runs; of those whose samples are not in the store with what was kept of their figures."""
    summary = summarize(records, samples)
    for of in runs:
        if table.pruned(of.folder) and (kept := night_tables.kept(of)) is not None:
            summary = with_kept(summary, kept)
    return summary


def for_people(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame of cells by workload, direction, backend and mode."""
    turn = {str(direction): number for number, direction in enumerate(Direction)}
    order = frame.assign(turn=frame["direction"].map(turn)).sort_values(["workload", "turn", "backend", "mode", "cell"])
    return frame.loc[order.index].reset_index(drop=True)


def extent_of(of: Stored, records: pd.DataFrame) -> Extent | None:
    """How far a run came by its records; None for one that has ended."""
    folder, run = of
    # A run that was interrupted has sealed its tables; of one whose journal is ahead of them the locks tell.
    return extents.extent(records, run, planned=_planned(folder), going=goes_on(folder, run))


def goes_on(folder: Path, run: Run) -> bool:
    """Whether a run that has not ended is being measured."""
    going = run.finished_at is None and not table.sealed(folder)
    return going and (host.Lock().measured() == run.id or journal.open_elsewhere(folder))


def _planned(folder: Path) -> bool:
    """Whether what the run was to measure can be read."""
    try:
        journal.read_plan(folder)
    except (OSError, ValueError):
        return False
    return True


# Several runs at once -----------------------------------------------------------------------------------------------------


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """One row per run and cell with its figures: the records of `load`, whole or filtered, joined with their samples."""
    store, ids = Path(records.attrs.get("store", "results")), set(records["run_id"])
    samples = table.samples(store)
    return _summarized(records, samples[samples["run_id"].isin(ids)], [of for of in table.stored(store) if of.run.id in ids])


def tuned(records: pd.DataFrame) -> pd.DataFrame:
    """The best setting of each workload, direction and backend of one tuning, with TUNED_COLUMNS, by the records of `load`.

    `attrs["networks"]` has the rows of `analysis.tuning.networks` as dicts. Raises RunNotFoundError for none or several runs,
    and SelectionError for a run that `convbench tune` did not make.
    """
    reading = of_frame(records, "the best settings are those of one run", set(records["cell"]))
    if not reading.run.tuned:
        raise SelectionError(f"run {reading.run.id} is no tuning: convbench tune makes one")
    found = reading.tuned
    found.attrs["networks"] = reading.tuned_networks.to_dict("records")
    return found


def profiles(out: str | Path = "results") -> pd.DataFrame:
    """How the kernels of every run of a store, or of one run folder, were seen: a row per run and cell, with PROFILE_COLUMNS.

    What is damaged is left out, or raises UserError, as `load` does.
    """
    return _of_each(out, lambda reading: reading.profiles, PROFILE_COLUMNS)


def explanations(out: str | Path = "results") -> pd.DataFrame:
    """Why calls take as long as they do, in those runs: a row per run, cell and rule that speaks, with EXPLANATION_COLUMNS."""
    return _of_each(out, lambda reading: reading.explanations, EXPLANATION_COLUMNS)


def _of_each(out: str | Path, part: Callable[[Reading], pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """A part of every run, one below the other."""
    parts = table.each_run(out, lambda of: part(Reading(of.folder, run=of.run)))
    filled = [part for part in parts if len(part)]
    found = pd.concat(filled, ignore_index=True) if filled else framed([], names)
    found.attrs["store"] = os.fspath(out)
    return found


@dataclass(frozen=True)
class Listed:
    """A run in the list of all: how many of its cells are ok in every trial made, how many failed, how many were not run.

    `extent` is None for a run that has ended.
    """

    run: Run
    ok: int
    failed: int
    not_run: int
    extent: Extent | None

    @property
    def state(self) -> str:
        """Whether it is all there, in words."""
        return self.extent.words if self.extent else "ended"


def overview(out: str | Path = "results") -> list[Listed]:
    """The runs of a store, newest first."""
    records = table.load(out)
    made = records[records["status"] != str(Status.NOT_RUN)]
    bad = made["status"] != str(Status.OK)
    failed = made["status"].map(lambda status: Status(status).failed).astype(bool)
    cells = [part.groupby("run_id")["cell"].nunique() for part in (records, made, made[bad], made[failed])]
    listed = []
    for of in reversed(table.stored(out)):
        every, reached, not_ok, failures = (int(of_run.get(of.run.id, 0)) for of_run in cells)
        unfinished = None if of.run.finished_at else extent_of(of, records[records["run_id"] == of.run.id])
        listed.append(Listed(of.run, reached - not_ok, failures, every - reached, unfinished))
    return listed


def of_frame(frame: pd.DataFrame, rule: str, cells: Collection[str] | None = None) -> Reading:
    """The one run that a frame holds, whole or filtered. Raises RunNotFoundError with that rule for none or several."""
    ids = frame["run_id"].unique()
    if len(ids) != 1:
        raise RunNotFoundError(f"{rule}; this frame holds {len(ids)}")
    store = Path(frame.attrs.get("store", "results"))
    for folder, run in table.stored(store):
        if run.id == ids[0]:
            return Reading(folder, cells, run)
    raise RunNotFoundError(f"{store} holds no run {ids[0]!r:.60}")
