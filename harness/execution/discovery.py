"""Which backends a suite may use on this machine, and the devices that each of them sees.

Imports neither frameworks nor pandas, nor another package's adapter: its module may fail, exit, crash or hang.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness.ask.suite import Suite
from harness.ask.wording import not_one_of
from harness.axes import Device, Mode
from harness.backends import registry
from harness.errors import SelectionError
from harness.isolate import launcher, worker
from harness.isolate.wire import Adapter, Hello

_CPU_ONLY = (Device("cpu"),)


def concerned(suite: Suite) -> tuple[str, ...]:
    """The registered backends that a suite may use. Raises SelectionError for one that nobody registered."""
    known = registry.names()
    named = (*(suite.axes.backend or ()), *suite.also)
    for name in named:
        if name.partition("@")[0] not in known:
            raise SelectionError(f"backend: {not_one_of(name, known)} (what is registered)")
    return named or known


def adapters(backends: Iterable[str]) -> dict[str, Adapter | str]:
    """What each backend's adapter says without its framework, or why it says nothing."""
    targets = {name: registry.find(name.partition("@")[0]) for name in backends}
    foreign = {name: target for name, target in targets.items() if not registry.ours(target)}
    with tempfile.TemporaryDirectory() as logs:
        told = launcher.look(foreign, Path(logs)) if foreign else {}
    return {name: told[name] if name in foreign else _ours(name, target) for name, target in targets.items()}


def _ours(name: str, target: str) -> Adapter | str:
    try:
        return worker.look(name.partition("@")[0], target)
    except Exception as error:  # a broken installation
        return worker.refusal(error)


def discover(backends: Iterable[str]) -> dict[str, tuple[Device, ...]]:
    """The devices that each installed backend sees. Without an NVIDIA driver that is the CPU, and no framework is imported."""
    told = adapters(backends)
    here = [name for name, answer in told.items() if isinstance(answer, str) or answer.installed]
    answers = probe(name for name in here if isinstance(told[name], Adapter)) if nvidia_driver() else {}
    # A backend that cannot be loaded keeps its cells on the CPU: the launcher makes them rows that say why.
    answer_of = {name: answers.get(name) for name in here}
    return {name: answer.devices if isinstance(answer, Hello) else _CPU_ONLY for name, answer in answer_of.items()}


def modes(backends: Iterable[str]) -> dict[str, tuple[Mode, ...]]:
    """The modes of each backend that says so."""
    return {name: told.modes for name, told in adapters(backends).items() if isinstance(told, Adapter) and told.modes}


def needs_no_process(backends: Iterable[str]) -> bool:
    """Whether `discover` finds these without starting any."""
    targets = [registry.find(name.partition("@")[0]) for name in backends]
    return not nvidia_driver() and all(map(registry.ours, targets))


def probe(backends: Iterable[str]) -> dict[str, Hello | str]:
    """What each backend says of its versions and devices, or why it cannot be loaded."""
    with tempfile.TemporaryDirectory() as logs:
        return launcher.probe({name: registry.find(name.partition("@")[0]) for name in backends}, Path(logs))


def nvidia_driver() -> bool:
    """Whether an NVIDIA driver answers on this machine."""
    try:
        import pynvml

        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except Exception:  # no library, no driver, no device: each version raises its own
        return False
    return True
