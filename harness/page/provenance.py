"""Where and how the run was measured, as rows of text: the run, its machines, its versions, its settings."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness import units
from harness.columns import of_convolutions
from harness.page.view import View, who
from harness.record import Environment, Run, Status
from harness.rows import rows_of

VALUE_LENGTH = 300


@dataclass(frozen=True)
class Comparison:
    """Facts of several environments side by side: `heads` (backend, note), `rows` (fact, one value per head)."""

    heads: list[tuple[str, str]]
    rows: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Ceiling:
    """A row of the frame of ceilings: FLOP/s of a matrix product or bytes/s of a copy, the other one NaN."""

    device: str
    threads: int
    precision: str
    workload: str
    backend: str
    op: str
    flop_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class NotMeasured:
    """A row of the summary that holds a matrix product or a copy without a figure, and why."""

    workload: str
    backend: str
    status: str
    reason: str


def of_run(run: Run, view: View, duration_s: float | None, command: str) -> list[tuple[str, str]]:
    """What identifies the run, as pairs of fact and value."""
    tags = ", ".join(run.tags)
    return [
        ("Suite", f"{run.suite} – {run.description}" if run.description else run.suite),
        ("Run", run.id),
        ("Command", cut(command or run.command) or units.MISSING),
        ("Started", f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Took", units.MISSING if duration_s is None else units.wall(duration_s)),
        ("Cells, trials", f"{units.many(len(view.cells), 'cell')}, {_trials(view)} per cell"),
        ("Seed", str(run.seed)),
        ("Commit", run.commit or units.MISSING),
        ("convbench", f"{run.harness_version}, {method(run)}"),
        ("Suite's hash", run.suite_sha256 or units.MISSING),
        *([("Tags", cut(tags))] if tags else []),
    ]


def method(run: Run) -> str:
    """By whose rules the run was measured."""
    return f"method version {run.method_version}" if run.ours else "timed by another program, by rules of its own"


def _trials(view: View) -> str:
    trials = sorted(set(view.ok["trials"].dropna().astype(int)))
    if not trials:
        return "no trials"
    most = trials[-1]
    return units.many(most, "trial") if len(trials) == 1 else f"{trials[0]} to {most} trials"


def machines(run: Run, view: View) -> Comparison:
    """The environments of the run, in the order of its backends."""
    environments = _ordered(run, view)
    heads = [(each.backend, _differs(each, environments)) for each in environments]
    packages = list(dict.fromkeys(name for each in environments for name in each.packages))
    columns = [
        {
            "Machine": f"{each.machine or each.host or units.MISSING} ({each.machine_id or units.MISSING})",
            "CPU": each.cpu,
            "Cores": f"{each.cores} physical; may run on CPU {_ranges(each.affinity)}{_quota(each)}",
            "Memory": units.size(each.memory_bytes),
            "Memory nodes": "; ".join(f"{node}: CPU {cpus}" for node, cpus in each.nodes.items()),
            "Not seen of others' work": each.unseen,
            "GPU": f"{each.gpu}, driver {each.driver}" if each.gpu else "none",
            "Operating system": each.os,
            "Python": each.python,
            **{name: each.packages.get(name, "") for name in packages},
        }
        for each in environments
    ]
    return _side_by_side(heads, columns)


def variables(run: Run, view: View) -> Comparison:
    """The environment variables that change how fast or how precisely a framework computes."""
    environments = _ordered(run, view)
    names = sorted({name for each in environments for name in each.environ})
    heads = [(each.backend, _differs(each, environments)) for each in environments]
    return _side_by_side(heads, [{name: each.environ.get(name, "") for name in names} for each in environments])


def settings(view: View) -> list[tuple[str, str, str, int]]:
    """Settings as read back from the frameworks: backend, mode, settings, cells that ran under them."""
    known = view.cells[view.cells["settings"] != ""]
    counted = known.groupby(["order_in_group", "backend", "mode", "settings"], sort=True).size().reset_index(name="cells")
    rows = zip(*(counted[name] for name in ("backend", "mode", "settings", "cells")), strict=True)
    return [(backend, mode, cut(text.replace(",", ", ")), int(cells)) for backend, mode, text, cells in rows]


def ceilings(best: pd.DataFrame | None, summary: pd.DataFrame, view: View) -> list[tuple[str, str]]:
    """What the machine can do, as pairs of fact and value: the best of each kind, then what could not be measured and why.

    `best` as `analysis.roofline.ceilings` gives it; None where nobody asked. `summary` is that of the whole run.
    """
    found = []
    for row in rows_of(best, Ceiling) if best is not None else ():
        threads = f", {units.many(row.threads, 'thread')}" if row.threads else ""
        copies = pd.isna(row.flop_per_s)
        what = f"Best copy on {row.device}" if copies else f"Best matrix product on {row.device} in {row.precision}"
        rate = units.byte_rate(row.bytes_per_s) if copies else units.flop_rate(row.flop_per_s)
        found.append((what + threads, cut(f"{rate}, {row.workload} by {who(view.looks, row.backend)}: {row.op}")))
    lost = [str(status) for status in Status if status.failed or status is Status.NOT_RUN]
    rows = summary[~of_convolutions(summary) & summary["status"].isin(lost)]
    return found + [
        (f"Not measured: {row.workload}", cut(f"{who(view.looks, row.backend)}, {row.status.replace('_', ' ')}: {row.reason}"))
        for row in rows_of(rows, NotMeasured)
    ]


def cut(text: str, length: int = VALUE_LENGTH) -> str:
    """The text, not longer than `length`."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _ordered(run: Run, view: View) -> list[Environment]:
    order = list(view.looks)
    return sorted(
        (each for each in run.environments if each.backend in order), key=lambda each: (order.index(each.backend), each.id)
    )


def _differs(one: Environment, environments: Sequence[Environment]) -> str:
    """The environment's id where its backend has several environments, else ""."""
    return one.id if sum(each.backend == one.backend for each in environments) > 1 else ""


def _quota(one: Environment) -> str:
    """How much of its CPUs' time a process may use, where that is limited."""
    return "" if one.cpu_quota is None else f", for {one.cpu_quota:.3g} CPUs' worth of time"


def _side_by_side(heads: list[tuple[str, str]], columns: Sequence[dict[str, str]]) -> Comparison:
    names = list(dict.fromkeys(name for column in columns for name in column))
    return Comparison(heads, [(name, [cut(column[name]) or units.MISSING for column in columns]) for name in names])


def _ranges(numbers: Sequence[int]) -> str:
    """`0-3, 8`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in parts) or units.MISSING
