"""Twenty cells of a backend in one process, first each alone and then all side by side: what was seen of them, as JSON.

`python -m tests.backends.side_by_side NAME FOLDER [whole|first|dispatch]`, a process of its own for every backend. FOLDER is
where compilers leave what they compiled; empty for nowhere. One thread on one core computes, so that bits are repeated.
"""

import ctypes
import gc
import hashlib
import itertools
import json
import os
import random
import re
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.axes import Device, Direction, Layout, Mode, Optimizer, Precision
from harness.backends import registry
from harness.backends.base import Backend, Operands, Prepared, unsupported
from harness.spec import Cell, ConvSpec, CopySpec, GemmSpec

CPU = Device("cpu")
SHAPES = ("n2 c3 k4 8x9 f3x3 p1x1", "n2 c4 k8 7x7 f3x3 s2x2 p1x1", "n2 c4 k8 6x8 f3x3 p1x1 g4", "n3 c8 k4 5x5 f1x1")
CELLS = 20


def chosen(backend: Backend, whole: bool) -> list[Cell]:
    """Twenty different cells that may stand side by side with one in fp32, of all modes in equal parts."""
    rng, found = random.Random(0), list[Cell]()
    modes = sorted(backend.modes, key=lambda mode: mode is Mode.EAGER)
    for number, mode in enumerate(modes):
        several = list(asked(backend.name, mode))
        rng.shuffle(several)
        fitting = (cell for cell in several if fits(backend, cell, whole))  # to ask of one whether it fits may compile it
        found += itertools.islice(fitting, (CELLS - len(found)) // (len(modes) - number))
    rng.shuffle(found)
    return found


def asked(name: str, mode: Mode) -> Iterator[Cell]:
    """Every direction of several shapes in both layouts, in fp32 and the precision after it, and both ceilings."""
    passes = [(direction, None) for direction in Direction if direction not in (Direction.TRAIN, Direction.NONE)]
    passes += [(Direction.TRAIN, optimizer) for optimizer in Optimizer]
    for text, layout, (direction, optimizer) in itertools.product(SHAPES, Layout, passes):
        for precision in (Precision.FP32, Precision.BF16):
            axes = {"layout": layout, "precision": precision, "optimizer": optimizer}
            yield Cell(text, ConvSpec.parse(text), direction, name, mode, **axes)
    for size in (32, 48):
        yield Cell(f"product {size}", GemmSpec(size, size, size), Direction.NONE, name, mode)
        yield Cell(f"copy {size}", CopySpec(size * 1024), Direction.NONE, name, mode)


def fits(backend: Backend, cell: Cell, whole: bool) -> bool:
    """Whether a cell may be among the twenty: supported, set up as one in fp32, and compiled without g++ unless `whole`."""
    if backend.name == "torch" and cell.mode is Mode.COMPILED and not whole and writes_cpp(cell):
        return False
    plain = Cell("plain", ConvSpec.parse(SHAPES[0]), Direction.FPROP, backend.name)
    return unsupported(backend, cell) is None and backend.process_wide(cell) == backend.process_wide(plain)


def writes_cpp(cell: Cell) -> bool:
    """Whether inductor may write a kernel for a cell, at the least to change a layout, instead of calling ATen alone."""
    if cell.precision is not Precision.FP32 or not cell.is_convolution:
        return not isinstance(cell.spec, GemmSpec)
    as_it_lies = cell.layout is Layout.CHANNELS_LAST and cell.conv.groups == 1
    alone = cell.direction in (Direction.FPROP, Direction.WGRAD) and as_it_lies
    return not alone and cell.direction is not Direction.DGRAD


def operands(cell: Cell) -> Operands:
    import numpy as np

    rng = np.random.default_rng(len(str(cell)))
    if cell.is_convolution:
        shapes: tuple[tuple[int, ...], ...] = (cell.conv.x_shape, cell.conv.w_shape, cell.conv.y_shape)
    elif isinstance(cell.spec, GemmSpec):
        shapes = ((cell.spec.m, cell.spec.k), (cell.spec.k, cell.spec.n), (0,))
    else:
        assert isinstance(cell.spec, CopySpec)
        shapes = ((cell.spec.nbytes // 4,), (0,), (0,))
    return Operands(*(rng.standard_normal(shape).astype("float32") for shape in shapes))


def digest(parts: list[Any]) -> str:
    return hashlib.sha256(b"|".join(part if isinstance(part, bytes) else str(part).encode() for part in parts)).hexdigest()[:16]


class Kernels:
    """The kernels of oneDNN that ran since they were last asked for: this process's standard output, which it writes to."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile("w+")  # noqa: SIM115, it is open as long as the process runs
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(self.file.fileno(), 1)
        self.read = 0

    def since(self) -> list[str]:
        ctypes.CDLL(None).fflush(None)
        self.file.seek(self.read)
        lines = self.file.read().splitlines()
        self.read = self.file.tell()
        found = [line.rpartition(",")[0] for line in lines if line.startswith("onednn_verbose") and ",exec," in line]
        return sorted(line[line.index(",exec,") :] for line in found)  # independent ones of a graph run in either order


# What a framework tells of the programs that it compiled ------------------------------------------------------------------


class Programs:
    """Of a framework that compiles nothing."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def of(self, call: Any) -> str:
        """The text of the program that was compiled for a call."""
        return ""

    def alive(self) -> int:
        """How many compiled programs this process holds."""
        return 0


class TorchPrograms(Programs):
    """What inductor generated since it was last asked for."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        from torch._inductor.graph import GraphLowering

        self.sources = list[str]()
        GraphLowering.save_output_code = staticmethod(self.sources.append)

    def of(self, call: Any) -> str:
        text = "\n".join(self.sources)
        self.sources.clear()
        return re.sub(r"# AOT ID: .*|torch/_inductor/.*", "", text)

    def alive(self) -> int:
        from torch._dynamo import convert_frame

        return sum(code() is not None for code in convert_frame.output_codes.seen)


class JaxPrograms(Programs):
    """What XLA made of the program, without where in Python each part came from."""

    def of(self, call: Any) -> str:
        return instructions(call._lowered().compile().as_text()) if call._lowered else ""

    def alive(self) -> int:
        gc.collect()
        return len(self.backend._device.client.live_executables())


def instructions(text: str) -> str:
    """An HLO text without metadata and the tables before the first computation, both of which are about lines of source."""
    return re.sub(r", metadata=\{.*?\}", "", re.sub(r"(?s)\n\nFileNames.*?\n\n(?=[%E])", "\n\n", text))


class TensorFlowPrograms(Programs):
    """The graph that was traced, and what XLA made of it; names end in numbers that are counted through the process."""

    def of(self, call: Any) -> str:
        if call._traced is None:
            return ""
        graph = str(call._traced.get_concrete_function(*call._arguments).graph.as_graph_def())
        return re.sub(r"_\d+|CustomGradient-\d+", "", graph)

    def alive(self) -> int:
        from tensorflow.python.eager import context

        gc.collect()
        return len(context.context().list_function_names())


PROGRAMS = {"torch": TorchPrograms, "jax": JaxPrograms, "tensorflow": TensorFlowPrograms}

# What is seen of a cell ---------------------------------------------------------------------------------------------------


class Watched:
    """A prepared cell, and what its first call left."""

    def __init__(self, backend: Backend, cell: Cell, kernels: Kernels, programs: Programs) -> None:
        self.cell, self.kernels = cell, kernels
        self.call: Prepared = backend.prepare(cell, operands(cell))
        first = self.bits()
        self.program = programs.of(self.call)
        kernels.since()
        self.seen = {"first": first, **self.visit(), "program": digest([self.program])}

    def bits(self) -> str:
        """A call, from the first filter on, and a digest of the bits of what it left."""
        self.call.reset()
        handle = self.call.launch()
        self.call.wait(handle)
        return digest([getattr(value, "tobytes", lambda v=value: v)() for value in self.call.fetch(handle).items().values()])

    def visit(self) -> dict[str, Any]:
        """What a later call leaves, which kernels it ran, and whether anything was compiled for it."""
        before = self.call.compilations()
        self.kernels.since()
        found = {"bits": self.bits(), "kernels": self.kernels.since(), "settings": dict(self.call.read_settings())}
        return {**found, "compiled": self.call.compilations() - before}


def twenty(backend: Backend, whole: bool, kernels: Kernels) -> dict[str, Any]:
    """What was seen of twenty cells: alone, side by side, in several turns, and after half of them were closed."""
    programs = PROGRAMS.get(backend.name, Programs)(backend)
    cells, rng, alone = chosen(backend, whole), random.Random(1), dict[str, Any]()
    for cell in cells:
        one = Watched(backend, cell, kernels, programs)
        alone[str(cell)] = one.seen
        one.call.close()
        del one
    alive = [programs.alive()]
    held = {str(cell): Watched(backend, cell, kernels, programs) for cell in cells}
    beside = {name: one.seen for name, one in held.items()}
    alive.append(programs.alive())
    turns = [{name: held[name].visit() for name in rng.sample(sorted(held), len(held))} for _ in range(2)]
    for name in sorted(held)[::2]:
        held.pop(name).call.close()
    alive.append(programs.alive())
    turns.append({name: one.visit() for name, one in held.items()})
    changed = [name for name, one in held.items() if one.call.settings != one.call.read_settings()]
    for one in held.values():
        one.call.close()
    held.clear()
    del one
    alive.append(programs.alive())
    compiled = [bool(alone[str(cell)]["program"] != digest([""])) for cell in cells]
    return {"alone": alone, "beside": beside, "turns": turns, "changed": changed, "alive": alive, "compiled": sum(compiled)}


def precisions(backend: Backend) -> dict[str, list[bool]]:
    """Of each precision: whether it may stand beside fp32, and whether what fp32 had set is still so after it was prepared."""
    spec, found = ConvSpec.parse(SHAPES[0]), {}
    for precision in Precision:
        first, other = (Cell("a", spec, Direction.FPROP, backend.name, precision=each) for each in (Precision.FP32, precision))
        if unsupported(backend, other) and precision is not Precision.TF32:
            continue
        calls = [backend.prepare(cell, operands(cell)) for cell in (first, other)]
        alike = backend.process_wide(first) == backend.process_wide(other)
        found[precision.value] = [alike, calls[0].read_settings() == calls[0].settings]
        for call in calls:
            call.close()
    return found


# What compilers leave in a folder ------------------------------------------------------------------------------------------


def first_calls(backend: Any, kernels: Kernels, folder: str) -> dict[str, Any]:
    """Of some compiled cells the program and the bits; the machine code of all, and how often JAX found one in the folder."""
    programs, found, hits, before = PROGRAMS[backend.name](backend), {}, list[str](), libraries(folder)
    if backend.name == "jax":
        backend._jax.monitoring.register_event_listener(lambda event, **rest: hits.append(event))
    for direction, optimizer in ((Direction.WGRAD, None), (Direction.BPROP, None), (Direction.TRAIN, Optimizer.ADAM)):
        axes = {"mode": Mode.COMPILED, "layout": Layout.CHANNELS_LAST, "optimizer": optimizer}
        cell, begun = Cell("a", ConvSpec.parse(SHAPES[0]), direction, backend.name, **axes), sum(os.times()[:4])
        one = Watched(backend, cell, kernels, programs)
        found[direction.value] = {**one.seen, "text": one.program, "cpu_s": sum(os.times()[:4]) - begun}
    code = torch_code(folder, before) if backend.name == "torch" else jax_code(backend, folder)
    return {"found": found, **code, "hits": hits.count("/jax/compilation_cache/cache_hits")}


def libraries(folder: str) -> set[tuple[str, int]]:
    """The libraries in the folder, each with the time when it was written."""
    return {(str(path), path.stat().st_mtime_ns) for path in Path(folder).rglob("*.main.so")} if folder else set()


def torch_code(folder: str, before: set[tuple[str, int]]) -> dict[str, Any]:
    """Digests of the libraries of inductor's that this process has loaded, and how many it wrote into the folder."""
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    digests = {code_of(Path(path).read_bytes()) for path in paths if path.endswith(".main.so")}
    return {"loaded": sorted(digests), "written": len(libraries(folder) - before)}


def jax_code(backend: Any, folder: str) -> dict[str, list[str]]:
    """Digests of the programs that XLA compiled in this process, whose code can be read, and of those in the folder."""
    from jax._src import compilation_cache as caching

    live = [executable.serialize() for executable in backend._device.client.live_executables()]
    entries = [path.read_bytes() for path in sorted(Path(folder, "jax").glob("*-cache"))] if folder else []
    kept = [caching.extract_executable_and_time(caching.decompress_executable(entry))[0] for entry in entries]
    return {"loaded": sorted({code_of(each) for each in live}), "kept": sorted({code_of(each) for each in kept})}


ELF = b"\x7fELF"


def code_of(data: bytes) -> str:
    """A digest of the machine code and the constants of all ELF objects in some bytes, in whatever order they are there."""
    found = []
    for at in (match.start() for match in re.finditer(ELF, data)):
        elf = data[at:]
        (table,), (count, of_names) = struct.unpack_from("<Q", elf, 0x28), struct.unpack_from("<HH", elf, 0x3C)
        headers = [struct.unpack_from("<IIQQQQ", elf, table + 64 * index) for index in range(count)]
        names = elf[headers[of_names][4] :]
        for name, kind, _, _, begin, size in headers:
            text = names[name : names.index(b"\0", name)]
            if kind == 1 and text.startswith((b".text", b".ltext", b".rodata", b".data")):  # SHT_PROGBITS
                found.append(elf[begin : begin + size])
    return digest(sorted(found))


# What a call costs beside others ------------------------------------------------------------------------------------------


def dispatch(backend: Backend) -> dict[str, list[float]]:
    """Processor time of a small call beside 19 others, as a multiple of that alone before and after; several for every mode."""
    cells, found = chosen(backend, whole=False)[1:], {}
    for mode in backend.modes:
        one = Cell("one", ConvSpec.parse("n1 c1 k1 3x3 f3x3"), Direction.FPROP, backend.name, mode, layout=Layout.CHANNELS_LAST)
        call, beside = backend.prepare(one, operands(one)), list[float]()
        call.wait(call.launch())
        alone = [call.on_own_stack(cost, call.launch, call.wait)]
        for _ in range(4):
            others = [backend.prepare(cell, operands(cell)) for cell in cells]
            for other in others:
                other.wait(other.launch())
            beside.append(call.on_own_stack(cost, call.launch, call.wait))
            for other in others:
                other.close()
            alone.append(call.on_own_stack(cost, call.launch, call.wait))
        found[mode.value] = [2 * each / sum(pair) for each, pair in zip(beside, itertools.pairwise(alone), strict=True)]
        call.close()
    return found


def cost(launch: Callable[[], Any], wait: Callable[[Any], object], batches: int = 60, calls: int = 300) -> float:
    """Seconds of processor time of a call: the lower quartile over batches."""

    def batch() -> float:
        begun = time.process_time()
        for _ in range(calls):
            wait(launch())
        return (time.process_time() - begun) / calls

    return statistics.quantiles((batch() for _ in range(batches)), n=4)[0]


def main(name: str, folder: str, *how: str) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    kind = registry.resolve(registry.find(name))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    os.environ |= {**threads, **kind.environ(CPU, 1, folder), **({} if "dispatch" in how else {"ONEDNN_VERBOSE": "1"})}
    kernels = Kernels()
    backend = kind(CPU, 1)
    gc.freeze()  # no collection needs to look through what a framework is made of
    if "first" in how:
        answer = first_calls(backend, kernels, folder)
    elif "dispatch" in how:
        answer: dict[str, Any] = dispatch(backend)
    else:
        answer = {**twenty(backend, "whole" in how, kernels), "precisions": precisions(backend)}
    print(json.dumps(answer), file=kernels.out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
