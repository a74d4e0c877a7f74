"""The ten checks, in the order in which they are made: each a function of the place and of what it tells, with its limits.

A check holds where everything that it must find is so. What it finds beside that it says.
"""

import contextlib
import itertools
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness import flops, units
from harness.axes import Direction, Layout, Mode, Precision
from harness.isolate.launcher import Launcher
from harness.measure.cuda_errors import fatal, starved
from harness.measure.gpu import Gpu, State, another
from harness.measure.throttling import Throttling
from harness.plan import Budget, Plan, Step
from harness.record import Record, Status
from harness.spec import Cell, ConvSpec, CopySpec, GemmSpec, WorkloadSpec
from scripts.gpu_acceptance.place import LOOK_S, LostError, Place, Told, one_line

LIMIT_S = 480.0  # all checks together

# What is called.
CONV, ONE_BY_ONE = ConvSpec.parse("n4 c64 k64 28x28 f3x3 p1x1"), ConvSpec.parse("n4 c256 k64 28x28 f1x1")
LONG, SHORT = ConvSpec.parse("n32 c256 k256 56x56 f3x3 p1x1"), ConvSpec.parse("n1 c16 k16 14x14 f1x1")
GEMM, COPY = GemmSpec(8192, 8192, 8192), CopySpec(2**30)
LONG_CALLS, SHORT_CALLS, READINGS = 20, 1000, 5
STRETCH_S, LOAD_S, REPEAT_S = 1.0, 20.0, 150.0
# Those of suites/smoke.toml, for their results and not for their times.
TINY = tuple(map(ConvSpec.parse, ("n2 c3 k8 12x12 f3x3 p1x1", "n1 c4 k8 13x11 f3x3 s2x2", "n1 c16 k8 7x7 f1x1")))
PASSES = tuple(direction for direction in Direction if direction.single)
TINY_BUDGET = Budget(
    trials=1, visits=1, visit_s=1e-3, warmup_cpu_s=0.0, warmup_gpu_s=0.0, warmup_max_s=0.05, throughput_block_s=1e-3,
    energy_window_s=0.0, timeout_s=30.0, preparing_gpu_s=30.0,
)  # fmt: skip
REPEATED = ("first", "--direction", "fprop,wgrad", "-a", "mode=eager", "-k", "rn50")

# Limits, by the number of the check.
ONE_CUDNN = 1  # 1: files of cuDNN that a process may have loaded
BANDS = {  # 3: the least and the largest error, as a norm; see `Precision.unit_roundoff`
    Precision.FP32: (0.0, 2e-5), Precision.TF32: (5e-5, 3e-3), Precision.BF16: (2e-4, 1e-2), Precision.FP16: (2e-5, 2e-3),
}  # fmt: skip
APART = 0.05  # 4: between convbench and a plain loop
CLOCKS_APART = 0.05  # 5: between two clocks of the device, and between device and throughput where calls are long
SLACK = 0.02  # 4, 5: by which what cannot be longer may read longer
MARGIN = 0.5  # 6: errors over this share of the tolerance are named
TRACE_COST = 0.02  # 7: by which a call may differ after a trace
TAKEN, ALONE = 0.6, 0.9  # 8: shares of the GPU's memory, taken beside others' processes and alone
BACK_BYTES = 512 * 2**20  # 8: that may be missing when all processes have ended
READ_NS = 100_000  # 9: of a look at the GPU
STEADY, WARM_S = 0.02, Budget().warmup_gpu_s  # 9: the clock after a warm-up, from where it stays
POWER = 1.05  # 9: the mean power over the limit of the board
MOST_NOISE = 0.05  # 10: between equals in one trial

# FLOP/s of dense fp16 with tensor cores, and bytes/s of the memory, by the beginning of the name: the vendor's data sheets.
BOARDS = {
    "NVIDIA H200": (989.5e12, 4.8e12), "NVIDIA H100 80GB HBM3": (989.5e12, 3.35e12), "NVIDIA H100 PCIe": (756e12, 2.0e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 2.039e12), "NVIDIA A100": (312e12, 1.935e12), "NVIDIA L40S": (362e12, 0.864e12),
    "NVIDIA L4": (121e12, 0.3e12), "Tesla T4": (65e12, 0.32e12), "Tesla V100": (125e12, 0.9e12),
}  # fmt: skip


