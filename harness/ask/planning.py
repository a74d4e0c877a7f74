"""From a suite to a plan: which cells there are on this machine, in what order they are measured, and for how long.

Nothing here looks at the machine: what was found, the seed and the number of cores come in as arguments.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import MappingProxyType

from harness import flops
from harness.ask import expression
from harness.ask.axes import REFERENCE
from harness.ask.suite import Suite, Workload
from harness.ask.wording import listed, quote, show
from harness.axes import LABEL, OPTIONS, Device, Direction, Mode, Precision
from harness.errors import SelectionError
from harness.plan import FIRST_VISITS, Budget, Plan, Step
from harness.spec import Cell

Found = Mapping[str, tuple[Device, ...]]  # the devices that each working backend sees
Absent = Mapping[str, str]  # the command that installs it, of each backend that is not installed

NOTHING: Absent = MappingProxyType({})
MOST_STEPS = 100_000  # cells times trials of one run: at a second each more than a day


def cells(suite: Suite, found: Found, absent: Absent = NOTHING) -> tuple[Cell, ...]:
    """The cells of a suite on this machine, in the order in which the suite states them. Raises SelectionError for none.

    A backend or device that is named is asked for even where it was not found: the launcher makes that a row which says why.
    `absent` says what to do where no backend is left.
    """
    refuse_too_many(suite, found)
    pairs = [(backend, device) for backend in _backends(suite, found) for device in _devices(suite, found, backend)]
    if not pairs:
        told = f": {remedy(absent)}" if absent else ""
        raise SelectionError(f"suite {show(suite.name)}: no cell is left: no backend is installed that could be measured{told}")
    every = [cell for cell in _combinations(suite, pairs) if not any(exclude.covers(cell) for exclude in suite.excludes)]
    if not every:
        raise SelectionError(f"suite {show(suite.name)}: no cell is left: what was chosen is all excluded by the suite")
    if suite.keyword is None:
        return tuple(every)
    try:
        fits = expression.keyword(suite.keyword)
    except ValueError as error:
        raise SelectionError(f"-k: {error}") from None
    chosen = tuple(cell for cell in every if fits(str(cell)))
    if not chosen:
        raise SelectionError(f"-k: {quote(suite.keyword)} fits none of {len(every)} cells, the first of which is {every[0]}")
    return chosen


def remedy(absent: Absent) -> str:
    """What installs one of these backends or another: `pip install 'convbench[jax]' or 'convbench[torch]'`."""
    first, *others = dict.fromkeys(absent.values())
    return listed([first, *(command.removeprefix("pip install ") for command in others)], "or")


def named(absent: Absent) -> list[str]:
    """The backends to name: one with a label is not, beside the one that it is another version of."""
    return [name for name in absent if name.rpartition(LABEL)[0] not in absent]


def not_installed(absent: Absent) -> str:
    """`jax and torch are not installed`."""
    names = named(absent)
    return f"{listed(names)} {'is' if len(names) == 1 else 'are'} not installed"


def refuse_unmeasurable(plan: Plan) -> None:
    """Raises SelectionError where no backend of a plan is installed."""
    if not plan.measurable:
        told = f"{not_installed(plan.absent)}: {remedy(plan.absent)}"
        raise SelectionError(f"suite {show(plan.suite)}: no cell can be measured: {told}")


def refuse_too_many(suite: Suite, found: Found) -> None:
    """Raises SelectionError where a suite asks for more than MOST_STEPS, counted before any of them is made.

    Excludes and `-k` are not looked at: they are held against every one. What is found counts too, so that this may be asked
    before anything is (with nothing found) and again.
    """
    axes = suite.axes
    pairs = sum(len(_devices(suite, found, backend)) for backend in _backends(suite, found)) or 1
    each = len(axes.mode) * len(axes.threads) * pairs
    directions = sum(len(axes.optimizer) if direction is Direction.TRAIN else 1 for direction in axes.direction)
    options = math.prod(len(getattr(axes, name)) for name in OPTIONS)
    of_a_convolution = each * directions * len(axes.precision) * len(axes.layout) * len(axes.cache) * options
    many = sum(
        of_a_convolution if workload.spec.is_convolution else each * len(_precisions(workload, axes.precision))
        for workload in suite.workloads
    )
    if many * suite.budget.trials > MOST_STEPS:
        raise SelectionError(
            f"suite {show(suite.name)}: asks for {many} cells x {suite.budget.trials} trials; allowed: {MOST_STEPS} in all"
        )


def _backends(suite: Suite, found: Found) -> Sequence[str]:
    open_to = sorted(name for name in found if name.partition("@")[0] != REFERENCE)
    named = open_to if suite.axes.backend is None else suite.axes.backend
    return tuple(dict.fromkeys([*named, *suite.also]))


def _devices(suite: Suite, found: Found, backend: str) -> tuple[Device, ...]:
    return suite.axes.device if suite.axes.device is not None else found.get(backend) or (Device("cpu"),)


def _combinations(suite: Suite, pairs: Sequence[tuple[str, Device]]) -> Iterator[Cell]:
    for workload in suite.workloads:
        yield from (_convolutions if workload.spec.is_convolution else _others)(suite, workload, pairs)


def _convolutions(suite: Suite, workload: Workload, pairs: Sequence[tuple[str, Device]]) -> Iterator[Cell]:
    axes = suite.axes
    rest = list(product(axes.precision, axes.layout, axes.mode, axes.threads, axes.cache))
    options = [dict(zip(OPTIONS, values, strict=True)) for values in product(*(getattr(axes, name) for name in OPTIONS))]
    directions = [direction for direction in axes.direction if workload.layers(direction)]
    for direction, (backend, device) in product(directions, pairs):
        optimizers = axes.optimizer if direction is Direction.TRAIN else (None,)
        for (precision, layout, mode, threads, cache), optimizer, more in product(rest, optimizers, options):
            yield Cell(
                workload=workload.name,
                spec=workload.spec,
                direction=direction,
                backend=backend,
                mode=mode,
                device=device,
                precision=precision,
                layout=layout,
                cache=cache,
                threads=threads,
                optimizer=optimizer,
                count=workload.layers(direction),
                network=workload.network,
                scaled=workload.scaled,
                **more,
            )


def _others(suite: Suite, workload: Workload, pairs: Sequence[tuple[str, Device]]) -> Iterator[Cell]:
    """Matrix products and copies: of the axes they have backend, device, mode and threads, and matrix products precision."""
    axes = suite.axes
    rest = list(product(_precisions(workload, axes.precision), axes.mode, axes.threads))
    for (backend, device), (precision, mode, threads) in product(pairs, rest):
        yield Cell(
            workload=workload.name,
            spec=workload.spec,
            direction=Direction.NONE,
            backend=backend,
            mode=mode,
            device=device,
            precision=precision,
            threads=threads,
        )


def _precisions(workload: Workload, precisions: Sequence[Precision]) -> Sequence[Precision]:
    """A copy moves bytes, whatever they stand for: it is made once, in the precision that everything has."""
    return precisions if workload.spec.computes else (Precision.FP32,)


def ceilings(asked: Sequence[Cell], suite: Suite, found: Found) -> tuple[Cell, ...]:
    """The cells of a suite of ceilings that belong to the cells of another: what those can be held against.

    For each backend, device, precision and number of threads that `asked` has convolutions in, where that backend and
    device were found and the ceilings state no other; modes and excludes are the ceilings' own. A workload whose name is
    taken is left to the one that has it.
    """
    names = {cell.workload for cell in asked}
    joining: dict[Cell, None] = {}
    settings: dict[tuple[object, ...], Cell] = {}
    for cell in asked:
        settings.setdefault((cell.is_convolution, cell.backend, cell.device, cell.precision, cell.threads), cell)
    for cell in settings.values():
        if not cell.is_convolution or cell.device not in found.get(cell.backend, ()) or not _open_to(suite, cell):
            continue
        axes = replace(suite.axes, precision=(cell.precision,), threads=(cell.threads,))
        cells = _combinations(replace(suite, axes=axes), [(cell.backend, cell.device)])
        joining |= dict.fromkeys(each for each in cells if each.workload not in names)
        if len(joining) > MOST_STEPS:
            raise SelectionError(f"suite {show(suite.name)}: more than {MOST_STEPS} ceilings; allowed: {MOST_STEPS}")
    return tuple(cell for cell in joining if not any(exclude.covers(cell) for exclude in suite.excludes))


def _open_to(suite: Suite, cell: Cell) -> bool:
    """Whether a suite of ceilings leaves the axes open in which it follows a cell, or states the cell's own values."""
    follows = suite.stated & {"backend", "device", "precision", "threads"}
    return all(getattr(cell, axis) in getattr(suite.axes, axis) for axis in follows)


