"""A cell as a program of its own, for a bug report: it needs numpy and the framework, draws, calls, checks and times as we do.

Here stands what is the same for every framework; the call itself is the adapter's (`backends.base.Script`). What the program
does is what the rooms beside this one do, in fewer words: `operands` draws, `oracle` compares some elements with the definition
in float64, `sampling` times blocks of calls. Text in, text out: nothing is run here.
"""

import math
import re
import shlex
import zlib
from collections.abc import Iterable, Iterator, Mapping

from harness import flops
from harness.axes import UPDATED, Bias, Direction, Epilogue, Optimizer, Precision, Values
from harness.backends import base
from harness.backends.base import Script
from harness.measure.operands import ONE_OF_TEN, SMALLEST
from harness.measure.oracle import FURTHEST, SLACK
from harness.plain import plain
from harness.record import Environment
from harness.spec import Cell

ELEMENTS = 24  # of each result that are compared
_WIDTH = 120
_AT_START = ("LD_", "MALLOC_", "GLIBC_")  # variables that are read when a process starts, so that it cannot set them itself
_FIRST_WRONG = re.compile(r"\b(y|dx|dw|db|w|b) is wrong in [^:]*?, the first at \[([0-9]+(?:, [0-9]+)*)\]")
_SECONDS = (  # how long it times, before the framework is imported
    'SECONDS = sys.argv[1] if len(sys.argv) > 1 else "3"',
    'if not SECONDS.replace(".", "", 1).isdecimal():',
    '    print(f"report.py: found {SECONDS!r}; allowed: a number of seconds, such as 10 or 0.5", file=sys.stderr)',
    "    sys.exit(2)",
)


def program(
    cell: Cell, script: Script, told: Iterable[str], environment: Environment, seed: int, reason: str = ""
) -> str:  # fmt: skip
    """The program of a convolution. `told` are the lines that its head says, `environment` and `seed` those of the run.

    A `reason` for which the cell was found incorrect says which element was wrong: those behind it are compared, too.
    """
    environ = {name: value for name, value in environment.environ.items() if not name.startswith(_AT_START)}
    start = "".join(f"{name}={shlex.quote(value)} " for name, value in environment.environ.items() if name not in environ)
    cores = ", ".join(map(str, sorted(environment.affinity)))
    parts: tuple[Iterable[str], ...] = (
        (*(f"# {plain(line)}".rstrip() for line in told), "#", f"# {plain(start)}python report.py [SECONDS, 3 by default]"),
        (
            "import os",
            "",
            "# Variables and cores of the run, before anything else is imported: libraries read them then.",
            *_dictionary("os.environ.update(", environ, ")"),
            f"THREADS = {len(environment.affinity)}",
            f"os.sched_setaffinity(0, {{{cores}}} & os.sched_getaffinity(0) or os.sched_getaffinity(0))",
        ),
        ("import gc, math, platform, sys, time", "from pathlib import Path", "import numpy as np"),
        _SECONDS,
        script.imports,
        _drawn(cell, seed),
        script.operands,
        (f"op = {script.op!r}", "", *script.call, *((f"wait = {script.wait}",) if script.wait else ())),
        script.result,
        _checks(cell, reason),
        _timing(cell, script),
    )
    text = "\n\n".join("\n".join(part) for part in parts)
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def _dictionary(before: str, entries: Mapping[str, str], behind: str) -> Iterator[str]:
    """A dict as several lines, as full as they may be."""
    line = f"{before}{{"
    for name, value in entries.items():
        entry = f"{name!r}: {value!r},"
        if line.endswith("{") or len(line) + len(entry) >= _WIDTH:
            yield line
            line = f"    {entry}"
        else:
            line = f"{line} {entry}"
    if not entries:
        yield f"{line}}}{behind}"
        return
    yield line
    yield f"}}{behind}"


def _rounded(cell: Cell, names: str) -> Iterator[str]:
    """The operands of these names, rounded to what the device holds."""
    if cell.precision is Precision.FP16:
        yield f"{names} = (array.astype(np.float16).astype(np.float32) for array in ({names}))"
    elif cell.precision is Precision.BF16:
        yield f"bits = [array.view(np.uint32) for array in ({names})]  # rounded to bf16, ties to even"
        yield "bits = [(each + 0x7FFF + ((each >> 16) & 1)) & 0xFFFF0000 for each in bits]"
        yield f"{names} = (each.astype(np.uint32).view(np.float32) for each in bits)"