def _cell(place: Place, name: str, spec: WorkloadSpec, **more: Any) -> Cell:
    """A cell of a framework on the GPU; a convolution is a forward one."""
    direction = Direction.FPROP if spec.is_convolution else Direction.NONE
    return Cell(str(spec).replace(" ", "_"), spec, direction, name, device=place.device, **more)


def _off(one: float, other: float) -> float:
    """The share by which one figure differs from another."""
    return abs(one / other - 1)


def sees_the_gpu(place: Place, told: Told) -> None:
    """Each framework starts, sees the GPU, and computes with one cuDNN, of the CUDA that it was built for."""
    for name in place.frameworks:
        place.start(name)  # side by side
    for name in place.frameworks:
        with told.of(name):
            hello = place.hello(name)
            told.must(str(place.device) in hello["devices"], f"{name} sees {', '.join(hello['devices'])}")
            loaded = place.ask(name, "libraries", cell=_cell(place, name, CONV))
            cudnn = [path.rpartition("site-packages/")[2] for path in loaded["cudnn"]]
            told.must(len(cudnn) == ONE_CUDNN, f"{name} has loaded {', '.join(cudnn) or 'no cuDNN'}")
            built = hello["cuda"].partition(".")[0]
            told.must(
                not built.isdecimal() or set(loaded["cuda"]) <= {built},
                f"{name} is built for CUDA {hello['cuda'] or 'of no version that it tells'} and has loaded libraries of CUDA "
                f"{', '.join(loaded['cuda']) or 'that name no version'}",
            )
            told.note(name, devices=hello["devices"], cudnn=cudnn, cuda=loaded["cuda"], packages=hello["packages"])


def is_the_board(place: Place, told: Told) -> None:
    """Name and UUID by each framework are those that NVML tells, also where CUDA_VISIBLE_DEVICES names the GPU by its UUID."""
    mine = place.gpu.facts()
    told.say(f"NVML: {', '.join(f'{name} {value}' for name, value in mine.items())}")
    told.note("NVML", **mine)
    by_uuid = Gpu(0, {"CUDA_VISIBLE_DEVICES": mine["uuid"]})
    told.must(by_uuid.uuid == mine["uuid"], f"NVML finds {mine['uuid']} by its UUID: {by_uuid.uuid or by_uuid.reason}")
    by_uuid.close()
    for name in place.frameworks:
        place.start(name, "uuid", CUDA_VISIBLE_DEVICES=mine["uuid"])
    for name in place.frameworks:
        with told.of(name):
            for how, its in (("", place.hello(name)["board"]), (" by its UUID", place.hello(name, "uuid")["board"])):
                same = not another(mine["name"], mine["uuid"], its, mig=place.gpu.mig)
                told.must(same, f"{name}{how}: {its.get('name', 'no name')}, {its.get('uuid', 'which tells no UUID')}")
            told.note(name, **its)
        place.end(name, "uuid")


def has_the_precision(place: Place, told: Told) -> None:
    """Errors against float64 are those of the precision: of a 1x1 and a 3x3, in both layouts, eager and compiled."""
    for name in place.frameworks:
        with told.of(name):
            for precision, (least, most) in BANDS.items():
                errors, why = _errors(place, name, precision)
                if not errors:
                    told.say(f"{name} {precision}: unsupported: {why}")
                    continue
                text = f"{name} {precision}: {min(errors):.1e} to {max(errors):.1e} in {len(errors)} calls"
                told.must(least <= min(errors) and max(errors) <= most, f"{text}; allowed {least:.0e} to {most:.0e}")
                told.note(name, **{precision: errors})
            mixed = [
                place.ask(name, "error", key, cell=_cell(place, name, CONV, precision=precision)).get("error", math.nan)
                for key, precision in (("tf32", Precision.FP32), ("main", Precision.TF32))
            ]
            told.say(
                f"{name}, both in one process, which convbench never has: fp32 after tf32 {mixed[0]:.1e}, tf32 after fp32 "
                f"{mixed[1]:.1e}"
            )
        place.end(name, "tf32")