def plan(
    suite: Suite, found: Found, seed: int, beside: Suite | None = None, twin: str = "", absent: Absent = NOTHING
) -> Plan:  # fmt: skip
    """The plan of a run. The same suite, machine and seed give the same plan; SelectionError as of `cells`.

    `beside` is a suite of ceilings that joins the first trial, as far as the cells call for it and under their budget.
    With a `twin`, every cell comes twice: once more by `<backend>@<twin>`, the same adapter in a process of its own. Without
    one, so does each cell of a suite with a standard, by that label, but for those that have a label of their own. Cells of
    backends that are `absent` join the first trial alone, to become rows that say so.

    Shuffled on every level, so that no cell is always prepared before another: per trial the rounds, in a round the workloads,
    in a workload what is compared, and then the cells.
    """
    rng = random.Random(seed)
    every = cells(suite, found, absent)
    more = ceilings(every, beside, found) if beside else ()
    label = twin or suite.standard
    second = every if twin else [cell for cell in every if label and LABEL not in cell.backend]
    every = tuple(dict.fromkeys([*every, *(replace(cell, backend=f"{cell.backend}{LABEL}{label}") for cell in second)]))
    twins = {f"{name}{LABEL}{label}": command for name, command in absent.items()}
    lacking = {**absent, **{name: command for name, command in twins.items() if name not in suite.interpreters}}
    here = tuple(cell for cell in every if cell.backend not in lacking)
    # Once is enough for a ceiling, and a large product takes as long as a dozen convolutions.
    trials = [every + more if trial == 0 else here for trial in range(suite.budget.planned_trials)]
    lacking = {name: lacking[name] for name in dict.fromkeys(cell.backend for cell in every) if name in lacking}
    plan = Plan(suite.name, (), seed, suite.budget, suite.compare, dict(suite.tuned), absent=lacking)
    for asked in trials:
        plan = extended(plan, asked, rng)
    return plan


