"""Who visited before, who sleeps, and what is held: one experiment with the workers of all frameworks, driven one by one."""

import itertools
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REST = "rest"
REST_S, SLEEP_S = 0.3, 5.0
FRAMEWORKS = ("torch", "tensorflow", "jax")
# By the bytes of x, w and y together: so that what one leaves in the caches is of one kind.
SIZES = {"0.1 MB": (1, 16, 16, 28, 3), "1 MB": (1, 32, 32, 60, 3), "10 MB": (1, 64, 64, 140, 3), "50 MB": (4, 64, 64, 156, 3)}


def measured(logs: Path, rounds: int, sizes: int = len(SIZES)) -> dict[str, Any]:
    """Each framework's visit after a rest and after each other framework's, by size; then who used a core while all slept.

    `visits`: (framework, size, before, round, ns). By framework: `asleep`, seconds of CPU per second; `forecast` and `held`,
    bytes of what is prepared and of what the process grew by; `left`, what it still holds of that once all is finished.
    """
    chosen = dict(itertools.islice(SIZES.items(), sizes))
    with _workers(logs, chosen) as (workers, steps, forecast, empty):
        rng, found = random.Random(0), []
        for number in range(rounds):
            for framework, size, before in rng.sample(list(_visits(chosen)), len(chosen) * len(FRAMEWORKS) ** 2):
                found.append((framework, size, before, number, _visit(workers, steps, framework, size, before)))
        asleep = _asleep(workers)
        held = {name: _resident(worker.process.pid) - empty[name] for name, worker in workers.items()}
        for (framework, _), step in steps.items():
            workers[framework].finish(step, 180.0)
        left = {name: _resident(worker.process.pid) - empty[name] for name, worker in workers.items()}
    return {"visits": found, "asleep": asleep, "forecast": forecast, "held": held, "left": left}


def _visits(sizes: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for framework, size in itertools.product(FRAMEWORKS, sizes):
        yield framework, size, REST
        yield from ((framework, size, other) for other in FRAMEWORKS if other != framework)


def _visit(workers: Any, steps: Any, framework: str, size: str, before: str) -> float:
    """The time of a call in a visit right after that of another framework, or after a rest."""
    from scripts.fidelity.frameworks import visit_ns

    if before == REST:
        time.sleep(REST_S)
    else:
        workers[before].visit(steps[before, size], 180.0)
    return visit_ns(workers[framework].visit(steps[framework, size], 180.0))


@contextmanager
def _workers(logs: Path, sizes: dict[str, Any]) -> Iterator[Any]:
    """A worker of each framework with all sizes prepared: (by framework; steps; bytes forecast; bytes before)."""
    from harness.axes import Device
    from harness.isolate import offspring
    from harness.isolate.launcher import Launcher, physical_cores_first
    from harness.isolate.process import Worker
    from harness.measure import footprint
    from harness.plan import Budget, Plan

    cores = physical_cores_first()
    steps = {(name, size): _step(order, name, size) for order, (name, size) in enumerate(itertools.product(FRAMEWORKS, sizes))}
    plan = Plan("neighbours", tuple(steps.values()), 0, Budget())
    session = Launcher("neighbours", logs)
    logs.mkdir(parents=True, exist_ok=True)
    with offspring.guarded():
        workers = {}
        try:
            for name in FRAMEWORKS:
                worker = session.worker(plan, name, Device("cpu"), tuple(cores), first=True)
                if not isinstance(worker, Worker):
                    raise SystemExit(f"{name}: {worker.reason}")
                workers[name] = worker
            for worker in workers.values():
                worker.hello()
            for number, (name, worker) in enumerate(workers.items()):  # what a framework takes once is no part of a window
                first = _step(len(steps) + number, name, next(iter(sizes)))
                worker.prepare(first, 180.0)
                worker.visit(first, 180.0)
                worker.finish(first, 180.0)
            empty = {name: _resident(worker.process.pid) for name, worker in workers.items()}
            for (name, _), step in steps.items():
                workers[name].prepare(step, 180.0)
                workers[name].visit(step, 180.0)
            needs = {name: [footprint.need(steps[name, size].cell, len(cores)) for size in sizes] for name in FRAMEWORKS}
            yield workers, steps, {name: sum(each.prepared_host_bytes for each in of) for name, of in needs.items()}, empty
        finally:
            for worker in workers.values():
                worker.stop()


def _step(order: int, framework: str, size: str) -> Any:
    from harness.axes import Direction, Mode
    from harness.plan import Step
    from harness.spec import Cell, ConvSpec
    from scripts.fidelity.frameworks import MODES

    n, c, k, side, kernel = SIZES[size]
    pad = kernel // 2
    spec = ConvSpec(n, c, k, (side, side), (kernel, kernel), (1, 1), (1, 1), ((pad, pad), (pad, pad)), 1)
    return Step(1, order, Cell(size, spec, Direction.FPROP, framework, Mode(MODES[framework])))


def _asleep(workers: Any) -> dict[str, float]:
    """CPU seconds per second of each worker while nobody is asked, right after each was visited."""
    time.sleep(0.1)
    before = {name: _cpu_s(worker.process.pid) for name, worker in workers.items()}
    begun = time.monotonic()
    time.sleep(SLEEP_S)
    took = time.monotonic() - begun
    return {name: (_cpu_s(worker.process.pid) - before[name]) / took for name, worker in workers.items()}


def _cpu_s(pid: int) -> float:
    import psutil

    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


def _resident(pid: int) -> int:
    import psutil

    return int(psutil.Process(pid).memory_info().rss)
