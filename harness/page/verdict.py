"""The first section: what was measured, who is fastest, in sentences made from the frame and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness import units
from harness.page.view import FEWEST_FOR_INTERVAL, Mean, Standing, View, standings, who
from harness.record import Status

_BAD = (Status.INCORRECT, Status.CRASHED, Status.ERROR)
FAILURE_WORDS = {
    Status.INCORRECT: "gave a wrong result",
    Status.CRASHED: "crashed",
    Status.ERROR: "ended in an error",
    Status.OOM: "ran out of memory",
    Status.TIMEOUT: "ran out of time",
    Status.NOT_RUN: "came too late to be run",
    Status.UNSUPPORTED: "unsupported",
    Status.SKIPPED: "left out, as not installed here or too large for the memory",
}


@dataclass(frozen=True)
class Tile:
    """A number at the head of the page, what it counts, the section behind it, and how serious it is."""

    number: str
    words: str
    link: str
    tone: str = ""


@dataclass(frozen=True)
class Verdict:
    """The head of the page: `tone` and `tag` of the box, its sentences, the tiles, the table of standings."""

    tone: str
    tag: str
    lead: str
    sentences: list[str]
    tiles: list[Tile]
    flagged: int
    standings: list[Standing]


def verdict(view: View, duration_s: float | None) -> Verdict:
    """What the first section says."""
    found = standings(view)
    ok, failed = view.count(Status.OK), len(view.failed)
    tone = "slow" if view.count(*_BAD) else "warn" if failed or not ok else "fast"
    tag = f"✕ {failed} failed" if tone == "slow" else f"! {failed} failed" if failed else "✓ complete" if ok else "! no figures"
    return Verdict(
        tone=tone,
        tag=tag,
        lead=_lead(view, ok),
        sentences=[*_winners(view, found), "No baseline: nothing to compare this run with."],
        tiles=_tiles(view, ok, failed, duration_s),
        flagged=int((view.ok["flags"] != "").sum()),
        standings=found,
    )


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def _lead(view: View, ok: int) -> str:
    total = len(view.cells)
    if not total:
        return "This run holds no cell."
    parts = [
        f"{count} {_verb(status, count)}{words}" for status, words in FAILURE_WORDS.items() if (count := view.count(status))
    ]
    cells = "cell has" if total == 1 else "cells have"
    head = f"All {total} {cells} a checked figure" if ok == total else f"{ok} of {total} {cells} a checked figure"
    return f"{head}; {listed(parts)}." if parts else f"{head}."


def _verb(status: Status, count: int) -> str:
    """What a status of FAILURE_WORDS needs before it to be a sentence."""
    if status is Status.UNSUPPORTED:
        return "is " if count == 1 else "are "
    return ("was " if count == 1 else "were ") if status is Status.SKIPPED else ""


def _winners(view: View, found: Sequence[Standing]) -> list[str]:
    """Per device, who leads in which directions."""
    if not view.ranked:
        return ["The cells of this run were not ranked."]
    if not found:
        return ["No cell has a figure that could be ranked."]
    sentences = []
    for device in dict.fromkeys(standing.device for standing in found):
        here = [standing for standing in found if standing.device == device and len(standing.means) > 1]
        leads: dict[tuple[str, ...], list[str]] = {}
        for standing in here:
            names = [who(view.looks, mean.backend) for mean in standing.means if leads_with(standing, mean)]
            leads.setdefault(tuple(names), []).append(standing.direction)
        if not leads:
            sentences.append(f"On {device} no two backends have a workload in common.")
            continue
        parts = [
            f"{listed(names)} {'is fastest' if len(names) == 1 else 'cannot be told apart'} in {listed(where)}"
            for names, where in sorted(leads.items(), key=lambda item: (len(item[0]) > 1, -len(item[1])))
        ]
        few = [standing for standing in here if standing.common < FEWEST_FOR_INTERVAL]
        doubt = f" ({'all' if len(few) == len(here) else 'some'} over under {FEWEST_FOR_INTERVAL} workloads)" if few else ""
        unsure = _unsure(view, device)
        sentences.append(f"On {device}, by geometric mean{doubt}, {'; '.join(parts)}.{unsure}")
    return sentences


def _unsure(view: View, device: str) -> str:
    ranked = view.cells[(view.cells["device"] == device) & view.cells["vs_best"].notna()]
    count = int((ranked["barred_by"] != "").sum())
    return (
        f" {count} of the {len(ranked)} times behind this {'is' if count == 1 else 'are'} under a flag that makes it unsure."
        if count
        else ""
    )


def leads_with(standing: Standing, mean: Mean) -> bool:
    """Whether this backend is the fastest, or its interval overlaps that of the fastest."""
    first = standing.means[0]
    if mean is first or mean.value == first.value:
        return True
    return bool(mean.interval and first.interval and mean.interval.low <= first.interval.high)


def _tiles(view: View, ok: int, failed: int, duration_s: float | None) -> list[Tile]:
    flagged = view.ok[view.ok["flags"] != ""]
    unsure = int((flagged["barred_by"] != "").sum())
    doubt = f", {unsure} too unsure for a verdict" if unsure else ""
    unsupported = view.count(Status.UNSUPPORTED)
    return [
        Tile(f"{ok} / {len(view.cells)}", "cells measured", "results", "fast" if ok and ok == len(view.cells) else ""),
        Tile(str(unsupported), "unsupported", "failures"),
        Tile(str(failed), "failed", "failures", "slow" if failed else ""),
        Tile(str(len(flagged)), "under a flag" + doubt, "stability", "warn" if len(flagged) else ""),
        Tile(units.MISSING if duration_s is None else units.wall(duration_s), "wall time", "environment"),
    ]
