"""Can the numbers of a run be trusted? Every check with what was measured, its limit, and what follows for the report."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from harness import units
from harness.analysis.environments import differences
from harness.analysis.noise import Noise
from harness.analysis.ranking import sureness
from harness.analysis.rows import dicts_of
from harness.analysis.times import connected
from harness.analysis.trials import FEW_SAMPLES, FEW_VISITS
from harness.columns import of_convolutions
from harness.flags import Flag
from harness.outcome import CHANGED, ENOUGH_PAIRS, ENOUGH_TRIALS, Check, Difference, Extent, Outcome, Result
from harness.plain import plain
from harness.record import METHOD_VERSION, VISITS_SINCE, Run, SeriesKind, Status

MOST_FALSE = 0.05  # of pairs of equals may be called different
MOST_NAMED = 3  # of the pairs of equals that were called different
LEAST_COMPLETE = 0.9  # of a run's cells must have been reached
MOST_FLAGGED = 0.05  # of the measured cells may be under a flag of one kind
ONE_SIDED_FROM, ONE_SIDED_FACTOR = 10, 3
# A block lasts as long as this many readings of the clock, by construction (measure.clock): a fifth of a percent.
CLOCK_LIMIT = 0.01
NOT_KEPT, GONE = "not kept", "The samples that would tell are not in the store."
_TIMER = ("Blocks dwarf the clock", f"a reading under {100 * CLOCK_LIMIT:.0f} % of the shortest block")
_ENOUGH = "Enough samples"
_FEW = f"{100 * MOST_FLAGGED:.0f} % of the cells"
MOST_WIDE = 0.05  # half the width of the interval of a comparison, in the median
MOST_LOST = 0.05  # of the visits of a run
_DRIFT = "No drift of the clocks within a trial"
LOCKED_CLOCKS = 0.02  # of the mean clock: cells of a run on locked clocks differ by less


def checks(
    summary: pd.DataFrame, samples: pd.DataFrame, run: Run, *, noise: Noise | None = None, base: Run | None = None,
    cases: pd.DataFrame | None = None, extent: Extent | None = None, pruned: bool = False,
) -> tuple[Check, ...]:  # fmt: skip
    """The checks of a run, in the order of the page. `extent` is that of a run that has not ended, `pruned` says that
    its samples were removed: what only they tell is not kept. `noise` is that of the machine by an A/A run, else by the
    equals of the run itself, None where there are none.

    `base` and `cases` (with `judgement.CASES`) are those of the comparison, None where there is none.
    """
    cells = summary[of_convolutions(summary)]
    ok = cells[cells["status"] == str(Status.OK)]
    visited = run.method_version >= VISITS_SINCE
    found = [_correct(cells, ok), _complete(cells, run, extent), *_sure(cells, run)]
    if base is not None:
        found.append(_same_machine(base, run))
    found += [_agree(ok, pruned)] if visited else [_drift(ok, pruned)]
    found += [*_clocks(ok), _throttling(ok, visited), _foreign(ok, run, pruned), _equals(noise), _plateau(ok), _compiled(ok)]
    if cases is not None and base is not None:
        found.append(_sides(cases, differences(base, run)))
    if pruned:
        lost = [Check(name, Result.UNKNOWN, NOT_KEPT, limit, GONE) for name, limit in (_TIMER, (_ENOUGH, _enough(visited)))]
        return (*found, *lost, _energy(ok))
    of_visits = [_visits(samples[samples["cell"].isin(ok["cell"])])] if visited else []
    latency = samples[samples["series"] == str(SeriesKind.LATENCY)]
    return (*found, *of_visits, _timer(latency), _sample_count(ok, visited), _energy(ok))


def blocking(found: Sequence[Check]) -> tuple[str, ...]:
    """What of these checks bars every judgement, in words."""
    return tuple(f"{check.name.lower()}: {check.measured}" for check in found if check.blocks)


# One by one ------------------------------------------------------------------------------------------------------------


def _of(count: int, total: int, what: str = "cell") -> str:
    return f"{count} of {units.many(total, what)}"


def _correct(cells: pd.DataFrame, ok: pd.DataFrame) -> Check:
    name, limit = "Results match the reference", "all"
    wrong = int((cells["status"] == str(Status.INCORRECT)).sum())
    checked = int((ok["check_method"].fillna("") != "").sum())
    if not len(ok) and not wrong:
        return Check(name, Result.UNKNOWN, "no cell gave a result", limit, "There is nothing to be right or wrong.")
    if checked < len(ok):
        said = f"never checked: {_of(len(ok) - checked, len(ok))} with a time"
        none = checked == 0
        effect = (
            "No figure can be trusted to be that of a convolution."
            if none
            else "Those cells may be fast because they are wrong."
        )
        return Check(name, Result.FAILED if none else Result.WARNING, said, limit, effect, none)
    said = f"{_of(checked, checked + wrong)} that gave a result"
    if wrong:
        them = "It is" if wrong == 1 else "They are"
        return Check(
            name, Result.WARNING, said, limit, f"{wrong} gave a wrong result. {them} shown as incorrect and never ranked."
        )
    return Check(name, Result.PASS, said, limit)


def _complete(cells: pd.DataFrame, run: Run, extent: Extent | None) -> Check:
    name, limit = "Run complete", f"{LEAST_COMPLETE:.0%} of the cells, and ended".replace("%", " %")
    reached = int((cells["status"] != str(Status.NOT_RUN)).sum())
    said = f"{_of(reached, len(cells))} reached"
    if run.finished_at is None:
        told = extent.words if extent else f"{said}; the run has not ended"
        return Check(name, Result.FAILED, told, limit, "What is missing might change any verdict on the run.", True)
    if not len(cells) or reached < LEAST_COMPLETE * len(cells):
        return Check(name, Result.FAILED, said, limit, "Too little was measured for any verdict on the run.", True)
    if reached < len(cells):
        return Check(name, Result.WARNING, said, limit, "The rest is listed under Failures as not run.")
    return Check(name, Result.PASS, said, limit)


def machines_differ(base: Run, new: Run) -> str:
    """The machines of two runs, both named, in one line; "" where they are the same, or one is not told."""
    before, after = base.machines, new.machines
    if not before or not after or before.keys() == after.keys():
        return ""
    alike = bool(set(before.values()) & set(after.values()))  # their words alone would not tell them apart
    told = ["; ".join(f"{words} ({id})" if alike else words for id, words in each.items()) for each in (before, after)]
    return plain(f"the baseline was measured on {told[0]}, this run on {told[1]}")


def incomparable(base: Run, new: Run) -> str:
    """Why nothing of a run can be held against a baseline, that of two machines; "" where they have one in common."""
    return "" if base.machines.keys() & new.machines.keys() else machines_differ(base, new)


def _same_machine(base: Run, run: Run) -> Check:
    name, limit = "Same machine as the baseline", "one fingerprint"
    if not base.machines or not run.machines:
        return Check(
            name, Result.WARNING, "one of the runs names no machine", limit, "Differences may be those of two machines."
        )
    if differ := machines_differ(base, run):
        return Check(name, Result.FAILED, differ, limit, "Times of two machines say nothing of a change: no verdict holds.")
    return Check(name, Result.PASS, "; ".join(f"{words} ({id})" for id, words in run.machines.items()), limit)


def _under(ok: pd.DataFrame, flag: Flag, column: str = "flags") -> int:
    return int(ok[column].astype("string").fillna("").str.split(",").map(lambda flags: flag in flags).sum())


def _barring(ok: pd.DataFrame, flag: Flag) -> str:
    """What follows of a flag that bars a verdict: how many of the cells under it are barred, and when one is."""
    barred = _of(_under(ok, flag, "barred_by"), _under(ok, flag))
    return f"{barred} barred: a cell is never called slower or faster where over half of its trials raise such a flag."


def _by_flag(name: str, ok: pd.DataFrame, flag: Flag, more: str = "", effect: str = "") -> Check:
    """A check that counts the cells under a flag, of which few are no harm; without an `effect` the flag bars verdicts."""
    if not len(ok):
        return Check(name, Result.UNKNOWN, "no cell has a figure", _FEW, "There is nothing to hold against it.")
    count = _under(ok, flag)
    said = f"{_of(count, len(ok))} under {str(flag).replace('_', ' ')}{more}"
    if count > MOST_FLAGGED * len(ok):
        return Check(name, Result.WARNING, said, _FEW, effect or _barring(ok, flag))
    return Check(name, Result.PASS, said, _FEW, (effect or _barring(ok, flag)) if count else units.MISSING)


def _sure(cells: pd.DataFrame, run: Run) -> list[Check]:
    """How well the comparisons are known, where the cells were ranked and there is any."""
    if "vs_best" not in cells or not (known := sureness(cells)).comparisons:
        return []
    name, limit = "Comparisons are sure", f"intervals of ±{100 * MOST_WIDE:.0f} % in the median"
    if known.half is None:
        return [Check(name, Result.UNKNOWN, "no comparison has an interval", limit, "Nothing is told apart.")]
    found, effect = Result.PASS if known.half <= MOST_WIDE else Result.WARNING, units.MISSING
    if run.finished_at is None:
        effect = "Nothing is decided before the run has ended."
    elif found is Result.WARNING:
        effect = "What differs by less is not told apart."
        if run.method_version == METHOD_VERSION:
            effect += " convbench run --more RUN --time 5m measures further."
    return [Check(name, found, known.words, limit, effect)]


def _agree(ok: pd.DataFrame, pruned: bool) -> Check:
    name, effect = "Fresh processes agree", "What they differ by is in the intervals, which are the wider for it."
    if pruned:
        return Check(name, Result.UNKNOWN, NOT_KEPT, _FEW, GONE)
    kinds = _under(ok, Flag.TWO_KINDS)
    more = f"; processes of two speeds in {kinds}, whose time is that of neither" if kinds else ""
    return _by_flag(name, ok, Flag.TRIALS_DISAGREE, more, effect)


def _drift(ok: pd.DataFrame, pruned: bool) -> Check:
    """Of a run without visits; where there are some, the ratios of neighbours do not have what the machine does."""
    found = _by_flag(_DRIFT, ok, Flag.DRIFT)
    told = f"{found.measured} in most trials; of single ones {NOT_KEPT}"
    return replace(found, result=Result.UNKNOWN, measured=told) if pruned else found


def _clocks(ok: pd.DataFrame) -> list[Check]:
    found = []
    for device, rows in ok[ok["device"] != "cpu"].groupby("device", sort=True):
        clocks = rows["gpu_clock_mhz"].dropna()
        name, limit = f"Clock of {device} locked", f"range under {100 * LOCKED_CLOCKS:.0f} % of the mean"
        if clocks.empty:
            found.append(
                Check(name, Result.UNKNOWN, "the driver tells no clock", limit, "A change of clocks would not be seen.")
            )
            continue
        said = f"{clocks.min():.0f} to {clocks.max():.0f} MHz over {units.many(len(clocks), 'cell')}"
        wide = clocks.max() - clocks.min() > LOCKED_CLOCKS * clocks.mean()
        effect = "Part of a difference between cells may be the clock's."
        found.append(Check(name, Result.WARNING, said, limit, effect) if wide else Check(name, Result.PASS, said, limit))
    return found


def _throttling(ok: pd.DataFrame, visited: bool) -> Check:
    name, limit = "No thermal or power throttling", "no cell"
    gpu = ok[ok["device"] != "cpu"]
    if gpu.empty:
        effect = "A machine that was slow all the time cannot be told from one that is slow."
        if visited:
            effect += " What is slow for a while is so for neighbours alike: it is in times, not in ratios."
        shown = "" if visited else "; the flags drift and unsteady warmup would show it"
        return Check(name, Result.UNKNOWN, f"a CPU does not tell{shown}", limit, effect)
    count = _under(gpu, Flag.THROTTLED)
    reasons = sorted({one for text in gpu["gpu_throttle_reasons"].dropna() for one in text.split(",") if one})
    seen = f"; reasons seen: {', '.join(reasons)}" if reasons else ""
    said = f"{_of(count, len(gpu))} on GPUs under throttled{seen}"
    if not count:
        return Check(name, Result.PASS, said, limit)
    return Check(name, Result.WARNING, said, limit, _barring(gpu, Flag.THROTTLED))


def _foreign(ok: pd.DataFrame, run: Run, pruned: bool) -> Check:
    name = "Nobody else on the cores"
    known = ok["contended_share"].dropna()
    unseen = "; ".join(dict.fromkeys(each.unseen for each in run.environments if each.unseen))
    if pruned:
        more = f"; the share of samples that are contended is {NOT_KEPT}"
        return _by_flag(name, ok, Flag.CONTENDED, more)
    if len(ok) and known.empty:
        remedy = " convbench doctor tells the remedy." if unseen else ""
        said = unseen or "the kernel does not tell"
        return Check(name, Result.UNKNOWN, said, _FEW, f"Other programs may be part of any time.{remedy}")
    more = f"; {units.percent(float(known.mean()))} of the samples contended" if len(known) else ""
    seen = _by_flag(name, ok, Flag.CONTENDED, more)
    if unseen and seen.result is Result.PASS:
        effect = "What others did is seen in part: the rest may be part of any time. convbench doctor tells the remedy."
        return replace(seen, result=Result.UNKNOWN, measured=f"{seen.measured}; not seen: {unseen}", effect=effect)
    return seen


def _equals(noise: Noise | None) -> Check:
    name, limit = "A/A control: equals called different", f"{100 * MOST_FALSE:.0f} % of the pairs"
    if noise is None:
        return Check(
            name, Result.UNKNOWN, "no A/A run of this machine by this method, no equals in this run", limit,
            f"What equals differ by here is not known: a comparison of two runs calls nothing slower or faster by under "
            f"{ENOUGH_TRIALS} trials. Comparisons within this run need no A/A run.",
        )  # fmt: skip
    if not noise.judged:
        return Check(name, Result.UNKNOWN, "no pair could be judged", limit, "How often a verdict is wrong here is not known.")
    share = noise.differences / noise.judged
    said = f"{_of(noise.differences, noise.judged, 'pair')} ({units.percent(share)})"
    if noise.smallest_effect is not None:
        said += f"; smallest change found {units.percent(noise.smallest_effect)}"
    if noise.differences > MOST_FALSE * noise.judged:
        unequal = noise.cells[noise.cells["verdict"].isin(CHANGED) & ~noise.cells["barred"].astype(bool)]
        named = "; ".join(f"{row['cell']} {units.change(row['ratio'])}" for row in dicts_of(unequal.head(MOST_NAMED)))
        more = f" and {len(unequal) - MOST_NAMED} more" if len(unequal) > MOST_NAMED else ""
        effect = f"A change of that size is found here where there is none: {named}{more}. Read single verdicts with care."
        return Check(name, Result.WARNING, said, limit, effect)
    return Check(name, Result.PASS, said, limit)


def _plateau(ok: pd.DataFrame) -> Check:
    return _by_flag("Warm-up reached a plateau", ok, Flag.UNSTEADY_WARMUP)


def _compiled(ok: pd.DataFrame) -> Check:
    return _by_flag("Nothing was compiled while it was timed", ok, Flag.RECOMPILED)


def _visits(samples: pd.DataFrame) -> Check:
    """By the turns of each window: a cell of it that has no sample of a turn was not visited then, or in vain."""
    name, limit = "No visit was lost", f"{100 * MOST_LOST:.0f} % of the visits"
    made = windows = turns = wanted = 0
    placed = samples[["trial", "cell", "turn"]].dropna().drop_duplicates()
    for _, of_trial in placed.groupby("trial", sort=True):
        table = pd.crosstab(of_trial["cell"], of_trial["turn"]).to_numpy(dtype=bool)
        for columns in connected(table):
            window = table[:, columns]
            made += int(window.sum())
            wanted += int(window.any(axis=1).sum()) * len(columns)
            windows, turns = windows + 1, turns + len(columns)
    if not wanted:
        return Check(name, Result.UNKNOWN, "no visits", limit, "There is nothing to hold against it.")
    told = f"{units.many(turns, 'turn')} of {units.many(windows, 'window')}; {_of(wanted - made, wanted, 'visit')} void or lost"
    effect = "A comparison has the turns that have both cells, and those are fewer."
    found = Result.WARNING if wanted - made > MOST_LOST * wanted else Result.PASS
    return Check(name, found, told, limit, effect if made < wanted else units.MISSING)


def _sides(cases: pd.DataFrame, changed: Sequence[Difference]) -> Check:
    name = "Changes are not one-sided"
    slower, faster = (int((cases["verdict"] == str(each)).sum()) for each in (Outcome.SLOWER, Outcome.FASTER))
    said, limit = f"{slower} slower, {faster} faster", f"under {ONE_SIDED_FACTOR} to 1, or a fact of the environment differs"
    one_sided = slower + faster >= ONE_SIDED_FROM and max(slower, faster) > ONE_SIDED_FACTOR * min(slower, faster)
    if one_sided and not changed:
        return Check(
            name, Result.WARNING, said, limit, "So many changes one way, and nothing known that changed: suspect the machine."
        )
    return Check(name, Result.PASS, said, limit)


def _timer(samples: pd.DataFrame) -> Check:
    """By what engine and suite ask for: the run stores no cost of the clock, but the blocks that were sized by it."""
    name, limit = _TIMER
    if samples.empty:
        return Check(name, Result.UNKNOWN, "no samples", limit, "There is nothing to hold against it.")
    shortest = float(samples["block_ns"].min())
    # The finest difference that the clock showed between two blocks bounds its resolution from above.
    steps = samples["block_ns"].drop_duplicates().sort_values().diff().dropna()
    tick = float(steps[steps > 0].min()) if (steps > 0).any() else float("nan")
    said = f"shortest block {units.duration(shortest, 3)}, finest step of the clock {units.duration(tick, 3)}"
    if pd.isna(tick):
        return Check(name, Result.UNKNOWN, said, limit, "The clock's own cost is not among what was stored.")
    if tick > CLOCK_LIMIT * shortest:
        return Check(name, Result.WARNING, said, limit, "The shortest times are partly the clock's own.")
    return Check(name, Result.PASS, said, limit)


def _enough(visited: bool) -> str:
    of_trial = f"{FEW_VISITS} visits" if visited else f"{FEW_SAMPLES} that are not contended"
    return f"{of_trial} per trial, {ENOUGH_PAIRS} trials"


def _sample_count(ok: pd.DataFrame, visited: bool) -> Check:
    name, limit = _ENOUGH, _enough(visited)
    if not len(ok):
        return Check(name, Result.UNKNOWN, "no cell has a figure", limit, "There is nothing to count.")
    few, least, most = _under(ok, Flag.FEW_SAMPLES), int(ok["trials"].min()), int(ok["trials"].max())
    trials = units.many(most, "trial") if least == most else f"{least} to {most} trials"
    said = f"{_of(few, len(ok))} with fewer in a trial; median {ok['samples'].median():.0f} samples per cell; {trials}"
    effects = [_barring(ok, Flag.FEW_SAMPLES)] if few else []
    if least < ENOUGH_PAIRS:
        effects.append(f"Under {ENOUGH_PAIRS} trials a cell is told from no other of the run.")
    if least == 1:
        effects.append("Of one trial it is not known by how much fresh processes differ.")
    return Check(name, Result.WARNING if effects else Result.PASS, said, limit, " ".join(effects) or units.MISSING)


def _energy(ok: pd.DataFrame) -> Check:
    name, limit = "Energy counter readable", "every cell"
    known = int(ok["energy_per_call_j"].notna().sum())
    if len(ok) and known == len(ok):
        return Check(name, Result.PASS, _of(known, len(ok)), limit)
    reasons = ok.loc[ok["energy_per_call_j"].isna(), "energy_method"].dropna()
    first = reasons.mode().iloc[0] if len(reasons) else "no counter asked for"
    said = f"{_of(known, len(ok))}; {first}"
    return Check(
        name, Result.UNKNOWN if not known else Result.WARNING, said, limit, "Cells without a reading have no energy figure."
    )
