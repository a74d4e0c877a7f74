"""The child process: set itself up, load one backend, answer with one record per step until told to stop.

Everything that must be settled before a framework is imported is settled here, in this order: affinity, the thread
variables that all libraries read, the backend's own variables. Only then numpy and the framework are loaded.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
from typing import Any

from harness.backends import registry
from harness.isolate.wire import Channel, ClosedError, Done, GoOn, Hello, Measure, Refused, Setup, Stop, Working
from harness.record import Progress

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(descriptor: int) -> None:
    """Serve the conversation on an inherited socket until Stop, or until the parent is gone."""
    _die_with_parent()
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        _serve(channel)
    except ClosedError:
        return


def _serve(channel: Channel) -> None:
    setup = channel.receive()
    if not isinstance(setup, Setup):
        raise TypeError(f"expected Setup, got {setup}")
    os.sched_setaffinity(0, setup.cores)
    threads = len(setup.cores)
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        kind = registry.resolve(setup.target)
        if not setup.probe:
            os.environ.update(kind.environ(setup.device, threads))
        backend = kind(setup.device, threads)
        devices = backend.devices()
    except Exception as error:  # absent, broken, built for another CPU: whatever importing a framework may throw
        lines = str(error).strip().splitlines() or [""]
        channel.send(Refused(f"{type(error).__name__}: {lines[0]}"[:500]))
        return
    from harness.measure import environment, gpu, memory, power
    from harness.measure.engine import Engine
    from harness.measure.yardstick import Yardstick

    memory.settle_allocator()

    modules = _set_aside(0)
    here = environment.describe(setup.backend, kind.distributions)
    channel.send(Hello(here, devices))
    if setup.device.kind == "cpu":
        beside: dict[str, Any] = {"yardstick": Yardstick(), "counters": power.Rapl()}
    else:
        board = gpu.Gpu(setup.device.index)
        beside = {"gpu": board, "counters": power.GpuEnergy(board)}
    engine = Engine(backend, setup.budget, setup.seed, setup.run_id, here.id, **beside)

    def observe(progress: Progress) -> None:
        channel.send(Working(progress))
        if not isinstance(answer := channel.receive(), GoOn):
            raise TypeError(f"expected GoOn, got {answer}")

    while not isinstance(message := channel.receive(), Stop):
        if not isinstance(message, Measure):
            raise TypeError(f"expected Measure or Stop, got {message}")
        record = engine.measure(message.step, observe)
        beside = [record.memory.method if record.memory else "", record.power.source if record.power else ""]
        broken = any(map(gpu.fatal, (record.reason, *beside, *(record.settings or {}).values())))
        modules = _set_aside(modules)  # before the answer, since another worker measures after it
        channel.send(Done(record, leaving=broken))
        if broken:  # every later cell would fail with the same error
            return


def _set_aside(modules: int) -> int:
    """Keep what imported modules hold from being collected; how many modules there are, `modules` of them set aside before.

    A framework leaves some hundred thousand objects, part of them when it first compiles; looking through them anew before
    every cell is sampled would take 0.15 s each. Between two cells nothing of a cell is left.
    """
    if len(sys.modules) != modules:
        gc.collect()
        gc.freeze()
    return len(sys.modules)


def _die_with_parent() -> None:
    """A parent that is killed must not leave a measuring process behind. Linux only; elsewhere the closed socket ends it."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