def _drawn(cell: Cell, seed: int) -> Iterator[str]:
    """The operands that the cell was timed on: see `operands.draw` and `operands.rounded`."""
    every = list(cell.operand_shapes)  # in the order of the draw, up to the last one that is read
    drawn = every[: 1 + max(map(every.index, cell.reads))]
    shapes, names = ", ".join(str(cell.operand_shapes[name]) for name in drawn), ", ".join(drawn)
    dtype = "float64" if cell.precision is Precision.FP64 else "float32"
    b = ", b [K]" if "b" in drawn else ""
    yield f"# The operands of the run, by its seed and the crc32 of the workload's name: x [N, C, ...], w [K, C/g, ...], dy{b}."
    yield f"rng = np.random.default_rng([{seed}, {zlib.crc32(cell.workload.encode())}])"
    yield f"{names} = (rng.standard_normal(shape, dtype=np.{dtype}) for shape in ({shapes}))"
    yield from _rounded(cell, names)
    made = {Values.ZEROS: "np.zeros_like(array)", Values.ONES: "np.ones_like(array)"}
    made[Values.SPARSE] = f"np.where(abs(array) > {ONE_OF_TEN}, array, array.dtype.type(0))"
    if cell.operands in made:
        yield f"{names} = ({made[cell.operands]} for array in ({names}))  # operands: {cell.operands}"
    elif cell.operands is Values.DENORMAL:
        names = ", ".join(drawn[1:]) + ("," if len(drawn) == 2 else "")
        yield f"{names} = (array * np.{dtype}({SMALLEST[cell.precision] / 8!r}) for array in ({names}))  # operands: denormal"
        yield from _rounded(cell, names)
    yield "bytearray(31 * 2**20)  # freed at once: malloc keeps freed buffers from then on, as in the run"


# What is right --------------------------------------------------------------------------------------------------------------

_FORWARD = """
def {name}_at(n, k, *p):
    taps = (slice(i * s, i * s + (r - 1) * d + 1, d) for i, s, d, r in zip(p, STRIDE, DILATION, w.shape[2:]))
    return np.sum(padded[(n, slice(k // K * C, k // K * C + C), *taps)] * w[k].astype(np.float64))
"""
_INPUT_GRADIENT = """
def {name}_at(n, c, *q):
    total, group = 0.0, slice(c // C * K, c // C * K + K)
    for tap in np.ndindex(w.shape[2:]):
        steps = [i + lo - t * d for i, (lo, _), t, d in zip(q, PADDING, tap, DILATION)]
        p = tuple(step // s for step, s in zip(steps, STRIDE))
        if all(step % s == 0 and 0 <= i < out for step, s, i, out in zip(steps, STRIDE, p, {given}.shape[2:])):
            total += {given}[(n, group, *p)].astype(np.float64) @ w[(group, c % C, *tap)]
    return total
"""
_FILTER_GRADIENT = """
def {name}_at(k, c, *t):
    seen = (slice(i * d, i * d + (out - 1) * s + 1, s) for i, d, s, out in zip(t, DILATION, STRIDE, {given}.shape[2:]))
    return np.sum(padded[(slice(None), k // K * C + c, *seen)] * {given}[:, k].astype(np.float64))
"""
_COMPARE = """
def rms(array):
    return math.sqrt(np.mean(np.square(array, dtype=np.float64)))

def compare(name, got, right, length, one, other):
    flat = [{chosen}]
    chosen = [tuple(map(int, index)) for index in zip(*np.unravel_index(np.unique(flat), got.shape))]
    values, expected = np.array([(got[index], right(*index)) for index in chosen]).T
    allowed = {slack} * (math.sqrt(length) * {sums:.3g} + {unit:.3g})
    scale = max(math.sqrt(length) * rms(one) * rms(other), rms(expected)) or 1.0  # of a sum of so many products{denormal}
    errors = abs(values - expected) / scale
    print(f"{{name}}: error {{errors.max():.2g}} of the size of a sum, allowed {{allowed:.2g}}; {{len(chosen)}} elements")
    for index, value, wanted, error in zip(chosen, values, expected, errors):
        if not error <= allowed:
            print(f"    WRONG {{name}}{{list(index)}}: {{value:.9g}}, by the definition {{wanted:.9g}}")
"""
_LOSS = """
    global dy{padded}
    dy = 2 * got["y"] / got["y"].size  # the gradient of the loss mean(y^2){again}
    loss = float(np.mean(np.square(got["y"])))
    off, allowed = abs(got["loss"] - loss) / (loss or 1.0), {sums:.3g} * got["y"].size + {unit:.3g}
    print(f"{{'' if off <= allowed else 'WRONG '}}loss: {{float(got['loss']):.9g}}, of y {{loss:.9g}}; allowed {{allowed:.2g}}")
"""
_UPDATED = """
    step = {step}  # the optimizer's first, of the gradient that the call gave
    allowed = {allowed}
    off = (abs(got["{name}"] - ({name} - step)) / np.maximum(allowed, 1e-300)).max()
    print(f"{{'' if off <= 1 else 'WRONG '}}{name} after the step: its largest error is {{off:.2g}} of what is allowed")
"""


