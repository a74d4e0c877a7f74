"""Cells in the JSON of pytest-benchmark: what `pytest_plugin` writes into it, and how that becomes a sealed run of the store.

One room for both ways, so that they agree. pandas is imported for sealing alone: the process that times must stay light.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from harness import codec
from harness.axes import OPTIONS, Cache, Device, Direction, Layout, Mode, Optimizer, Precision
from harness.errors import UserError
from harness.flags import Flag
from harness.record import OTHERS_METHOD, Check, Environment, Record, Run, Samples, Series, SeriesKind, Status
from harness.spec import Cell, parse_workload
from harness.store import journal

BLOCK = "convbench"  # the key at the top level of the file
TAG = "pytest-benchmark"  # of an imported run; it also stands for what stopped the sampling
_NAME = re.compile("[A-Za-z0-9._-]{1,100}")  # of a suite and of a workload: the former becomes part of a folder's name
_LARGEST = 2**63  # what a column of the store can hold
_ALLOWED = "the file of `pytest --convbench SUITE --benchmark-json=FILE`"


@dataclass(frozen=True)
class Row:
    """A cell as `extra_info` carries it: columns of docs/columns.md by their names; settings are an object, flags a list."""

    suite: str
    workload: str
    shape: str
    direction: Direction
    precision: Precision
    layout: str
    cache: Cache
    backend: str
    mode: Mode
    optimizer: Optimizer | None
    device: str
    threads: int
    count: int
    cell: str
    started_at: datetime
    status: Status = Status.OK
    reason: str = ""
    flags: tuple[Flag, ...] = ()
    op: str = ""
    op_reason: str = ""
    settings: dict[str, str] | None = None
    threads_used: int | None = None
    check_method: str = ""
    max_rel_err: float | None = None
    tolerance: float | None = None
    results_vary: float | None = None
    first_call_ns: int | None = None
    wall_ns: int | None = None
    cpu_ns: int | None = None
    environment_id: str = ""
    autotune: str = ""
    operands: str = ""
    switch: str = ""
    bias: str = ""
    epilogue: str = ""
    api: str = ""

    @classmethod
    def of(cls, cell: Cell, suite: str, started_at: datetime) -> Self:
        """The row of a cell of that suite, before anything came back."""
        options: dict[str, Any] = dict(cell.options)
        return cls(
            suite=suite, workload=cell.workload, shape=str(cell.spec), direction=cell.direction, precision=cell.precision,
            layout=cell.layout_text, cache=cell.cache, backend=cell.backend, mode=cell.mode, optimizer=cell.optimizer,
            device=str(cell.device), threads=cell.threads, count=cell.count, cell=str(cell), started_at=started_at,
            **options,
        )  # fmt: skip

    def typed(self) -> Cell:
        """The cell that the columns describe. Raises ValueError where they describe none, or contradict each other."""
        for name in ("suite", "workload"):
            if not _NAME.fullmatch(getattr(self, name)):
                raise ValueError(f"{name}: found {getattr(self, name)!r}; allowed: letters, digits and . _ -")
        for name, value in vars(self).items():
            if isinstance(value, int) and not 0 <= value < _LARGEST:
                raise ValueError(f"{name}: found {value}; allowed: 0 to 2^63 - 1")
        spec = parse_workload(self.shape)
        options: dict[str, Any] = {
            axis: type(option.default)(text) for axis, option in OPTIONS.items() if (text := getattr(self, axis))
        }  # fmt: skip
        layouts = {text: layout for layout in Layout if (text := spec.layout_text(layout))}
        if layouts and self.layout not in layouts:
            raise ValueError(f"layout: found {self.layout!r}; allowed: {', '.join(layouts)}")
        cell = Cell(
            workload=self.workload, spec=spec, direction=self.direction, backend=self.backend, mode=self.mode,
            device=Device.parse(self.device), precision=self.precision, layout=layouts.get(self.layout, Layout.CHANNELS_LAST),
            cache=self.cache, threads=self.threads, optimizer=self.optimizer, count=self.count, **options,
        )  # fmt: skip
        if str(cell) != self.cell:
            raise ValueError(f"cell: found {self.cell!r}; the other columns say {str(cell)!r}")
        if self.started_at.tzinfo is None:
            raise ValueError(f"started_at: found {self.started_at.isoformat()}; allowed: a time with its zone")
        return cell

    def record(self, run_id: str, order: int, samples: Samples | None) -> Record:
        """The record of a measured cell, or, without samples, of one that was not measured."""
        check = None
        if self.max_rel_err is not None and self.tolerance is not None:
            check = Check(
                self.status is not Status.INCORRECT, self.check_method, self.max_rel_err, self.tolerance, self.results_vary
            )  # fmt: skip
        return Record(
            run_id=run_id, trial=0, order=order, cell=self.typed(), status=self.status, started_at=self.started_at,
            reason=self.reason, flags=self.flags, op=self.op, op_reason=self.op_reason, settings=self.settings,
            threads_used=self.threads_used, check=check, samples=samples, environment_id=self.environment_id,
        )  # fmt: skip


@dataclass(frozen=True)
class Block:
    """What the file carries beside its benchmarks: `suites` by name with the hash of each, and the cells that have no time."""

    suites: dict[str, str]
    environments: tuple[Environment, ...]
    unmeasured: tuple[Row, ...]
    seed: int
    command: str
    harness_version: str


def bring_in(path: Path, root: Path) -> list[Run]:
    """The sealed runs, one per suite, that the cells of the file became in the store at `root`.

    A run has one trial, and its sample is a round of pytest-benchmark. Its id is made from the file, so the same file cannot
    come twice. Raises UserError, one line, for whatever is wrong with the file; nothing is written then.
    """
    data = _document(path)
    try:
        block: Block = codec.decode(Block, data[BLOCK])
        ended = _time(data.get("datetime"))
        measured = list(_measured(data["benchmarks"]))
        if not measured and not block.unmeasured:
            raise ValueError(f"no cell of convbench is in it; allowed: {_ALLOWED}")
        rows = [*measured, *((f"{BLOCK}: unmeasured: {index}", row, None) for index, row in enumerate(block.unmeasured))]
        _agree(rows, block)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:4]
        found = [_run(suite, rows, block, ended, digest, _commit(data.get("commit_info"))) for suite in block.suites]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {str(error)[:500]}") from None
    found = [(run, records) for run, records in found if records]
    for run, _ in found:
        if (root / "runs" / run.id).exists():
            raise UserError(f"{path}: is in {root} already, as run {run.id}")
    return [_keep(root, run, records) for run, records in found]


_Placed = tuple[str, Row, Samples | None]


def _document(path: Path) -> dict[str, Any]:
    """The file as JSON, if it is one of ours."""
    try:
        data = codec.parse(codec.read(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise UserError(f"{path}: is not of pytest-benchmark; allowed: {_ALLOWED}")
    if BLOCK not in data:
        raise UserError(f"{path}: holds no cells of convbench: there is no key {BLOCK!r} in it; allowed: {_ALLOWED}")
    return data


def _measured(benchmarks: list[Any]) -> Iterator[_Placed]:
    """Place, row and samples of each benchmark that is a cell; a project's other benchmarks are passed over."""
    known = {field.name for field in fields(Row)}
    for index, benchmark in enumerate(benchmarks):
        extra = benchmark.get("extra_info") if isinstance(benchmark, dict) else None
        if not isinstance(extra, dict) or "cell" not in extra:
            continue
        place = f"benchmarks: {index} {benchmark.get('name')!r}"
        try:
            row: Row = codec.decode(Row, {name: value for name, value in extra.items() if name in known})
            yield place, row, _samples(row, benchmark.get("stats"))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{place}: {error}") from None


