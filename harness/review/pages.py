"""Runs -> figures and page: what the command line and the Python interface read from the store."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness import codec, drafts, units
from harness.analysis import compare as comparing
from harness.analysis import environments, noise, ranking, roofline, validity
from harness.analysis import extent as extents
from harness.analysis import judgement as judging
from harness.analysis import networks as rolling
from harness.analysis import published as publishing
from harness.analysis import spent as time_spent
from harness.analysis.compare import Side
from harness.analysis.gate import NightJudgement
from harness.analysis.noise import Noise
from harness.analysis.summary import summarize, with_kept
from harness.analysis.trials import medians, trials
from harness.ask.wording import hint, show
from harness.digest import SCHEMA, Digest, Validity
from harness.errors import PublishedError, RunNotFoundError
from harness.execution import host
from harness.outcome import Check, Extent, Outcome
from harness.record import AA, NIGHTLY, Run, SeriesKind, Status, of_convolutions
from harness.review import nights as past
from harness.review.nights import night
from harness.review.nights import of_suite as history
from harness.spec import Direction
from harness.store import digests, journal, junit, nights, published, table
from harness.store.table import load, samples

if TYPE_CHECKING:
    from harness.page import html
    from harness.page.sections import Given

__all__ = [
    "aa_noise", "beside_published", "checks", "compare", "extent", "history", "judge", "junit_of", "load", "night", "overview",
    "page", "publish", "remark", "report", "samples", "side", "spent", "summary", "write_index", "write_page",
]  # fmt: skip


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """One row per run and cell with its figures: the records of `load`, whole or filtered, joined with their samples."""
    store = Path(records.attrs.get("store", "results"))
    blocks, ids = samples(store), records["run_id"].unique()
    folders = [store] if (store / journal.RUN).is_file() else [store / "runs" / run_id for run_id in ids]
    return _summarized(records, blocks[blocks["run_id"].isin(ids)], folders)


def _summarized(records: pd.DataFrame, blocks: pd.DataFrame, folders: Sequence[Path]) -> pd.DataFrame:
    """The summary of these runs; of those whose samples were removed with what was kept of their figures."""
    found = summarize(records, blocks)
    for folder in filter(table.pruned, folders):
        if (kept := nights.kept(folder)) is not None:
            found = with_kept(found, kept)
    return found


PRUNED = "samples removed (convbench prune): medians are kept; intervals, spread and what they would decide are not"


def remark(folder: Path) -> str:
    """What is not kept of a run, in a sentence; empty where all of it is."""
    return PRUNED if table.pruned(folder) else ""


def figures(folder: Path, cells: Collection[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary of one run or of some of its cells, ranked, in an order that people read, and its samples.

    The run's own order is shuffled; this one is by workload, direction, backend and mode.
    """
    records, blocks = load(folder), samples(folder)
    summary = _summarized(records, blocks, [folder])
    if cells is not None:  # the ceilings stay, since the cells are held against them
        kept = summary["cell"].isin(cells) | ~of_convolutions(summary)
        summary, blocks = summary[kept], blocks[blocks["cell"].isin(cells)]
    ranked = ranking.rank(summary, medians(blocks, SeriesKind.LATENCY))
    if journal.read_run(folder).finished_at is None:
        ranked = ranking.unfinished(ranked)
    return _for_people(ranked), blocks


def extent(folder: Path) -> Extent | None:
    """How far a run came that has not ended; None for one that has."""
    run = journal.read_run(folder)
    return None if run.finished_at else _extent(folder, run, load(folder))


def _extent(folder: Path, run: Run, records: pd.DataFrame) -> Extent | None:
    # A run that was interrupted has sealed its tables; of one whose journal is ahead of them the locks tell.
    going = run.finished_at is None and not table.sealed(folder)
    going &= host.Lock().measured() == run.id or journal.open_elsewhere(folder)
    return extents.extent(records, run, planned=_planned(folder), going=going)


def _planned(folder: Path) -> bool:
    """Whether what the run was to measure can be read."""
    try:
        journal.read_plan(folder)
    except (OSError, ValueError):
        return False
    return True


def _for_people(frame: pd.DataFrame) -> pd.DataFrame:
    turn = {str(direction): number for number, direction in enumerate(Direction)}
    order = frame.assign(turn=frame["direction"].map(turn)).sort_values(["workload", "turn", "backend", "mode", "cell"])
    return frame.loc[order.index].reset_index(drop=True)