_FINISHED = """
convolved = y_at
def y_at(n, k, *p):
    return {y}
"""
_BIAS_GRADIENT = """
def db_at(k):
    return np.sum(dy[:, k].astype(np.float64))
"""


def _checks(cell: Cell, reason: str) -> Iterator[str]:
    """The definition of what the cell computes, element by element in float64, and what compares some elements with it."""
    spec, names, transposed = cell.conv, cell.outputs, cell.spec.transposed
    unit, sums = cell.precision.unit_roundoff, 2.0**-53 if cell.precision is Precision.FP64 else 2.0**-24
    chosen = [f"*rng.integers(got.size, size={ELEMENTS})", f"*np.flatnonzero(~np.isfinite(got))[:{ELEMENTS}]"]
    of = ": passes of the convolution whose x is y" if transposed else ""
    yield f"# The definition, in float64{of}; C channels and K filters make a group."
    yield f"STRIDE, DILATION, PADDING = {spec.stride}, {spec.dilation}, {spec.padding}"
    yield f"C, K = {spec.c // spec.groups}, {spec.k // spec.groups}"
    kinds = {"y": _FORWARD, "dx": _INPUT_GRADIENT, "dw": _FILTER_GRADIENT}
    if transposed:
        kinds |= {"y": _INPUT_GRADIENT, "dx": _FORWARD}
    image, given = ("dy", "x") if transposed else ("x", "dy")
    padding = f"padded = np.pad({image}, ((0, 0), (0, 0), *PADDING))"
    late = transposed and "loss" in names  # dy is known once y is
    if not late and any(kinds[name] is not _INPUT_GRADIENT for name in names):
        yield padding
    if near := _first_wrong(cell, reason):
        yield f"NEAR = {near}  # where the run found the first wrong element"
        chosen.append(f"*range(NEAR.get(name, got.size), got.size)[:{ELEMENTS}]")
    for name in names:
        if name in kinds:
            yield kinds[name].format(name=name, given=given)
    yield from _added(cell)
    denormal = ""
    if cell.operands is Values.DENORMAL:
        least = f"length * {SMALLEST[cell.precision]!r} * {FURTHEST} / allowed"
        denormal = f"\n    scale = max(scale, {least})  # a kernel may take a denormal number for 0"
    yield _COMPARE.format(chosen=", ".join(chosen), slack=SLACK, sums=sums, unit=unit, denormal=denormal)
    yield "def check(got):"
    if "loss" in names:
        again = f"\n    {padding}" if late else ""
        yield _LOSS.strip("\n").format(sums=sums, unit=4 * unit, padded=", padded" if late else "", again=again)
    for name, direction, factors in (
        ("y", Direction.FPROP, "x, w"), ("dx", Direction.DGRAD, "w, dy"), ("dw", Direction.WGRAD, "x, dy"),
    ):  # fmt: skip
        if name in names:
            yield f'    compare("{name}", got["{name}"], {name}_at, {cell.spec.products(direction)}, {factors})'
    if "db" in names:
        yield '    compare("db", got["db"], db_at, dy.size // dy.shape[1], dy, np.ones(1))'
    for name in UPDATED:
        if name in names:
            yield _updated(cell, name)


def _added(cell: Cell) -> Iterator[str]:
    """The definition of what bias and epilogue make of y, and of the gradient of the bias."""
    y = "convolved(n, k, *p)" + " + float(b[k])" * (cell.bias is Bias.CHANNEL)
    y = f"max({y}, 0.0)" if cell.epilogue is Epilogue.RELU else y
    if "y" in cell.outputs and y != "convolved(n, k, *p)":
        yield _FINISHED.format(y=y)
    if "db" in cell.outputs:
        yield _BIAS_GRADIENT


