"""A run beside another one, beside the nights before it, or beside what others published."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness import units
from harness.analysis import compare as comparison
from harness.analysis import elsewhere, environments, roofline, validity, what_ran
from harness.analysis import judgement as judging
from harness.ask.wording import hint, show
from harness.errors import PublishedError
from harness.outcome import Check, Difference, Judgement, Outcome
from harness.review.reading import Reading, for_people, of_frame
from harness.rows import rows
from harness.store import junit, published


def compare(base: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Time of `new` over `base`, a row per cell with COMPARISON_COLUMNS: records of `load`, each of one run, whole or filtered.

    The noise of the machine is taken from the latest A/A run in the store of `new`; its id is in `attrs["noise"]`, which is
    empty where there is none; `attrs["machines"]` names the machines where they differ, and is empty where they do not.
    Raises RunNotFoundError where a frame holds no run, or more than one.
    """
    before, after = (of_frame(records, "a comparison is of one run with another") for records in (base, new))
    return between(before, after, base, new)


def along(records: pd.DataFrame, axis: str, base: str | None = None) -> pd.DataFrame:
    """What a setting is worth in a run: the time of each cell over that of its partner with `base` on that axis: ALONG_COLUMNS.

    `records` are those of `load`, of one run, whole or filtered; `axis` is workload, direction, precision, layout, cache,
    backend, mode, device, threads, autotune, switch, operands, bias, epilogue or api, `base` one of its values, as text.
    Without a base it is eager, fp32, NCHW, fprop, hot, cpu, default, none or the fewest threads, or else the value that most
    cells have; `attrs["base"]` names it. Raises RunNotFoundError where the frame does not hold one run, and ValueError for
    another axis, or a base that no cell with a figure has.
    """
    return of_frame(records, "settings are compared within one run", frozenset(records["cell"])).along(axis, base)


def between(before: Reading, after: Reading, base: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The same of two runs that were read; `base` and `new` are the records of theirs to compare."""
    sides = before.side(roofline.asked_for(base)), after.side(roofline.asked_for(new))
    compared = for_people(comparison.compare(*sides, after.aa.noise.cells if after.aa else None))
    compared = what_ran.of_runs(compared, before.ran, after.ran)
    compared.attrs = {
        "base": before.run.id, "new": after.run.id, "noise": after.aa.run.id if after.aa else "",
        "machines": validity.machines_differ(before.run, after.run),
    }  # fmt: skip
    return compared


def junit_of(compared: pd.DataFrame) -> str:
    """A comparison as JUnit XML: slower is a failure, and what has no verdict is skipped."""
    cases = [
        junit.Case(
            name=row.cell,
            passed=Outcome(row.verdict).passes,
            message="; ".join(filter(None, (_judged(row), row.what_ran))),
            time_s=None if pd.isna(row.new_median_ns) else row.new_median_ns / 1e9,
        )
        for row in rows(compared)
    ]
    return junit.render(f"{compared.attrs['new']} over {compared.attrs['base']}", cases)


def _judged(row: Any) -> str:
    """The verdict of a row of a comparison, with its ratio, or why there is none."""
    return f"{row.verdict}: {row.why or units.ratio_interval(row.ratio, row.ratio_low, row.ratio_high)}"


# What a page says of it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """Whether the figures of a run can be trusted, and where it stands beside its baseline, if it has one.

    The fields are those of `page.sections.Given`, which says what they hold.
    """

    checks: tuple[Check, ...]
    judged: Judgement | None = None
    differences: tuple[Difference, ...] = ()
    nights: pd.DataFrame | None = None
    breaks: tuple[tuple[str, str], ...] = ()
    steps: pd.DataFrame | None = None


def standing(reading: Reading, baseline: Reading | None = None) -> Standing:
    """Where a run stands beside that one; without it a night stands beside those before it, and any other run beside none."""
    if baseline:
        return _beside_run(reading, baseline)
    return _among_nights(reading) if reading.is_night else Standing(reading.checks)


def _among_nights(reading: Reading) -> Standing:
    night, judgement, run = reading.night, reading.judgement, reading.run
    network = reading.ranking.drop_duplicates("cell").set_index("cell")["network"]
    return Standing(
        checks=reading.checks,
        judged=judging.of_night(judgement, night.baseline(judgement), network),
        differences=environments.differences(night.before, run) if night.before and run.environments else (),
        nights=night.figures(),
        breaks=night.breaks(),
        steps=judgement.cases,
    )


def _beside_run(reading: Reading, base: Reading) -> Standing:
    """One comparison is made of it, and said twice: once for the checks, and once more with what they bar."""
    records = reading.records
    compared = between(base, reading, base.records, records[records["cell"].isin(reading.ranking["cell"])])
    incomparable = validity.incomparable(base.run, reading.run)
    cases = judging.against(compared, base.run.id, incomparable=incomparable).cases
    checks = reading.checks_beside(base.run, cases)
    return Standing(
        checks=checks,
        judged=judging.against(compared, base.run.id, validity.blocking(checks), incomparable),
        differences=environments.differences(base.run, reading.run),
    )


# What others published ----------------------------------------------------------------------------------------------------


def beside_published(reading: Reading, wanted: str) -> pd.DataFrame:
    """The cells of a run beside what is published for one hardware, or for `all`, with BESIDE_COLUMNS.

    Of the tables of the run's own store and of the package. Hardware goes by its name or a part that no other has, in any
    spelling of case, blanks and hyphens; `attrs["hardware"]` holds the names meant. Raises PublishedError for any other.
    """
    known = published.load(reading.store)
    chosen = _hardware(wanted, known["hardware"].unique().tolist())
    beside = elsewhere.beside(reading.ranking, known[known["hardware"].isin(chosen)])
    beside.attrs = {"hardware": chosen}
    return beside


def _hardware(wanted: str, known: list[str]) -> list[str]:
    """The names out of `known` that are meant: every one by `all`, else one."""
    short = {_folded(name.partition(" ")[2] or name): name for name in known} | {_folded(name): name for name in known}
    word = _folded(wanted)
    if word == "all":
        return known
    if word in short:
        return [short[word]]
    matching = [name for name in known if word and word in _folded(name)]
    if len(matching) == 1:
        return matching
    near = ", which is part of several;" if matching else hint(word, short) or ";"
    raise PublishedError(f"published: found {show(wanted)}{near} allowed: all, {', '.join(sorted(matching or known))}")


def _folded(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))
