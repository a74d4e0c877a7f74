"""A call that spins for a known time, read by convbench and by hand."""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

CONTROL_NS, SPINS_NS = 2_000, (20_000, 50_000, 200_000, 1_000_000, 5_000_000, 20_000_000)
CONTROLLED_NS = SPINS_NS[:3]  # have a control after them too; for the longer ones it is far below the bound
# One cold difference scatters by 0.14 us, as much as the shortest row's whole bound; the median of 15 by a third of that.
CLOCK_ROUNDS = {"hot": 5, "cold": 15}


@contextlib.contextmanager
def busy_processes(count: int, cores: set[int]) -> Iterator[None]:
    """As many processes that do nothing but spin, on any of these cores."""
    spin = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {cores or {0}})\nwhile True: pass"]
    processes = [subprocess.Popen(spin) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Spin:
    """A backend whose call spins for a known time by the same clock, or does nothing, and whose results are right.

    `waited`: whether each call is waited for, as JAX's are, or done when it returns, as those of the others on a CPU.
    """

    name, distributions, modes = "spin", ("numpy",), frozenset()

    def __init__(self, waited: bool) -> None:
        from harness.axes import Device
        from harness.backends.numpy import NumpyBackend

        self.inner, self.ns, self.waited = NumpyBackend(Device("cpu"), 1), 0, waited
        clock = time.perf_counter_ns

        def spin() -> None:
            until = clock() + self.ns
            while clock() < until:
                pass

        self.spin = spin

    def ask(self, ns: int | None) -> None:
        """What the next calls do: spin for that many ns, or nothing for None."""
        self.ns, self.call = ns or 0, (lambda: None) if ns is None else self.spin

    def devices(self) -> tuple[Any, ...]:
        """The CPU."""
        return self.inner.devices()

    def threads_used(self) -> int:
        """One."""
        return 1

    def supports(self, cell: Any) -> None:
        """Everything."""

    def prepare(self, cell: Any, operands: Any) -> Any:
        """The reference's Prepared, its launch replaced by a spin and its results computed when they are fetched."""
        prepared = self.inner.prepare(cell, operands)
        compute = prepared.launch
        prepared.launch = self.call
        if self.waited:
            prepared.wait = lambda handle: None
        prepared.fetch = lambda handle: type(prepared).fetch(prepared, compute())
        return prepared


def by_hand(call: Callable[[], Any]) -> float:
    """What a loop of three lines reads of one call, in ns; the median of 500."""
    clock, times = time.perf_counter_ns, []
    for _ in range(500):
        begun = clock()
        call()
        times.append(clock() - begun)
    return float(sorted(times)[250])


class Read(NamedTuple):
    """What convbench and a loop by hand read of one call."""

    median_ns: float
    by_hand_ns: float
    calls: int  # in a block
    clock_ns: float  # what the engine found that reading the clock costs


def median_ns(record: Any) -> float:
    """The median time of a call of one record: that of its visits, of each of which the median counts."""
    from harness.analysis.visits import visits
    from harness.store.frames import samples_frame

    return float(visits(samples_frame([record]))["median_ns"].median())


def read_by_convbench(engine: Any, ns: int | None, cache: Any) -> Read:
    """A spin of that many ns, or an empty call for None, measured like any cell."""
    from harness.axes import Direction
    from harness.plan import Step
    from harness.spec import Cell, ConvSpec

    engine.backend.ask(ns)
    spec = ConvSpec(1, 1, 1, (4,), (3,), (1,), (1,), ((1, 1),))
    record = engine.measure(Step(0, 0, Cell("spin", spec, Direction.FPROP, "spin", cache=cache)))
    assert record.samples is not None
    return Read(median_ns(record), by_hand(engine.backend.call), record.samples.series[0].iterations, engine.clock_cost_ns)


def clock_round(cache: Any, waited: bool) -> list[tuple[int | None, Read, Read]]:
    """Each spin between two controls, by the same code at the same addresses: (asked ns, read, mean of its controls)."""
    from harness.measure.engine import Engine
    from harness.plan import Budget

    engine = Engine(Spin(waited), Budget(), 0, "fidelity", "")  # type: ignore[arg-type]
    empty, before = read_by_convbench(engine, None, cache), read_by_convbench(engine, CONTROL_NS, cache)
    found = [(None, empty, empty), (CONTROL_NS, before, before)]
    for ns in SPINS_NS:
        read = read_by_convbench(engine, ns, cache)
        after = read_by_convbench(engine, CONTROL_NS, cache) if ns in CONTROLLED_NS else before
        control = before._replace(
            median_ns=(before.median_ns + after.median_ns) / 2, by_hand_ns=(before.by_hand_ns + after.by_hand_ns) / 2
        )
        found.append((ns, read, control))
        before = after
    return found


def compare_clock(waited: bool, count: int = 0) -> list[str]:
    """Lines of Markdown: what convbench reads of a call that spins for a known time, by the loop that waits or the one without.

    A call of Python has a way in and out, far longer from cold caches, which have to fetch its code. The control for it is
    the same code asked for a spin of a few turns; what is read more than that is held against what was spun more. What was
    spun is read by hand, from hot caches, less the control too: the spin asks the clock until it is late. `count`: the rounds
    of each kind; 0: CLOCK_ROUNDS.
    """
    from harness import units
    from harness.axes import Cache

    lines = [
        "| spun | caches | calls a block | read | more than the control | over spun | bound: 0.5 % and the clock's cost | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    worst = 0.0
    for cache in Cache:
        rounds = [clock_round(cache, waited) for _ in range(count or CLOCK_ROUNDS[cache])]
        cost = statistics.median(read.clock_ns for found in rounds for _, read, _ in found)
        for turns in zip(*rounds, strict=True):
            ns, reads = turns[0][0], [read for _, read, _ in turns]
            calls = "/".join(map(str, sorted({read.calls for read in reads})))
            read_ns = statistics.median(read.median_ns for read in reads)
            if ns in (None, CONTROL_NS):
                name = "an empty call" if ns is None else f"{units.duration(CONTROL_NS)}, the control"
                lines.append(
                    f"| {name} | {cache} | {calls} | {units.duration(read_ns)} | | | the clock: {units.duration(cost)} | |"
                )
                continue
            true = statistics.median(read.by_hand_ns - control.by_hand_ns for _, read, control in turns)
            net = statistics.median(read.median_ns - control.median_ns for _, read, control in turns)
            bound = 0.005 * true + cost
            worst = max(worst, abs(net - true) / bound)
            held = "held" if abs(net - true) <= bound else "NOT HELD"
            told = f"{units.duration(net)} | {net / true:.5f} | ± {units.duration(bound)} | {held}"
            lines.append(f"| {units.duration(true)} | {cache} | {calls} | {units.duration(read_ns)} | {told} |")
    rounds_told = ", ".join(f"{count or own} from {cache} caches" for cache, own in CLOCK_ROUNDS.items())
    return [
        *lines,
        "",
        f"Largest deviation: {100 * worst:.0f} % of its bound. Each figure: the median of rounds, {rounds_told}. "
        + ("Each call is waited for." if waited else "No call is waited for: it is done when it returns."),
    ]