def _samples(row: Row, stats: Any) -> Samples:
    """The rounds of one benchmark. pytest-benchmark stores seconds of one call, the mean over the iterations of a round."""
    if not isinstance(stats, dict) or not isinstance(stats.get("data"), list) or not stats["data"]:
        raise ValueError(
            "stats: no data, the time of each round; --benchmark-json writes it, --benchmark-save with --benchmark-save-data"
        )
    iterations = stats.get("iterations")
    if type(iterations) is not int or not 1 <= iterations < _LARGEST:
        raise ValueError(f"stats: iterations: found {iterations!r}; allowed: a number from 1")
    for seconds in stats["data"]:
        if type(seconds) not in (int, float) or not 0 <= seconds * iterations < _LARGEST / 1e9:
            raise ValueError(f"stats: data: found {seconds!r}; allowed: seconds from 0")
    if row.first_call_ns is None or row.wall_ns is None or row.cpu_ns is None or row.status is not Status.OK:
        raise ValueError(f"extra_info: status {row.status}, first_call_ns, wall_ns and cpu_ns do not go with a measured cell")
    block_ns = tuple(round(seconds * iterations * 1e9) for seconds in stats["data"])
    series = Series(SeriesKind.LATENCY, iterations, block_ns, (), (), TAG)
    return Samples((series,), row.first_call_ns, None, row.wall_ns, row.cpu_ns, None)


