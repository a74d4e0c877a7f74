"""`convbench repro`: a cell of a run as a program of its own, for a bug report, and as the text of an issue."""

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import Out, folder_of
from harness.errors import SelectionError, UserError

if TYPE_CHECKING:
    from harness.backends.base import Script
    from harness.record import Environment, Run
    from harness.review.reading import Reading
    from harness.spec import Cell

app = typer.Typer()


@app.command(epilog="Example: convbench repro latest -k 'rn50_conv1 and wgrad and torch and eager' > report.py")
def repro(
    run: Annotated[str, typer.Argument(help="An id, a path, latest, latest~1 or tag:WORD.")],
    cell: Annotated[str | None, typer.Argument(help="A cell, as convbench show names it: by its id, or shortened.")] = None,
    out: Out = Path("results"),
    keyword: Annotated[str | None, typer.Option("-k", help="Instead of it, a pytest -k expression that fits one.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The text of an issue, with the program in it.")] = False,
) -> None:
    """Print a cell of a run as a program that needs numpy and the framework alone.

    It has the same operands and the same call, checks some elements against the definition in float64, and times it as the
    run did: on the same cores, with the same environment variables. Cold caches are not in it. What cannot be measured has no
    program.
    """
    from harness.measure import script as scripts
    from harness.review.reading import Reading

    reading = Reading(folder_of(out, run))
    row = _chosen(reading, cell, keyword)
    asked = _cell(row)
    written, environment = _script(asked, row.cell), _environment(reading.run, row)
    facts = _facts(row, asked, reading.run, environment)
    told = [_title(row, asked), *(f"{name}: {text}" for name, text in facts if name not in ("call", "pass", "convolution"))]
    text = scripts.program(asked, written, told, environment, reading.run.seed, row.reason)
    sys.stdout.write(_issue(_title(row, asked), facts, text, written) if markdown else text)


def _chosen(reading: "Reading", cell: str | None, keyword: str | None) -> Any:
    """The row of the summary of the cell that is asked for. Raises SelectionError where that is none, or several."""
    from harness.ask import expression
    from harness.ask.wording import hint, show
    from harness.cli.tables import short_ids
    from harness.rows import rows

    if (cell is None) == (keyword is None):
        raise SelectionError("repro: name one cell, by its id or by -k")
    frame = reading.ranking
    if cell is not None:
        short = short_ids(frame)
        found = frame[(frame["cell"] == cell) | (short == cell)]
        if len(found) != 1:
            near, such = hint(cell, [*frame["cell"], *short]), ", ".join(frame["cell"].iloc[:2])
            allowed = f"allowed: what convbench show {reading.run.id} lists{f', such as {such}' if such else ''}"
            raise SelectionError(f"cell: found {show(cell)}{near or ';'} {allowed}")
    else:
        try:
            found = frame[frame["cell"].map(expression.keyword(keyword or "")).astype(bool)]
        except ValueError as error:
            raise SelectionError(f"-k: {error}") from None
        if len(found) != 1:
            such = f", such as {', '.join(found['cell'].iloc[:3])}" if len(found) else ""
            raise SelectionError(f"-k: fits {len(found)} of {len(frame)} cells{such}; allowed: what fits one")
    return next(rows(found))


def _cell(row: Any) -> "Cell":
    """The cell that a row is of: each axis has a column of its name.

    Raises UserError for one that could not be measured, for cold caches, and for what is no convolution.
    """
    from harness.ask import axes
    from harness.axes import Cache
    from harness.record import Status
    from harness.spec import Cell, parse_workload

    if row.status == Status.UNSUPPORTED:
        raise UserError(f"{row.cell}: {' '.join(row.reason.split())}")
    spec = parse_workload(row.shape)
    if not spec.is_convolution:
        raise UserError(f"{row.cell}: only a convolution can be written as a script")
    told = {axis: getattr(row, axis) for axis in axes.NAMES}
    cell = Cell(row.workload, spec, **{axis: axes.parse(axis, value) for axis, value in told.items() if value != ""})
    if cell.cache is Cache.COLD:
        raise UserError(f"{row.cell}: cold caches are not in a script; name the cell with hot ones")
    return cell


def _script(cell: "Cell", id: str) -> "Script":
    """What the adapter writes. Raises UserError where it cannot measure the cell, writes nothing, or cannot be asked."""
    from harness.backends import registry
    from harness.isolate.worker import refusal

    name = cell.backend.partition("@")[0]
    target = registry.find(name)
    try:
        found = written(registry.resolve(target), cell)
    except Exception as error:  # another package's adapter
        raise UserError(f"{name} cannot write a script of {id}: {refusal(error)}") from None
    if found is None:
        raise UserError(f"{name} cannot write a script of {id}")
    if isinstance(found, str):
        raise UserError(f"{id}: {found}")
    return found


