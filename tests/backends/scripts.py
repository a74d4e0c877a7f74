"""Some cells of a backend, each called by its adapter and by its script in one process: what was seen of them, as JSON.

`python -m tests.backends.scripts NAME FOLDER part|whole`, a process of its own for every backend; the scripts are written to
FOLDER. One thread on one core computes, so that bits are repeated.
"""

import contextlib
import gc
import io
import itertools
import json
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.axes import Api, Bias, Device, Direction, Epilogue, Layout, Mode, Optimizer, Precision, Values
from harness.backends import registry
from harness.backends.base import unsupported
from harness.spec import Cell, parse_workload

CPU, SEED = Device("cpu"), 5
FIRST, LAST = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST
PASSES = (*((direction, None) for direction in Direction if direction not in (Direction.TRAIN, Direction.NONE)),
          *((Direction.TRAIN, optimizer) for optimizer in Optimizer))  # fmt: skip
PLAIN = "n2 c3 k4 8x9 f3x3 p1x1"
KINDS = (
    PLAIN, "n2 c3 k4 8x7 f3x3 s2x2 p0-1x2-1", "n2 c4 k6 8x8 f3x3 p1x1 g2", "n2 c4 k8 8x8 f3x3 p1x1 g4", "n2 c3 k4 12 f3 p1",
    "n2 c3 k4 5x6x7 f3x3x3 s2x2x2 p1x1x1", "n2 c3 k4 9x9 f3x3 p2x2 d2x2", "n1 c2 k2 6 f3 s2 p2-1", "n2 c4 k8 11 f3 p1 g4",
    "n1 c1 k1 1x1 f1x1",
)  # fmt: skip
TRANSPOSED = (
    "transposed n2 c4 k3 5x6 f3x3 s2x2 p1x1 o1x0",
    "transposed n2 c4 k6 5x5 f4x3 s2x1 p1x0 d1x2 g2",
    "transposed n1 c2 k3 7 f3 s2 p1",
    "transposed n1 c2 k2 3x4x3 f2x2x2 s2x2x2",
    "transposed n1 c2 k3 5x5 f3x3 s2x2 p0-1x1-0",
)
DILATED = ("n2 c4 k8 9x9 f3x3 p2x2 d2x2 g4", "n2 c4 k4 9x9 f3x3 s2x2 d2x2 g4", "n2 c4 k8 12 f3 p2 d2 g4")  # depthwise
ODD = ("n3 c5 k7 11x13 f5x2 s3x2 p2x0-1", "n1 c6 k9 17x5 f1x4 p0x3 d1x2 g3", "n2 c16 k16 14x14 f7x7 s2x2 p3x3 g16")


def asked(name: str, modes: frozenset[Mode]) -> Iterator[Cell]:
    """Each kind of convolution in a small form, in every direction, layout, precision, mode and with every kind of operands."""
    for text, layout, (direction, optimizer) in itertools.product((*KINDS, *TRANSPOSED), (LAST, FIRST), PASSES):
        if text in (PLAIN, TRANSPOSED[0]) or direction.single:
            yield cell(name, text, direction, layout=layout, optimizer=optimizer)
    for precision, (direction, optimizer) in itertools.product((Precision.FP64, Precision.BF16, Precision.FP16), PASSES):
        yield cell(name, PLAIN, direction, precision=precision, optimizer=optimizer)
    for values, direction in itertools.product(Values, (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)):
        if values is not Values.NORMAL:
            yield cell(name, PLAIN, direction, operands=values)
    yield from more_than_convolutions(name, modes)
    yield from by_other_calls(name, modes)
    for mode, (direction, optimizer) in itertools.product(sorted(modes - {Mode.EAGER}), PASSES):
        step = optimizer is Optimizer.SGD and name != "torch"  # where inductor writes C++, and compiles it
        if step or direction in (Direction.FPROP, Direction.DGRAD):
            yield cell(name, PLAIN, direction, mode=mode, optimizer=optimizer, layout=FIRST if name == "torch" else LAST)


def more_than_convolutions(name: str, modes: frozenset[Mode]) -> Iterator[Cell]:
    """With a bias and with an epilogue: each kind in each pass, and in modes that compile the plain one."""
    for text, layout, (direction, optimizer) in itertools.product((*KINDS[:6], *TRANSPOSED[:2]), (LAST, FIRST), PASSES):
        if direction is not Direction.DGRAD and (text == PLAIN or direction.single):
            yield cell(name, text, direction, layout=layout, optimizer=optimizer, bias=Bias.CHANNEL)
    for text, bias in itertools.product((PLAIN, TRANSPOSED[0]), Bias):
        yield cell(name, text, Direction.FPROP, bias=bias, epilogue=Epilogue.RELU)
    for precision, values in ((Precision.BF16, Values.NORMAL), (Precision.FP32, Values.DENORMAL)):
        for direction in (Direction.FPROP, Direction.WGRAD):
            yield cell(name, PLAIN, direction, bias=Bias.CHANNEL, precision=precision, operands=values)
    for mode in sorted(modes - {Mode.EAGER}):
        yield cell(name, PLAIN, Direction.FPROP, mode=mode, bias=Bias.CHANNEL, epilogue=Epilogue.RELU)
        yield cell(name, PLAIN, Direction.WGRAD, mode=mode, bias=Bias.CHANNEL)
        if name != "torch":  # where inductor writes C++, and compiles it
            yield cell(name, PLAIN, Direction.BPROP, mode=mode, bias=Bias.CHANNEL)
            yield cell(name, PLAIN, Direction.TRAIN, mode=mode, bias=Bias.CHANNEL, optimizer=Optimizer.ADAM)