def _agree(rows: list[_Placed], block: Block) -> None:
    """Raise ValueError where a row names a suite or an environment that the file lacks, is no cell, or stands there twice."""
    known = {environment.id for environment in block.environments} | {""}
    seen: dict[tuple[str, str], str] = {}
    for place, row, _ in rows:
        for name, value, allowed in (("suite", row.suite, block.suites), ("environment_id", row.environment_id, known)):
            if value not in allowed:
                raise ValueError(f"{place}: {name}: found {value!r}, which {BLOCK!r} does not name")
        try:
            row.typed()
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if seen.setdefault((row.suite, row.cell), place) != place:
            raise ValueError(f"{place}: cell {row.cell} is there twice, first in {seen[row.suite, row.cell]}")


def _run(
    suite: str, rows: list[_Placed], block: Block, ended: datetime, digest: str, commit: str
) -> tuple[Run, list[Record | Environment]]:
    """The run of one suite and its records, with the environments that they name before them."""
    mine = sorted(((row, samples) for _, row, samples in rows if row.suite == suite), key=lambda each: each[0].started_at)
    began = mine[0][0].started_at.astimezone(UTC) if mine else ended
    named = {row.environment_id for row, _ in mine}
    environments = tuple(environment for environment in block.environments if environment.id in named)
    run = Run(
        id=f"{began:%Y%m%dT%H%M%S}-{suite}-{digest}", suite=suite, suite_sha256=block.suites[suite], description="",
        commit=commit, harness_version=block.harness_version, method_version=OTHERS_METHOD, seed=block.seed,
        command=block.command, started_at=began, finished_at=max(began, ended), tags=(TAG,), environments=environments,
    )  # fmt: skip
    records = [row.record(run.id, order, samples) for order, (row, samples) in enumerate(mine)]
    return run, [*environments, *records] if records else []


def _time(text: Any) -> datetime:
    """When pytest-benchmark wrote the file."""
    if not isinstance(text, str):
        raise ValueError(f"datetime: found {text!r}; allowed: a date and time")
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not codec.EARLIEST <= moment <= codec.LATEST:
        raise ValueError(f"datetime: found {text!r:.60}; allowed: {codec.EARLIEST:%Y} to {codec.LATEST:%Y}")
    return moment


def _commit(info: Any) -> str:
    """The commit of the checkout that pytest ran in, as our runs name it; empty outside of one."""
    commit = info.get("id") if isinstance(info, Mapping) else None
    if not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{12,64}", commit):
        return ""
    return commit[:12] + ("-dirty" if info.get("dirty") else "")


def _keep(root: Path, run: Run, events: list[Record | Environment]) -> Run:
    """The run, written and sealed."""
    from harness.store import table

    folder = journal.create(root, replace(run, finished_at=None))
    with journal.Journal(folder) as book:
        for event in events:
            book.append(event)
    journal.finish(folder, run)
    table.seal(folder)
    return run
