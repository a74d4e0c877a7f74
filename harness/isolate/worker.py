"""The child process: set itself up, load one backend, prepare, visit and finish steps until told to stop.

Everything that must be settled before a framework is imported is settled in `load`, in this order: affinity, the thread
variables that all libraries read, the backend's own variables. Only then numpy and the framework are loaded. Whoever else
measures in a process of its own (`pytest_plugin`) makes it ready by the same functions.
"""

import ctypes
import fcntl
import gc
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.axes import VARIABLES, Autotune, Device, Switch
from harness.backends import packages, registry
from harness.backends.base import Backend
from harness.isolate import interpreter
from harness.isolate.wire import (
    Adapter,
    Alone,
    Asked,
    Call,
    Channel,
    Closed,
    ClosedError,
    Done,
    Finish,
    GoOn,
    Hello,
    Look,
    Prepare,
    Ready,
    Refused,
    Seen,
    Setup,
    Stop,
    Visited,
    Watch,
    Working,
)
from harness.plain import plain
from harness.record import Record, Visit

if TYPE_CHECKING:
    from harness.measure.engine import Engine

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# NumPy asks the kernel for huge pages under its arrays from 4 MiB on, and operands and checks are such arrays. What they leave
# in the heap a framework's buffers would get next, faster than the framework has them by itself. Read when NumPy is imported.
_NO_HUGE_PAGES = {"NUMPY_MADVISE_HUGEPAGE": "0"}


def main(descriptor: int, parent: int) -> None:
    """Serve the conversation on an inherited socket until Stop, or until the parent, a process id, is gone."""
    die_with_parent()
    leave_ending_to_parent()
    if os.getppid() != parent:  # it was gone before the kernel was told to end this process with it
        return
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)  # what a framework starts must not hold the conversation open
    channel = Channel(connection)
    try:
        _serve(channel)
    except ClosedError:
        return


def _serve(channel: Channel) -> None:
    setup, before = channel.receive(), dict(os.environ)
    try:
        if isinstance(setup, Look):
            channel.send(look(setup.backend, setup.target, foreign=setup.foreign))
            return
        if not isinstance(setup, Setup):
            raise TypeError(f"expected Setup or Look, got {setup}")
        if reason := registry.missing(setup.backend.partition("@")[0], setup.target, foreign=setup.foreign):
            channel.send(Refused(reason, absent=True))
            return
        if setup.profile:
            set_output_apart()
        backend = load(
            setup.target, setup.device, setup.cores, probe=setup.probe, cache=setup.cache, profile=setup.profile,
            options=setup.options,
        )  # fmt: skip
        if setup.foreign and interpreter.outside(backend.distributions[0].replace("-", "_")):
            raise ImportError(f"{backend.distributions[0]} was loaded from outside its interpreter's environment")
        devices = backend.devices()
        build = backend.build() if setup.probe else None
    except Exception as error:
        channel.send(Refused(refusal(error)))
        return
    from harness.measure import cuda_errors, environment, footprint, gpu, power
    from harness.measure.engine import Engine
    from harness.measure.yardstick import Yardstick

    modules = set_aside(0)
    without = uncached(type(backend), setup) if setup.cache else {}
    board = gpu.Gpu(setup.device.index) if setup.device.kind == "gpu" else None
    facts = environment.board(board, backend.board(), setup.board) if board else {}
    untold = {**without, **unwatched(type(backend), setup, before)}
    here = environment.describe(
        setup.backend, backend.distributions, setup.machine, untold, facts, (setup.gpu, setup.driver)
    )  # fmt: skip
    channel.send(Hello(here, devices, build, packages.of_gpus() if setup.probe else ()))
    if board is None:
        beside: dict[str, Any] = {"yardstick": Yardstick(), "counters": power.Rapl(), "room": footprint.Look()}
    else:
        beside = {"gpu": board, "counters": power.GpuEnergy(board), "room": footprint.Look(board, idle=backend.idle_bytes)}
    engine = Engine(backend, setup.budget, setup.seed, setup.run_id, here.id, cached=bool(without), **beside)
    while not isinstance(message := channel.receive(), Stop):
        if not isinstance(message, Alone | Prepare | Call | Finish | Watch):
            raise TypeError(f"expected something to do, or Stop, got {message}")
        record = _answer(channel, engine, message)
        if not engine.holds:
            modules = set_aside(modules)  # before the answer, since another worker is asked after it
        if record is None:
            continue
        told = [record.reason, *(record.settings or {}).values()]
        told += [record.memory.method if record.memory else "", record.power.source if record.power else ""]
        broken = any(map(cuda_errors.fatal, told))
        channel.send(Closed(message.number, record.settings, record.spent_ns, leaving=broken))
        if broken:  # every later cell would fail with the same error
            return