def by_other_calls(name: str, modes: frozenset[Mode]) -> Iterator[Cell]:
    """Layers of every kind in every pass, eager, and a plain one compiled; and TensorFlow's depthwise op."""
    for api, text, (direction, optimizer) in itertools.product(Api, (*KINDS, TRANSPOSED[0], *DILATED), PASSES):
        if api is not Api.DEFAULT and (direction.single or (text == PLAIN and optimizer is not Optimizer.ADAM)):
            yield cell(name, text, direction, api=api, optimizer=optimizer)
            if direction is not Direction.DGRAD:
                yield cell(name, text, direction, api=api, optimizer=optimizer, bias=Bias.CHANNEL)
    for mode, direction in itertools.product(sorted(modes - {Mode.EAGER}), (Direction.FPROP, Direction.DGRAD)):
        yield cell(name, PLAIN, direction, api=Api.LAYER, mode=mode)
        if direction is Direction.FPROP:
            yield cell(name, PLAIN, Direction.WGRAD, api=Api.LAYER, mode=mode, bias=Bias.CHANNEL)
        yield cell(name, DILATED[0], direction, api=Api.DEPTHWISE, mode=mode)


def more(name: str, modes: frozenset[Mode]) -> Iterator[Cell]:
    """Some odd shapes, and the cells of the suite `first` in every mode of the backend."""
    from harness.ask import suite

    for text, layout, (direction, optimizer) in itertools.product(ODD, (LAST, FIRST), PASSES):
        yield cell(name, text, direction, layout=layout, optimizer=optimizer)
    for workload, mode, (direction, optimizer) in itertools.product(suite.load("first").workloads, sorted(modes), PASSES):
        yield Cell(workload.name, workload.spec, direction, name, mode, optimizer=optimizer)


def cell(name: str, text: str, direction: Direction, **axes: Any) -> Cell:
    return Cell(text.replace(" ", "_"), parse_workload(text), direction, name, **axes)


def lines(text: str) -> set[str]:
    """The lines of a program, with 0 for each number."""
    return set(re.sub(r"\d+", "0", text).splitlines())


def main(name: str, folder: str, which: str) -> None:
    """What was seen of all cells, or of a part: of those that `asked` names the ones whose script has a new line.

    So each line that an adapter's writer of scripts writes there is run in the part, but for the numbers in it.
    """
    out, core = os.dup(1), min(os.sched_getaffinity(0))
    os.dup2(2, 1)  # what a framework prints goes where no answer is looked for
    os.sched_setaffinity(0, {core})
    kind = registry.resolve(registry.find(name))
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1") | kind.environ(CPU, 1)
    backend = kind(CPU, 1)
    from harness.measure import environment
    from harness.measure.script import program

    here, seen, written = environment.describe(name, kind.distributions), {}, set[str]()
    cells = asked(name, kind.modes) if which == "part" else itertools.chain(asked(name, kind.modes), more(name, kind.modes))
    for number, one in enumerate(cells):
        if reason := unsupported(backend, one):
            seen[str(one)] = {"unsupported": reason}
            continue
        script = kind.script(one)
        text = program(one, script, ["a head"], here, SEED)
        if which == "part" and lines(text) <= written:
            continue
        written |= lines(text)
        path = Path(folder) / f"{name}_{which}_{number}.py"
        path.write_text(text)
        seen[str(one)] = compared(backend, one, script.op, path)
        gc.collect()
        gc.freeze()  # a framework leaves some hundred thousand objects, through which the next collection would look
    os.write(out, json.dumps(seen).encode())


def compared(backend: Any, one: Cell, op: str, path: Path) -> dict[str, Any]:
    """What the adapter and the script of a cell gave: whether the bits are the same, and those of two calls of the adapter."""
    import numpy as np

    from harness.measure.operands import draw

    operands, _ = draw(one, SEED)
    prepared = backend.prepare(one, operands)
    results = []
    for _ in range(2):
        prepared.reset()
        handle = prepared.launch()
        prepared.wait(handle)
        results.append(prepared.fetch(handle).items())
        del handle
    ops = [prepared.op, op]
    prepared.close()
    sys.argv, said = ["report.py", "0"], io.StringIO()
    with contextlib.redirect_stdout(said):
        got = runpy.run_path(str(path))["first"]
    gc.enable()

    def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
        assert set(one) == set(other)
        return all(np.asarray(one[key]).tobytes() == np.asarray(other[key], np.float64).tobytes() for key in one)

    return {
        "same": same(results[0], got), "repeats": same(*results), "op": [*ops, said.getvalue().splitlines()[0]],
        "wrong": [line for line in said.getvalue().splitlines() if "WRONG" in line],
    }  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