def _errors(place: Place, name: str, precision: Precision) -> tuple[list[float], str]:
    """The errors of a precision, and why it is unsupported. TF32 has a process of its own, as in a run."""
    key, found, why = "tf32" if precision is Precision.TF32 else "main", [], ""
    for spec, layout, mode in itertools.product((CONV, ONE_BY_ONE), Layout, (Mode.EAGER, Mode.COMPILED)):
        if mode is Mode.COMPILED and (spec is not CONV or precision not in (Precision.FP32, Precision.TF32)):
            continue  # compiling takes seconds
        cell = _cell(place, name, spec, precision=precision, layout=layout, mode=mode)
        answer = place.ask(name, "error", key, cell=cell)
        why = answer.get("unsupported", why)
        found += [answer["error"]] if "error" in answer else []
    return found, why


def times_as_a_plain_loop(place: Place, told: Told) -> None:
    """A matrix product and a copy take as long as in a plain loop, no less than the board can, and no longer queued."""
    board = place.gpu.facts().get("name", "")
    peaks = next((peaks for name, peaks in BOARDS.items() if board == name or board.startswith((f"{name} ", f"{name}-"))), None)
    if peaks is None:
        told.say(f"no data sheet of {board} is known here: rates are not held against it")
    for name, framework in place.frameworks.items():
        for kind, spec, precision, arguments in (
            ("gemm", GEMM, Precision.FP16, [GEMM.m, "float16"]), ("copy", COPY, Precision.FP32, [COPY.nbytes]),
        ):  # fmt: skip
            with told.of(f"{name} {kind}"):
                cell = _cell(place, name, spec, precision=precision, mode=framework.mode)
                found = place.ask(name, "beside", cell=cell, kind=kind, arguments=arguments)
                if found["status"] != Status.OK:
                    told.must(found["status"] == Status.UNSUPPORTED, f"{name} {kind}: {found['status']}: {found['reason']}")
                    continue
                _hold_times(told, f"{name} {kind}", found, _rate_and_peak(cell, peaks))
                told.note(name, **{kind: found})


def _rate_and_peak(cell: Cell, peaks: tuple[float, float] | None) -> tuple[float, float | None]:
    """How much of what limits a cell it does in a call, FLOP or bytes, and how much the board can in a second."""
    if cell.spec.computes:
        return flops.nominal(cell.spec), peaks and peaks[0]
    return flops.least_bytes(cell), peaks and peaks[1]


def _hold_times(told: Told, what: str, found: dict[str, list[float]], work: tuple[float, float | None]) -> None:
    latency, loop = statistics.median(found["latency"]), statistics.median(found["loop"])
    told.must(_off(latency, loop) <= APART, f"{what}: {units.duration(latency, 4)}, plain loop {units.duration(loop, 4)}")
    amount, peak = work
    if peak:
        told.must(amount / latency * 1e9 <= peak, f"{what}: {amount / latency * 1e9:.3g} a second of {peak:.3g} at the most")
    longer = latency
    for kind in ("throughput", "device"):
        if not found[kind]:
            told.must(False, f"{what}: no {kind} was read")
            continue
        took = statistics.median(found[kind])
        told.must(took <= longer * (1 + SLACK), f"{what}: {kind} {units.duration(took, 4)}, no more than what is above")
        longer = took


def reads_the_device_clock(place: Place, told: Told) -> None:
    """The device's clock agrees with another one, and with throughput where calls are long; no trace loses events."""
    for name in place.frameworks:
        for what, spec, calls in (("long", LONG, LONG_CALLS), ("short", SHORT, SHORT_CALLS)):
            with told.of(f"{name}, {what} calls"):
                found = place.ask(name, "clocks", cell=_cell(place, name, spec), calls=calls, times=READINGS)
                read = [each for each in found["device"] if each is not None]
                told.must(
                    len(read) == READINGS, f"{name}, {what} calls: read {len(read)} of {READINGS} times; {found['method']}"
                )
                told.note(name, **{what: found})
                if read:
                    _hold_clocks(told, f"{name}, {what} calls", statistics.median(read), found, long=what == "long")