def _answer(channel: Channel, engine: "Engine", message: Asked) -> Record | None:
    """Do what was asked. Returns the record of a step that has ended, sent before its call was let go of; None: it goes on."""
    from harness.measure.sampling import Taken

    at = ""

    def enter(name: str) -> None:
        nonlocal at
        if name != at:
            at = name
            channel.send(Working(message.number, at))
            if not isinstance(answer := channel.receive(), GoOn):
                raise TypeError(f"expected GoOn, got {answer}")

    def deliver(record: Record) -> None:
        nonlocal at
        channel.send(Done(message.number, record))
        at = "operands"  # which are let go of next, as the parent knows

    engine.enter = enter
    match message:
        case Alone():
            return engine.alone(message.step, deliver)
        case Finish():
            return engine.finish(message.order, deliver)
        case Prepare():
            if settings := engine.apart(message.step):
                channel.send(Ready(message.number, {}, apart=settings))
                return None
            if record := engine.prepare(message.step, deliver):
                return record
            channel.send(Ready(message.number, engine.spent_ns(message.step.order)))
        case Call():
            engine.enter = lambda name: None  # nothing is said during a visit
            found = engine.visit(message.order, deliver)
            if not isinstance(found, Taken):
                return found
            visit = Visit(message.order, 0, 0, 0, **vars(found), spent_ns=engine.spent_ns(message.order))
            channel.send(Visited(message.number, visit))
        case Watch():
            from harness.measure import cuda_errors, profiling

            seen = profiling.profile(engine, message.step, message.trace)
            channel.send(Seen(message.number, seen, leaving=cuda_errors.fatal(seen.problem)))
    return None


def look(backend: str, target: str, *, foreign: bool = False) -> Adapter:
    """What an adapter says without its framework: only the adapter's own file is imported. Raises whatever that throws.

    `foreign` says whether this interpreter is one that was named for this backend.
    """
    kind = registry.resolve(target)
    names = kind.distributions
    remedy = "" if packages.present(names[0]) else registry.remedy(backend, target, foreign=foreign)
    return Adapter(names[0], packages.versions(names), remedy, tuple(sorted(getattr(kind, "modes", ()))))


def uncached(kind: type[Backend], setup: Setup) -> dict[str, str | None]:
    """The variables of a backend that its compilers' caches change, as they are without any; None for one that is not set."""
    threads = len(setup.cores)
    plain, kept = kind.environ(setup.device, threads), kind.environ(setup.device, threads, setup.cache)
    return {name: plain.get(name) for name in {**plain, **kept} if plain.get(name) != kept.get(name)}


def unwatched(kind: type[Backend], setup: Setup, before: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that a profile sets, as they are in a process that is timed: an environment is told without them.

    `before` are all variables as this process found them.
    """
    if not setup.profile:
        return {}
    threads = len(setup.cores)
    plain = {**before, **kind.environ(setup.device, threads)}
    return {name: plain.get(name) for name in kind.profile_environ(setup.device, threads)}


def set_output_apart() -> None:
    """Have descriptor 1 be a file of this process alone, from which an adapter can read what a library printed there."""
    file = os.memfd_create("stdout")
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)  # so that cutting it does not leave a hole
    os.dup2(file, 1)
    os.close(file)


def load(
    target: str, device: Device, cores: Sequence[int], *, probe: bool = False, cache: str = "", profile: bool = False,
    options: Mapping[str, str] = MappingProxyType({}),
) -> Backend:  # fmt: skip
    """The backend behind `module:Class`, made in this process once all is settled that its framework reads when it is imported.

    `cores` become the affinity. A probe sets none of the backend's environment variables. `cache`, `profile` and `options` are
    those of `Setup`. Raises whatever importing a framework may throw: it may be absent, broken, or built for another CPU;
    `refusal` puts that into words.
    """
    os.sched_setaffinity(0, cores)
    threads = len(cores)
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)) | _NO_HUGE_PAGES)
    kind = registry.resolve(target)
    if not issubclass(kind, Backend):
        raise TypeError(f"{target} does not inherit from {Backend.__module__}.Backend")
    if probe or device.kind == "gpu":
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as NVML counts, where CUDA counts by speed; see `gpu`
    if not probe:
        os.environ.update(kind.environ(device, threads, cache))
    if profile:
        os.environ.update(kind.profile_environ(device, threads))
    for name, variable in VARIABLES.items():
        os.environ.pop(variable, None)
        if value := options.get(name):
            if name == "autotune":
                os.environ.update(kind.autotuning(Autotune(value)))
            elif value in kind.switches:  # whoever has it not says so of each cell
                os.environ.update(kind.switching(Switch(value)))
            os.environ[variable] = value
    backend: Backend = kind(device, threads)
    from harness.measure import memory

    memory.settle_allocator()
    return backend


def refusal(error: Exception) -> str:
    """Why a backend could not be loaded, on one line."""
    lines = str(error).strip().splitlines() or [""]
    return plain(f"{type(error).__name__}: {lines[0]}"[:500])


def set_aside(modules: int) -> int:
    """Keep what imported modules hold from being collected; how many modules there are, `modules` of them set aside before.

    A framework leaves some hundred thousand objects, part of them when it first compiles; looking through them anew before
    every cell is sampled would take 0.15 s each. Between two cells nothing of a cell is left.
    """
    if len(sys.modules) != modules:
        gc.collect()
        gc.freeze()
    return len(sys.modules)


def leave_ending_to_parent() -> None:
    """Overhear what asks a group of processes to end: the parent hears it too, and a cell that was cut off has not crashed.

    By a function, since being ignored would be inherited by whatever program the framework starts.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


def die_with_parent() -> None:
    """A parent that is killed must not leave a measuring process behind. Linux only; elsewhere the closed socket ends it."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