def compare(base: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Time of `new` over `base`, a row per cell with COMPARISON_COLUMNS: records of `load`, each of one run, whole or filtered.

    The noise of the machine is taken from the latest A/A run in the store of `new`; its id is in `attrs["noise"]`, which is
    empty where there is none; `attrs["machines"]` names the machines where they differ, and is empty where they do not.
    Raises RunNotFoundError where a frame holds no run, or more than one.
    """
    before, after = (side(roofline.asked_for(records)) for records in (base, new))
    known = aa_noise(_store(new), after.run)
    found = _for_people(comparing.compare(before, after, known[1].cells if known else None))
    found.attrs = {
        "base": before.run.id, "new": after.run.id, "noise": known[0].id if known else "",
        "machines": validity.machines_differ(before.run, after.run),
    }  # fmt: skip
    return found


def junit_of(comparison: pd.DataFrame) -> str:
    """A comparison as JUnit XML: slower is a failure, and what has no verdict is skipped."""
    cases = [
        junit.Case(
            name=row.cell,
            passed=Outcome(row.verdict).passes,
            message=f"{row.verdict}: {row.why or units.ratio_interval(row.ratio, row.ratio_low, row.ratio_high)}",
            time_s=None if pd.isna(row.new_median_ns) else row.new_median_ns / 1e9,
        )
        for row in comparison.itertuples()
    ]
    return junit.render(f"{comparison.attrs['new']} over {comparison.attrs['base']}", cases)


def aa_noise(store: Path, run: Run) -> tuple[Run, Noise] | None:
    """The latest A/A run of a store by the method of `run` on its machine, and the noise by it; None where there is none."""
    for folder, other in reversed(table.stored(store)):
        here = run.machines.keys() & other.machines.keys()
        if AA in other.tags and here and other.method_version == run.method_version:
            found = noise.measure(side(load(folder)))
            if len(found.cells):
                return other, found
    return None


def _noise(folder: Path, run: Run) -> Noise | None:
    """What equals differ by on the machine: by the latest A/A run, else by the pairs of equals in the run itself, if any."""
    if known := aa_noise(_store_of(folder), run):
        return known[1]
    if not any(environment.backend.endswith(f"@{AA}") for environment in run.environments):
        return None
    own = noise.measure(side(load(folder)))
    return own if len(own.cells) else None


def side(records: pd.DataFrame) -> Side:
    """What a comparison needs of the one run that `records` holds, whole or filtered. Raises RunNotFoundError for several."""
    folder = _folder(records, "a comparison is of one run with another")
    blocks = samples(folder)
    asked = blocks["cell"].isin(records["cell"].unique())
    if not asked.all():  # a copy of a long run's samples is 50 MB
        blocks = blocks[asked]
    return Side(_summarized(records, blocks, [folder]), trials(blocks), journal.read_run(folder))


def beside_published(folder: Path, wanted: str) -> pd.DataFrame:
    """The cells of a run beside what is published for one hardware, or for `all`, with BESIDE_COLUMNS.

    Of the tables of the run's own store and of the package. Hardware goes by its name or a part that no other has, in any
    spelling of case, blanks and hyphens; `attrs["hardware"]` holds what was found. Raises PublishedError for any other.
    """
    known = published.load(_store_of(folder))
    chosen = _hardware(wanted, known["hardware"].unique().tolist())
    summary, _ = figures(folder)
    found = publishing.beside(summary, known[known["hardware"].isin(chosen)])
    found.attrs = {"hardware": chosen}
    return found


def _hardware(wanted: str, known: list[str]) -> list[str]:
    """The names out of `known` that are meant: every one by `all`, else one."""
    short = {_folded(name.partition(" ")[2] or name): name for name in known} | {_folded(name): name for name in known}
    word = _folded(wanted)
    if word == "all":
        return known
    if word in short:
        return [short[word]]
    found = [name for name in known if word and word in _folded(name)]
    if len(found) == 1:
        return found
    near = ", which is part of several;" if found else hint(word, short) or ";"
    raise PublishedError(f"published: found {show(wanted)}{near} allowed: all, {', '.join(sorted(found or known))}")


def _folded(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


def _store_of(folder: Path) -> Path:
    """The store that a run folder stands in."""
    return folder.resolve().parent.parent


def _folder(frame: pd.DataFrame, rule: str) -> Path:
    """The folder of the one run that a frame holds. Raises RunNotFoundError, which states the rule, for none or several."""
    ids = frame["run_id"].unique()
    if len(ids) != 1:
        raise RunNotFoundError(f"{rule}; this frame holds {len(ids)}")
    store = Path(frame.attrs.get("store", "results"))
    for folder, run in table.stored(store):
        if run.id == ids[0]:
            return folder
    raise RunNotFoundError(f"{store} holds no run {ids[0]!r:.60}")


def _store(records: pd.DataFrame) -> Path:
    """The store that the run of a frame stands in."""
    return _store_of(_folder(records, "a comparison is of one run with another"))


def networks(folder: Path) -> pd.DataFrame:
    """The time of all convolutions of the run's networks, a row per network and setting: see `analysis.networks.by_pass`."""
    return rolling.by_pass(rolling.networks(figures(folder)[0]))


def spent(folder: Path) -> pd.DataFrame:
    """Where the time of a run went: one row per kind of step, see `analysis.spent`."""
    return time_spent.spent(load(folder), journal.read_run(folder).wall_s)


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
    records = load(out)
    made = records[records["status"] != str(Status.NOT_RUN)]
    bad = made["status"] != str(Status.OK)
    failed = made["status"].map(lambda status: Status(status).failed).astype(bool)
    cells = [part.groupby("run_id")["cell"].nunique() for part in (records, made, made[bad], made[failed])]
    found = []
    for run in reversed(table.runs(out)):
        every, reached, not_ok, failures = (int(of_run.get(run.id, 0)) for of_run in cells)
        unfinished = None
        if run.finished_at is None:
            folder = table.find(out, run.id)
            unfinished = _extent(folder, run, records[records["run_id"] == run.id])
        found.append(Listed(run, reached - not_ok, failures, every - reached, unfinished))
    return found


@dataclass(frozen=True)
class Published:
    """A page that was written: where it is, and which of its parts could not be made."""

    path: Path
    broken: tuple[str, ...]


def page(folder: Path, cells: Collection[str] | None = None, baseline: Path | None = None) -> "html.Page":
    """The HTML page of one run, or of some of its cells: those are ranked among themselves.

    `baseline` is the folder of the run that it is held against; None: nothing is said of any change.
    """
    from harness.page import html

    return html.build(_given(folder, cells, baseline))


def _night(folder: Path, baseline: Path | None) -> past.Night | None:
    """The night that a run is; None where it is none, or is to be held against one other run."""
    return past.find_night(folder) if baseline is None and NIGHTLY in journal.read_run(folder).tags else None


def judge(folder: Path) -> tuple[NightJudgement, Digest]:
    """The gate's judgement of a stored night, its checks included, and what summary.json holds of it without a page.

    Raises HistoryError for a run that is no night.
    """
    night, found = past.find_night(folder), checks(folder)
    judgement, unfinished = night.judge(validity.blocking(found)), extent(folder)
    digest = past.digest(night, judgement, _validities(found))
    return judgement, replace(digest, unfinished=unfinished.words if unfinished else "")


def checks(folder: Path) -> tuple[Check, ...]:
    """Whether the figures of a run can be trusted."""
    run, (ranked, blocks) = journal.read_run(folder), figures(folder)
    return validity.checks(ranked, blocks, run, noise=_noise(folder, run), extent=extent(folder), pruned=table.pruned(folder))


def _validities(found: Sequence[Check]) -> tuple[Validity, ...]:
    return tuple(map(Validity.of, found))


def _given(
    folder: Path, cells: Collection[str] | None, baseline: Path | None, judgement: NightJudgement | None = None
) -> "Given":
    run = journal.read_run(folder)
    ranked, blocks = figures(folder, cells)
    unfinished = extent(folder)
    judged = _judged(folder, ranked, blocks, run, baseline, judgement, unfinished)
    from harness.page.sections import Given  # the drawing libraries' 90 MB come after the most that judging needs

    return Given(
        ranked, blocks, run, duration_s=run.wall_s, command=run.command, ceilings=roofline.ceilings(ranked),
        networks=rolling.by_pass(rolling.networks(ranked)),
        beside=publishing.beside(ranked, published.load(_store_of(folder))), extent=unfinished,
        pruned=table.pruned(folder), **judged,
    )  # fmt: skip


def publish(
    folder: Path, reports: str | Path = "reports", baseline: Path | None = None, judgement: NightJudgement | None = None
) -> Published:
    """Write what people get of a run to `reports/<run-id>/`, and the index of all runs again: each file whole, or as it was.

    The page, its table as results.csv, the run as environment.json, and the digest as summary.json: that of the gate where the
    run is a night, else one that says how its cells ended. `judgement` is that of the night, made here by default.
    """
    night = _night(folder, baseline)
    if night and judgement is None:
        judgement, _ = judge(folder)
    given = replace(_given(folder, None, baseline, judgement), index="../index.html")
    from harness.page import html

    made = html.build(given)
    run = given.run
    beside = digests.folder(reports, run.id)
    path = beside / digests.PAGE
    drafts.write(path, made.text)
    drafts.write(beside / "results.csv", made.rows)
    drafts.write(beside / "environment.json", json.dumps(codec.encode(run), indent=1) + "\n")
    digest = past.digest(night, judgement, _validities(given.checks)) if night and judgement else _digest(given)
    unfinished = given.extent.words if given.extent else ""
    digests.write(reports, replace(digest, report_bytes=len(made.text.encode()), unfinished=unfinished))
    return Published(path, (*made.broken, *write_index(reports).broken))


def _judged(
    folder: Path, ranked: pd.DataFrame, blocks: pd.DataFrame, run: Run, baseline: Path | None, judgement: NightJudgement | None,
    unfinished: Extent | None,
) -> dict[str, Any]:  # fmt: skip
    """The checks of a run, and what changed since its baseline where there is one, by the names of the page's fields."""
    known = _noise(folder, run)
    if baseline is None:
        found: dict[str, Any] = {
            "checks": validity.checks(ranked, blocks, run, noise=known, extent=unfinished, pruned=table.pruned(folder))
        }
        if night := _night(folder, baseline):
            judgement = judgement or night.judge(validity.blocking(found["checks"]))
            network = ranked.drop_duplicates("cell").set_index("cell")["network"]
            found |= {
                "judged": judging.of_night(judgement, night.baseline(judgement), network),
                "differences": environments.differences(night.before, run) if night.before and run.environments else (),
                "nights": night.figures(), "breaks": night.breaks(), "steps": judgement.cases,
            }  # fmt: skip
        return found
    before, base = load(baseline), journal.read_run(baseline)
    after = load(folder)
    compared = compare(before, after[after["cell"].isin(ranked["cell"])])
    incomparable = validity.incomparable(base, run)
    cases = judging.against(compared, base.id, incomparable=incomparable).cases
    checks = validity.checks(
        ranked, blocks, run, noise=known, base=base, cases=cases, extent=unfinished, pruned=table.pruned(folder)
    )
    return {
        "checks": checks,
        "judged": judging.against(compared, base.id, validity.blocking(checks), incomparable),
        "differences": environments.differences(base, run),
    }


def write_page(folder: Path, reports: str | Path = "reports", baseline: Path | None = None) -> Path:
    """Write the page of a run and what stands beside it to `reports/<run-id>/`, and return the path of the page."""
    return publish(folder, reports, baseline).path


def write_index(reports: str | Path = "reports") -> Published:
    """Write `reports/index.html` from the digests of all runs there."""
    from harness.page import index

    known = digests.read(reports)
    made = index.render(known, [run_id for run_id in known if (Path(reports) / run_id / digests.PAGE).is_file()])
    path = Path(reports) / "index.html"
    drafts.sweep(path.parent)
    drafts.write(path, made.text)
    return Published(path, tuple(f"index, {part}" for part in made.broken))


def _digest(given: "Given") -> Digest:
    """The digest of a run that no gate has judged: its level is that of the comparison with a baseline, "" without one."""
    run, judged = given.run, given.judged
    asked = roofline.asked_for(given.summary)
    counts = {str(status): int(count) for status, count in asked["status"].value_counts(sort=False).items()}
    ends = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(counts.items()) if status != Status.OK)
    failed = any(Status(status).failed for status in counts)
    machine_id, machine = next(iter(run.machines.items()), ("", ""))
    verdicts = (
        {} if judged is None else {Outcome(name).words: int(n) for name, n in judged.cases["verdict"].value_counts().items()}
    )
    plain = f"{counts.get(Status.OK, 0)} of {len(asked)} cells have a checked figure" + (f"; {ends}." if ends else ".")
    if given.extent:
        failed, plain = True, f"{given.extent.words.capitalize()}. {plain}"
    return Digest(
        schema=SCHEMA, run_id=run.id, suite=run.suite, started_at=run.place[0], duration_s=run.wall_s or 0.0,
        machine_id=machine_id, machine=machine,
        commit=run.commit, baseline_id=judged.baseline if judged else "", level=str(judged.level) if judged else "",
        code=judged.level.code if judged else 5 if failed or not counts.get(Status.OK) else 0,
        sentence=judged.sentence if judged else plain,
        verdicts=dict(sorted(verdicts.items())), statuses=dict(sorted(counts.items())),
        new_failures=verdicts.get(Outcome.FAILED.words, 0),
        validity=_validities(given.checks),
        changes=tuple(one.words for one in given.differences),
    )  # fmt: skip


def report(df: pd.DataFrame, path: str | Path) -> Path:
    """Write the page of the one run that `df` holds (records or summary, whole or filtered) to `path`.

    Raises RunNotFoundError where `df` holds no run, or more than one.
    """
    text = page(_folder(df, "a report shows one run"), set(df["cell"])).text
    path = Path(path)
    drafts.deliver(path, text)
    return path