def _hold_clocks(told: Told, what: str, device: float, found: dict[str, Any], *, long: bool) -> None:
    queued, kernels = found["throughput"], found["kernels"]
    text = f"{what}: {units.duration(device, 4)} by the device, {units.duration(queued, 4)} queued"
    told.must(device <= queued * (1 + SLACK) and not (long and device < queued * (1 - CLOCKS_APART)), text)
    if kernels is not None:
        text = f"{what}: kernels alone {units.duration(kernels, 4)}"
        told.must(kernels <= device * (1 + SLACK) and not (long and _off(device, kernels) > CLOCKS_APART), text)


def is_right(place: Place, told: Told) -> None:
    """No result is incorrect, in any precision and layout; errors near their tolerance are named."""
    cells = _tiny_cells(place)
    plan = Plan(
        "tiny", tuple(Step(1, order, cell) for order, cell in enumerate(cells)), 0, TINY_BUDGET,
        interpreters={each.name: each.python for each in place.frameworks.values() if each.python},
    )  # fmt: skip
    targets = {name: each.target for name, each in place.frameworks.items()}
    records = []
    with contextlib.closing(Launcher("acceptance", place.out / "logs", targets=targets).execute(plan)) as answers:
        for answer in answers:
            records += [answer] if isinstance(answer, Record) else []
            if place.left_s <= 0:
                break
    counts = Counter(str(record.status) for record in records)
    failed = [record for record in records if record.status.failed]
    told.must(
        bool(records) and not failed,
        f"{len(records)} of {len(cells)} cells: {', '.join(f'{count} {status}' for status, count in counts.items())}",
    )
    for record in failed[:10]:
        told.say(f"{record.cell}: {record.status}: {one_line(record.reason)}")
    checked = [record for record in records if record.check and record.check.tolerance]
    margins = sorted(
        ((record.check.max_rel_err / record.check.tolerance, str(record.cell)) for record in checked), reverse=True
    )
    told.must(bool(margins), f"largest error {units.percent(margins[0][0] if margins else 0)} of its tolerance")
    for margin, cell in margins[:10]:
        if margin > MARGIN:
            told.say(f"{cell}: {units.percent(margin)} of its tolerance")
    told.note("all", counts=counts, margins=margins[:10])


def _tiny_cells(place: Place) -> list[Cell]:
    """Each tiny convolution in every single pass, precision and layout, eager, by every framework."""
    return [
        replace(_cell(place, name, spec, precision=precision, layout=layout), direction=direction)
        for spec, direction, precision, layout, name in itertools.product(TINY, PASSES, BANDS, Layout, place.frameworks)
    ]


def survives_a_trace(place: Place, told: Told) -> None:
    """A short call takes as long after the first trace of its process as before it."""
    for name in place.frameworks:
        with told.of(name):
            cell = _cell(place, name, SHORT)
            found = place.ask(name, "traced", "traced", cell=cell, seconds=STRETCH_S, calls=SHORT_CALLS)
            before, after = statistics.median(found["before"]), statistics.median(found["after"])
            text = f"{name}: {units.duration(before, 4)} before, {units.duration(after, 4)} after"
            told.must(_off(after, before) <= TRACE_COST, f"{text}{'' if found['read'] else ', and nothing was read'}")
            told.note(name, **found)
        place.end(name, "traced")


def gives_memory_back(place: Place, told: Told) -> None:
    """Memory that runs out is told as oom, all of it comes back, and a broken context costs no later cell."""
    free, used = place.gpu.free_bytes(), place.gpu.used_bytes()
    if free.value is None or used.value is None:
        told.say(f"NVML does not tell the memory: {free.reason or used.reason}")
        return
    for name in place.frameworks:
        place.start(name)  # all are there meanwhile
    for name in place.frameworks:
        with told.of(name):
            place.hello(name)
    for name, framework in place.frameworks.items():
        with told.of(name):
            _take(place, told, name, int(TAKEN * (free.value + used.value)), "beside the others")
            if found := place.ask(name, "memory", cell=_cell(place, name, LONG, mode=framework.mode)):
                base, peak, method, held = found
                told.must(
                    base <= peak <= held, f"{name}: peak {units.size(peak)} by {method}, {units.size(held)} held on the GPU"
                )
    for name in place.frameworks:
        place.end(name)
    left = (place.gpu.used_bytes().value or 0) - place.used_bytes
    told.must(left <= BACK_BYTES, f"{units.size(max(left, 0))} are missing after all processes have ended")
    for name in place.frameworks:
        with told.of(name):
            _take(place, told, name, int(ALONE * (place.gpu.free_bytes().value or 0)), "alone", must=True)
            _break(place, told, name)


