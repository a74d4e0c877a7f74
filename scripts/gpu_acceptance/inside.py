"""The process of one framework: it does what it is asked, a JSON line each, and answers with one.

It is told which adapter and which plain loop are meant, and loads them as a worker of convbench does: affinity and variables
first, then the framework.
"""

import contextlib
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import codec
from harness.axes import Device
from harness.backends import packages, registry
from harness.backends.base import Prepared, unsupported
from harness.isolate import worker
from harness.plan import Budget, Step
from harness.record import Record, SeriesKind
from harness.spec import Cell

SEED = 0
VISITS = 6  # of convbench and as many stretches of the plain loop, in turns
LOOP_S, LEAD_S = 0.05, 0.02  # of a stretch of the plain loop what counts, and what comes before
WARM_S = 0.3
BATCH_NS = 20_000_000  # calls are queued for about so long under load
_CUDNN = re.compile(r"libcudnn\.so[.\d]*")
_CUDA = re.compile(r"lib(?:cublas|cublasLt|cudart)\.so\.(\d+)[.\d]*")
BUDGET = Budget(trials=1, visits=VISITS)


class UnsupportedError(Exception):
    """The adapter says that it cannot measure a cell, and why."""


class Served:
    """What can be asked. Cells come as `codec` encodes them; times are returned in ns of one call."""

    def start(self, target: str, loop: str, device: str, cores: list[int]) -> dict[str, Any]:
        """Load the adapter; what the framework tells of itself and of its GPU."""
        self.device = Device.parse(device)
        self.backend = worker.load(target, self.device, cores)
        self.loop = registry.resolve(loop)(self.device.index)
        build = self.backend.build()
        names = (*self.backend.distributions, "numpy", *packages.of_gpus())
        return {
            "devices": list(map(str, self.backend.devices())), "board": dict(self.backend.board()),
            "cuda": build.cuda if build else "", "packages": packages.versions(names),
        }  # fmt: skip

    def libraries(self, cell: dict[str, Any]) -> dict[str, list[str]]:
        """Call a cell once. Which files of cuDNN this process has loaded then, and the major versions of its CUDA libraries."""
        with self._prepared(cell) as prepared:
            prepared.wait(prepared.launch())
        with open("/proc/self/maps") as maps:
            paths = sorted({fields[5].strip() for line in maps if len(fields := line.split(maxsplit=5)) == 6})
        named = [(path, os.path.basename(path)) for path in paths]
        return {
            "cudnn": [path for path, name in named if _CUDNN.fullmatch(name)],
            "cuda": sorted({found[1] for _, name in named if (found := _CUDA.fullmatch(name))}),
        }

    def error(self, cell: dict[str, Any]) -> dict[str, Any]:
        """How far a forward convolution is from float64: the norm of the difference over the norm; or why it is unsupported."""
        import numpy as np

        from harness.backends.numpy import fprop
        from harness.measure.operands import draw

        asked = codec.decode(Cell, cell)
        operands, _ = draw(asked, SEED)
        try:
            with self._prepared(cell) as prepared:
                handle = prepared.launch()
                prepared.wait(handle)
                y = prepared.fetch(handle).y
        except UnsupportedError as why:
            return {"unsupported": str(why)}
        expected = fprop(asked.conv, operands.x.astype(np.float64), operands.w.astype(np.float64))
        return {"error": float(np.linalg.norm(y - expected) / np.linalg.norm(expected))}

    def beside(self, cell: dict[str, Any], kind: str, arguments: list[Any]) -> dict[str, Any]:
        """Visits of convbench to a cell, each with a stretch of the plain loop of that kind right after it."""
        from harness.measure.engine import Engine
        from harness.measure.gpu import Gpu

        step, found = Step(1, 0, codec.decode(Cell, cell)), {kind: list[float]() for kind in SeriesKind}
        engine = Engine(self.backend, BUDGET, SEED, "acceptance", "", gpu=Gpu(self.device.index))
        try:
            if record := engine.prepare(step):
                return {"status": record.status, "reason": record.reason}
            launch, wait = getattr(self.loop, kind)(*arguments)
            loop = list[float]()
            for _ in range(VISITS):
                taken = engine.visit(step.order)
                if isinstance(taken, Record):
                    return {"status": taken.status, "reason": taken.reason}
                for series in taken.series:
                    found[series.kind].append(statistics.median(series.block_ns) / series.iterations)
                loop.append(_plain(launch, wait))
            record = engine.finish(step.order)
        finally:
            engine.close()
        return {"status": record.status, "reason": record.reason, "loop": loop, **found}

    def clocks(self, cell: dict[str, Any], calls: int, times: int) -> dict[str, Any]:
        """What the device's clock says of a call, read `times` times over `calls` calls; and what else there is to compare."""
        from harness.measure.sampling import queued

        with self._prepared(cell) as prepared:
            _for(WARM_S, prepared.launch, prepared.wait)
            read = [prepared.device_time(calls) for _ in range(times)]
            together = [queued(prepared.launch, prepared.wait, time.perf_counter_ns, range(calls)) for _ in range(times)]
            kernels = self.loop.kernels_ns(prepared.launch, prepared.wait, calls)
            return {
                "device": [None if each is None else each / calls for each in read], "method": prepared.device_clock,
                "throughput": statistics.median(together) / calls, "kernels": None if kernels is None else kernels / calls,
            }  # fmt: skip

    def traced(self, cell: dict[str, Any], seconds: float, calls: int) -> dict[str, Any]:
        """The latency of a call before and after the first trace of this process, each as medians of stretches."""
        with self._prepared(cell) as prepared:
            launch, wait = prepared.launch, prepared.wait
            _for(WARM_S, launch, wait)
            before = [_plain(launch, wait) for _ in range(round(seconds / LOOP_S))]
            read = prepared.device_time(calls)
            after = [_plain(launch, wait) for _ in range(round(seconds / LOOP_S))]
            return {"before": before, "after": after, "read": read is not None, "method": prepared.device_clock}

    def memory(self, cell: dict[str, Any]) -> list[Any] | None:
        """Bytes before a call and at its peak by the framework's own counter, its name, and what is held on the GPU then.

        None where one of them is not told.
        """
        from harness.measure.gpu import Gpu

        gpu = Gpu(self.device.index)
        with self._prepared(cell) as prepared:
            handle = prepared.launch()
            prepared.wait(handle)
            found, held = prepared.device_memory(), gpu.used_bytes().value
        gpu.close()
        return None if found is None or held is None else [*found, held]

    def hold(self, nbytes: int) -> str:
        """Take so many bytes of the GPU, and write to them; what went wrong, or nothing."""
        try:
            self.loop.hold(nbytes)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def let_go(self) -> None:
        """Let go of what `hold` took."""
        self.loop.let_go()

    def under_load(self, cell: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Call a cell in a row for so long: how many calls, and the time in all."""
        with self._prepared(cell) as prepared:
            calls, ns = _for(seconds, prepared.launch, prepared.wait)
        return {"calls": calls, "ns": ns}

    def fault(self, cell: dict[str, Any]) -> list[str]:
        """Have a kernel of no framework fail on the GPU, and call a cell three times: what each says; empty: nothing."""
        prepared, told = self._ready(cell), []  # never let go of, which would fail, too
        prepared.wait(prepared.launch())
        self.loop.fault()
        for _ in range(3):
            try:
                prepared.wait(prepared.launch())
                told.append("")
            except Exception as error:
                told.append(f"{type(error).__name__}: {error}")
        return told

    def _ready(self, data: dict[str, Any]) -> Prepared:
        """A cell made ready on its own operands. Raises UnsupportedError."""
        from harness.measure.operands import draw

        cell = codec.decode(Cell, data)
        if reason := unsupported(self.backend, cell):
            raise UnsupportedError(reason)
        return self.backend.prepare(cell, draw(cell, SEED)[0])

    @contextlib.contextmanager
    def _prepared(self, data: dict[str, Any]) -> Iterator[Prepared]:
        """The same, let go of in the end."""
        prepared = self._ready(data)
        try:
            yield prepared
        finally:
            prepared.close()


def _plain(launch: Callable[[], Any], wait: Callable[[Any], Any]) -> float:
    """The median time in ns of calls that are waited for one by one, over a stretch of LOOP_S."""
    lead, until, times = time.perf_counter_ns() + LEAD_S * 1e9, time.perf_counter_ns() + (LEAD_S + LOOP_S) * 1e9, []
    while (begun := time.perf_counter_ns()) < until or not times:
        wait(launch())
        now = time.perf_counter_ns()
        if begun >= lead:
            times.append(now - begun)
    return statistics.median(times)


def _for(seconds: float, launch: Callable[[], Any], wait: Callable[[Any], Any]) -> tuple[int, int]:
    """Calls for so long, queued for about BATCH_NS at a time: how many, and the time in ns that they took."""
    calls, batch, begun = 0, 1, time.perf_counter_ns()
    while (now := time.perf_counter_ns()) - begun < seconds * 1e9:
        handle = None
        for _ in range(batch):
            handle = launch()
        wait(handle)
        calls += batch
        if time.perf_counter_ns() - now < BATCH_NS / 2:
            batch *= 2
    return calls, time.perf_counter_ns() - begun


def main(descriptor: int) -> None:
    """Answer until nobody asks any more."""
    worker.die_with_parent()
    os.set_inheritable(descriptor, False)
    served = Served()
    with os.fdopen(descriptor, "w") as answers:
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                said = {"value": getattr(served, asked.pop("what"))(**asked)}
            except Exception as error:
                said = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