def written(kind: Any, cell: "Cell") -> "Script | str | None":
    """What an adapter's class writes of a cell; the reason where it cannot measure it; None where it writes nothing.

    It is asked what a measurement asks, as far as that takes no framework.
    """
    from harness.backends import base

    if reason := base.impossible(cell) or base.undeclared(kind, cell):
        return reason
    script: Script | None = kind.script(cell) if hasattr(kind, "script") else None
    return script


def _environment(run: "Run", row: Any) -> "Environment":
    """The environment that the cell was measured in, else another one of its backend. Raises UserError where there is none."""
    own = [each for each in run.environments if each.backend == row.backend]
    for environment in sorted(own, key=lambda each: each.id != row.environment_id):
        return environment
    raise UserError(f"{row.cell}: run {run.id} knows no environment of {row.backend}, since none of its workers came up")


def _title(row: Any, cell: "Cell") -> str:
    """What is reported, in a line: the call, what it is of, and how long it takes or what became of it."""
    from harness import units
    from harness.record import Status

    came = {Status.OK: units.timed(row.median_ns, row.ci_low_ns, row.ci_high_ns)}
    came |= dict.fromkeys((Status.SKIPPED, Status.NOT_RUN), "not measured")
    told = came.get(Status(row.status), row.status)
    return f"{row.op or cell.backend}: {cell.direction.words} of {row.shape}, {cell.precision}, {cell.layout_text}: {told}"


def _facts(row: Any, cell: "Cell", run: "Run", environment: "Environment") -> list[tuple[str, str]]:
    """What convbench measured and where, each with its name."""
    from harness import units

    shapes = ", ".join(f"{name} {list(cell.operand_shapes[name])}" for name in ("x", "w"))
    threads, device = units.many(len(environment.affinity), "thread"), "the CPU"
    if cell.device.kind != "cpu":
        threads, device = "", f"{cell.device}, timed on the host; no such program was ever run on a GPU"
    options = (f"{name} {value}" for name, value in cell.options.items())
    setting = [cell.precision, cell.layout_text, cell.mode, *options, threads, f"on {device}"]
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    facts = [
        ("call", row.op),
        ("why this call", row.op_reason),
        ("pass", f"{cell.direction} ({cell.direction.words})"),
        ("convolution", f"{row.shape}: {shapes}, canonical: channels first"),
        ("setting", ", ".join(filter(None, setting))),
        ("measured", _measured(row)),
        ("result", _checked(row)),
        ("flags", row.flags.replace(",", ", ")),
        ("settings", row.settings),
        ("machine", f"{environment.hardware}; {environment.os}"),
        ("versions", f"{environment.python}, {packages}"),
        ("run", f"{run.id}, seed {run.seed}, convbench {run.harness_version}"),
        ("cell", row.cell),
    ]
    return [(name, text) for name, text in facts if text]


def _measured(row: Any) -> str:
    """The time of a call with its interval, the least one and the rate; or why there is none."""
    from harness import units

    if row.status != "ok":
        return f"{row.status.replace('_', ' ')}: {row.reason}"
    told = units.timed(row.median_ns, row.ci_low_ns, row.ci_high_ns) + ("" if math.isnan(row.ci_low_ns) else " (95 %)")
    told = f"{told} over {units.many(row.trials, 'trial')}"
    least = "" if math.isnan(row.min_ns) else f", least {units.duration(row.min_ns)}"
    return f"{told}{least}, {units.flop_rate(row.flop_per_s)}"


def _checked(row: Any) -> str:
    """How right the result was, and whether it varied from call to call; empty where it was not checked."""
    if math.isnan(row.max_rel_err):
        return ""
    told = f"largest error {row.max_rel_err:.2g} of the size of a sum, allowed {row.tolerance:.2g}"
    return f"{told}; it varies from call to call, by {row.results_vary:.2g}" if row.results_vary > 0 else told


def _issue(title: str, facts: list[tuple[str, str]], text: str, script: "Script") -> str:
    """The text of an issue: title, table, and the program in a fence that no line of it ends."""
    from harness.store.exchange import escaped

    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    table = "".join(f"| {name} | {escaped(told)} |\n" for name, told in facts)
    needs = " and ".join(["numpy", *(name for name, _ in script.versions[:1])])
    summary = f"<details><summary>A program that needs {needs} alone: the same operands and call, checked and timed</summary>"
    return (
        f"**{escaped(title)}**\n\n| | |\n| --- | --- |\n{table}\n{summary}\n\n{fence}python\n{text}{fence}\n\n</details>\n\n"
        "What it prints here:\n\n```\n\n```\n"
    )