def _take(place: Place, told: Told, name: str, nbytes: int, how: str, must: bool = False) -> None:
    """Have a framework take memory and let go of it; where it cannot, its error must be known as want of memory."""
    said = place.ask(name, "hold", nbytes=nbytes)
    place.ask(name, "let_go")
    told.note(name, **{how: said or "taken"})
    if not said:
        told.must(True, f"{name} takes {units.size(nbytes)} {how}")
    else:
        told.must(starved(said) and not must, f"{name} cannot take {units.size(nbytes)} {how}: {one_line(said)}")


def _break(place: Place, told: Told, name: str) -> None:
    """Break the context of a framework's process, whose end must be known from its error; the next one must be fine."""
    try:
        said = place.ask(name, "fault", cell=_cell(place, name, SHORT))
        known = next((text for text in said if fatal(text)), "")
        told.must(
            bool(known), f"{name}: a broken context is known by: {one_line(known or next(filter(None, said), 'nothing'))}"
        )
    except LostError as lost:
        told.must(True, f"{name}: a broken context ends the process: {one_line(lost)}")
    place.end(name)
    again = place.ask(name, "error", cell=_cell(place, name, CONV))
    told.must("error" in again, f"{name}: the next process computes")


def knows_the_clocks(place: Place, told: Told) -> None:
    """Under load the clock is steady after a warm-up, nothing is set aside for the power limit, and looks cost little."""
    name, framework = next(iter(place.frameworks.items()))
    costs = []
    for _ in range(100):
        begun = time.perf_counter_ns()
        place.gpu.read()
        costs.append(time.perf_counter_ns() - begun)
    told.must(statistics.median(costs) <= READ_NS, f"a look at the GPU takes {units.duration(statistics.median(costs), 3)}")
    looks: list[tuple[float, State, int | None]] = []

    def look() -> None:
        looks.append((time.monotonic(), place.gpu.read(), place.gpu.energy_mj().value))

    cell = _cell(place, name, GEMM, precision=Precision.FP16, mode=framework.mode)
    found = place.ask(name, "under_load", meanwhile=look, cell=cell, seconds=min(LOAD_S, place.left_s / 3))
    told.note(name, **found, looks=[(at, str(state)) for at, state, _ in looks])
    states = [(at, state) for at, state, _ in looks if not state.idle]
    if not states:
        told.must(False, f"{name}: the GPU was never seen at work in {len(looks)} looks")
        return
    _hold_clock(told, states)
    _hold_power(told, [(at, energy) for at, _, energy in looks if energy is not None], place.gpu.facts())


