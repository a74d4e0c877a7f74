"""Which backends a suite may use on this machine, and the devices that each of them sees. Imports neither them nor pandas."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness.ask.suite import Suite
from harness.ask.wording import not_one_of
from harness.backends import registry
from harness.errors import SelectionError
from harness.isolate import launcher
from harness.isolate.wire import Hello
from harness.spec import Device

_CPU_ONLY = (Device("cpu"),)


def concerned(suite: Suite) -> tuple[str, ...]:
    """The registered backends that a suite may use. Raises SelectionError for one that nobody registered."""
    known = registry.names()
    named = (*(suite.axes.backend or ()), *suite.also)
    for name in named:
        if name.partition("@")[0] not in known:
            raise SelectionError(f"backend: {not_one_of(name, known)} (what is registered)")
    return named or known


def discover(backends: Iterable[str]) -> dict[str, tuple[Device, ...]]:
    """The devices that each installed backend sees. Without an NVIDIA driver that is the CPU, and nothing is imported."""
    installed = [name for name in backends if registry.installed(name.partition("@")[0])]
    if not nvidia_driver():
        return dict.fromkeys(installed, _CPU_ONLY)
    answers = probe(installed)
    # A backend that cannot be loaded keeps its cells on the CPU: the launcher makes them rows that say why.
    return {name: answer.devices if isinstance(answer, Hello) else _CPU_ONLY for name, answer in answers.items()}


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