def extended(plan: Plan, asked: Sequence[Cell], rng: random.Random) -> Plan:
    """The plan with one more trial of these cells."""
    trial = 1 + max((step.trial for step in plan.steps), default=-1)
    ordered = enumerate(_shuffled(asked, (plan.round, lambda cell: cell.workload, plan.group), rng), start=len(plan.steps))
    return replace(plan, steps=(*plan.steps, *(Step(trial, order, cell) for order, cell in ordered)))


def _shuffled(items: Sequence[Cell], nesting: Sequence[Callable[[Cell], object]], rng: random.Random) -> list[Cell]:
    if not nesting:
        return rng.sample(items, len(items))
    groups: dict[object, list[Cell]] = {}
    for cell in items:
        groups.setdefault(nesting[0](cell), []).append(cell)
    return [cell for key in rng.sample(list(groups), len(groups)) for cell in _shuffled(groups[key], nesting[1:], rng)]


# Guesses for the estimate alone, which says "about 5 min" before a run; no figure of any cell depends on them. Those of the CPU
# are the means of a run of `first` on two cores (417 steps, 2,502 visits), as its records say where the time went.
WORKERS_START_S = 5.0  # the workers of a round start side by side, and end; importing the frameworks is most of it
STEP_OVERHEAD_S = 0.06  # operands, what a check takes of the smallest call, memory pass
CHECK_CALLS = 6  # calls beside those that are timed and those that warm up
VISIT_OVERHEAD_S = 0.025  # what does not count of a visit, and what is read beside it
COMPILE_S = 0.4  # for a step that is not eager, in the mean of the three frameworks; PyTorch takes over twice as long
COMPILED_BEFORE_S = 0.15  # the same where programs of the trials before are found: on a CPU
PROFILE_S = 0.8  # for a convolution that is profiled after the last trial
CPU_FLOP_PER_S = 20e9  # of one core
GPU_FLOP_PER_S = 5e12
CPU_BYTES_PER_S = 10e9
GPU_BYTES_PER_S = 1e12


def estimate(plan: Plan, cores: int) -> float:
    """Seconds that the plan will take, roughly, on `cores` CPU cores: a start per trial and round, then every step.

    What is not installed takes no time that is worth counting.
    """
    steps = plan.measurable
    rounds = {(step.trial, *plan.round(step.cell)) for step in steps}
    steps_s = sum(_step_s(step.cell, plan.budget, cores, step.trial == 0) for step in steps)
    return WORKERS_START_S * len(rounds) + steps_s + PROFILE_S * len(to_profile(plan))


def to_profile(plan: Plan) -> list[Cell]:
    """The convolutions that a plan wants profiled. Raises ValueError where its expression is none."""
    if plan.profile is None:
        return []
    fits = expression.keyword(plan.profile) if plan.profile else lambda cell: True
    return [cell for cell in plan.profilable if fits(str(cell))]


def _step_s(cell: Cell, budget: Budget, cores: int, first: bool) -> float:
    """Seconds of one step: preparing it, twice in the first trial, compiling and warming it up, its long stay, its visits."""
    on_cpu = cell.device.kind == "cpu"
    rate = CPU_FLOP_PER_S * min(cell.threads or cores, cores) if on_cpu else GPU_FLOP_PER_S
    moving_s = flops.least_bytes(cell) / (CPU_BYTES_PER_S if on_cpu else GPU_BYTES_PER_S)
    call_s = max(flops.nominal(cell.spec) * cell.direction.passes / rate, moving_s)
    warmup_s = max(budget.warmup_cpu_s if on_cpu else budget.warmup_gpu_s, budget.warmup_calls * call_s)
    prepare_s = STEP_OVERHEAD_S + CHECK_CALLS * call_s
    compile_s = 0.0 if cell.mode is Mode.EAGER else COMPILE_S if first or not on_cpu else COMPILED_BEFORE_S
    visit_s = VISIT_OVERHEAD_S + max(budget.visit_s, call_s) + (0.0 if on_cpu else 2 * budget.throughput_block_s)
    alone_s = budget.stay_s + (prepare_s if first else 0.0)
    visits = budget.visits or FIRST_VISITS
    return alone_s + prepare_s + compile_s + min(warmup_s, budget.warmup_max_s) + visits * visit_s