def _hold_clock(told: Told, states: Sequence[tuple[float, State]]) -> None:
    """That the clock is steady after a warm-up, and which looks would be set aside."""
    clocks = [(at, state.clock_mhz) for at, state in states if state.clock_mhz is not None]
    reached = next((clock for at, clock in clocks if at >= clocks[0][0] + WARM_S), None)
    if reached is None:
        told.say("the clock is not told, or the load was too short")
    else:
        steady = statistics.median(clock for _, clock in clocks[len(clocks) // 2 :])
        told.must(_off(reached, steady) <= STEADY, f"{reached} MHz after {WARM_S:g} s under load, {steady:g} MHz later")
    rule, aside = Throttling(math.inf), []
    for (_, before), (_, after) in itertools.pairwise(states):
        if rule.pause_s(before, after, LOOK_S) is not None:
            aside.append(after if not after.valid else before)
    capped = sum(state.power_capped for _, state in states)
    told.must(
        all(state.throttled for state in aside),
        f"{len(aside)} of {len(states)} looks would be set aside, {capped} were at the power limit"
        + "".join(f"; {state}" for state in aside[:1]),
    )


def _hold_power(told: Told, energies: Sequence[tuple[float, int]], facts: dict[str, str]) -> None:
    """That the mean power is no more than the board's limit."""
    if len(energies) < 2 or energies[0][1] == energies[-1][1] or "power limit mW" not in facts:
        told.say("energy, or the power limit, is not told")
        return
    (begun, before), (ended, after) = energies[0], energies[-1]
    watts, limit = (after - before) / 1e3 / (ended - begun), int(facts["power limit mW"]) / 1e3
    told.must(watts <= POWER * limit, f"{watts:.0f} W on average; the limit is {limit:.0f} W")
    moved = [at for (_, old), (at, new) in itertools.pairwise(energies) if new != old]
    steps = [later - earlier for earlier, later in itertools.pairwise(moved)]
    if steps:
        told.say(
            f"the energy counter moves every {statistics.median(steps) * 1e3:.0f} ms, in looks {LOOK_S * 1e3:.0f} ms apart"
        )


def repeats_itself(place: Place, told: Told) -> None:
    """Equals differ little within a run, and no cell takes longer than it may."""
    from harness.ask import planning
    from harness.review.reading import Reading
    from harness.store import journal

    seconds = min(REPEAT_S, max(10.0, place.left_s - 30))
    folder = place.run(*REPEATED, "--aa", "--backend", ",".join(place.frameworks), "--time", f"{seconds:.0f}s")
    reading = Reading(folder)
    noise = reading.aa.noise if reading.aa else None
    if noise and noise.machine:
        least = min(noise.machine.values())
        told.must(least <= MOST_NOISE, f"equals differ by {units.percent(least)} in one trial, over {noise.trials} trials")
        told.say(f"{noise.differences} of {noise.judged} pairs of equals were called different")
    else:
        told.must(False, "no pair of equals was measured")
    records = journal.read(folder)[0]
    longest = max((sum((record.spent_ns or {}).values()) / 1e9 for record in records), default=0.0)
    limit = Budget().preparing_s(place.device)
    told.must(bool(records) and longest <= limit, f"the longest of {len(records)} cells took {longest:.1f} s of {limit:.0f} s")
    estimate = planning.estimate(journal.read_plan(folder), len(place.cores))
    told.say(f"estimated {units.wall(estimate)}, took {units.wall(reading.run.took_s or 0.0)}")
    told.note(
        "run", id=folder.name, noise=[float(each) for each in (noise.machine.values() if noise else ())], longest_s=longest
    )


@dataclass(frozen=True)
class Check:
    """One of the ten. `share_s` is the time that earlier ones leave to it; `runs` says whether it makes a run of convbench."""

    number: int
    question: str
    share_s: float
    make: Callable[[Place, Told], None]
    runs: bool = False

    def made(self, place: Place, reserved_s: float) -> Told:
        """What it finds. What it raises is a line that does not hold."""
        told, begun = Told(self.number, self.question), time.monotonic()
        if self.runs and place.lacking:
            told.say(place.lacking)
        elif place.begin(reserved_s) <= 0:
            told.say("no time was left")
        else:
            with told.of(self.make.__name__):
                self.make(place, told)
        told.took_s = time.monotonic() - begun
        return told


CHECKS = (
    Check(1, "Does every framework see the GPU, and compute with one cuDNN of its own CUDA?", 60, sees_the_gpu),
    Check(2, "Is the board that NVML tells of the one that each framework measures on?", 40, is_the_board),
    Check(3, "Does each precision err as its name says, in every layout, eager and compiled?", 70, has_the_precision),
    Check(4, "Does convbench time a matrix product and a copy as a plain loop does?", 45, times_as_a_plain_loop),
    Check(5, "Does the device's clock agree with other clocks?", 35, reads_the_device_clock),
    Check(6, "Are all results right, in every precision and layout?", 60, is_right),
    Check(7, "Does a call take as long after a trace as before it?", 20, survives_a_trace),
    Check(8, "Is want of memory told, does memory come back, and does a broken context stay with its process?", 50,
          gives_memory_back),
    Check(9, "Is the clock steady after a warm-up, and what would be set aside?", 28, knows_the_clocks),
    Check(10, "Does a run repeat itself, in the time that it may take?", 60, repeats_itself, runs=True),
)  # fmt: skip


def all_of(place: Place, checks: Iterable[Check] = CHECKS) -> Iterator[Told]:
    """What each check finds, one after the other, within the time of the place."""
    checks = tuple(checks)
    for at, check in enumerate(checks):
        yield check.made(place, sum(later.share_s for later in checks[at + 1 :]))