def _updated(cell: Cell, name: str) -> str:
    """What compares the updated filter or bias with the optimizer's formula: see `oracle.updated`."""
    size, unit = f'abs(got["d{name}"])', cell.precision.unit_roundoff
    step, ambiguity = f'{base.LEARNING_RATE} * got["d{name}"]', ""
    if cell.optimizer is Optimizer.ADAM:  # which is free to add epsilon before or after a correction
        step = f"{step} / ({size} + {base.ADAM_EPSILON})"
        early = f"np.minimum(1, {40 * base.ADAM_EPSILON} / np.maximum({size}, 1e-300))"
        ambiguity = f" + {base.LEARNING_RATE} * {early} + {2.0**-24 / (1 - base.ADAM_BETA2):.3g} * abs(step)"
    allowed = f"{8 * unit:.3g} * (abs({name}) + abs(step)) + {2.0**-24:.3g} * abs(step){ambiguity}"
    return _UPDATED.strip("\n").format(name=name, step=step, allowed=allowed)


def _first_wrong(cell: Cell, reason: str) -> dict[str, int]:
    """By the name of an output the flat index of its first element that was found wrong; empty where the reason names none."""
    if not (found := _FIRST_WRONG.search(reason)):
        return {}
    shape, index = cell.results.get(found[1], ()), [int(number) for number in found[2].split(", ")]
    if len(index) != len(shape) or any(at >= size for at, size in zip(index, shape, strict=True)):
        return {}
    strides = [math.prod(shape[place + 1 :]) for place in range(len(shape))]
    return {found[1]: sum(at * stride for at, stride in zip(index, strides, strict=True))}


# How long it takes ----------------------------------------------------------------------------------------------------------

_TIMING = """
def once():{reset}
    handle = launch(){wait}
    return result(handle)

def block(calls):{reset}
    turns = range(calls)
    begun = time.perf_counter_ns()
    for _ in turns:
        {call}
    return (time.perf_counter_ns() - begun) / calls

def waited_ns(file=Path("/proc/thread-self/schedstat")):  # for how long this thread had work to do and no core
    return int(file.read_text().split()[1]) if file.exists() else math.nan

print(op)
first = once()
check(first)
seconds, took = float(SECONDS), block(1)
gc.disable()
for span in (min(seconds, 1.0), seconds):  # a warm-up, then what counts: blocks of 50 us at least
    calls, times, waited, begun = math.ceil(50_000 / took), [], waited_ns(), time.perf_counter_ns()
    while not times or time.perf_counter_ns() - begun < span * 1e9:
        times.append(block(calls))
    waited, took = (waited_ns() - waited) / (time.perf_counter_ns() - begun), float(np.median(times))
print("the last call:")
check(once())
us, half = np.sort(times) / 1e3, 0.98 * math.sqrt(len(times))
low, high = us[[max(0, math.ceil(us.size / 2 - half) - 1), min(us.size, math.ceil(us.size / 2 + half)) - 1]]
print(f"median {{np.median(us):.1f}} us, 95 % {{low:.1f}} to {{high:.1f}} us in this process, least {{us[0]:.1f}} us")
print(f"{{us.size}} blocks of {{calls}}; {{{flop} / took:.3g}} GFLOP/s; waited for a core {{100 * waited:.1f}} % of the time")
cpu = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line][:1]
cpu += [f"{{len(os.sched_getaffinity(0))}} cores, {{THREADS}} threads", f"Python {{platform.python_version()}}"]
print(*cpu, f"numpy {{np.__version__}}"{versions}, sep=", ")
"""


def _timing(cell: Cell, script: Script) -> Iterator[str]:
    """What calls once and checks, warms up, times blocks of calls, and says what it found."""
    yield _TIMING.strip("\n").format(
        reset="\n    reset()" if cell.direction is Direction.TRAIN else "",
        wait="\n    wait(handle)" if script.wait else "",
        call="wait(launch())" if script.wait else "launch()",
        flop=flops.nominal(cell.spec) * cell.direction.passes,
        versions="".join(f', f"{name} {{{version}}}"' for name, version in script.versions),
    )
