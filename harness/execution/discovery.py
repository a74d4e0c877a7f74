"""Which backends a suite may use on this machine, and the devices that each of them sees.

Imports neither frameworks nor pandas, nor another package's adapter: its module may fail, exit, crash or hang.
"""

import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from harness.ask import interpreters as paths
from harness.ask.suite import Suite
from harness.ask.wording import not_one_of, show
from harness.axes import LABEL, Device, Mode
from harness.backends import registry
from harness.errors import SelectionError, SuiteError
from harness.isolate import launcher, worker
from harness.isolate.wire import Adapter, Hello
from harness.plan import interpreter

_CPU_ONLY = (Device("cpu"),)


def concerned(suite: Suite) -> tuple[str, ...]:
    """The registered backends that a suite may use. Raises SelectionError for one that nobody registered."""
    known = registry.names()
    named = (*(known if suite.axes.backend is None else suite.axes.backend), *suite.also)
    for name in (*named, *suite.interpreters):
        if name.partition("@")[0] not in known:
            raise SelectionError(f"backend: {not_one_of(name, known)} (what is registered)")
    return tuple(dict.fromkeys(named))


def refuse_interpreters(suite: Suite, given: Mapping[str, str]) -> None:
    """Raises UserError where a path, by which cells of a suite are to be measured, is no file that can be executed.

    `given` are those of the command line, each of which has to be one; of the suite's own it is those that are used.
    """
    backends = concerned(suite)
    used = (*backends, *(f"{backend}{LABEL}{suite.standard}" for backend in backends))
    named = {name if name in suite.interpreters else name.partition(LABEL)[0] for name in used}
    for name, path in suite.interpreters.items():
        if (name in given or name in named) and (why := paths.unusable(path)):
            told = f"{name}: found {show(path)}, which {why}; allowed: {paths.ALLOWED}"
            raise SelectionError(f"--python: {told}") if name in given else SuiteError(f"{suite.path}: [python]: {told}")


def interpreters(backends: Iterable[str], given: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The paths of the interpreters that backends have of their own: those given, and those found.

    One is found for a backend that is not installed in this interpreter's virtual environment and has one beside it, whose
    folder is named after it: `.venv-tensorflow` beside `.venv`.
    """
    found = dict(given)
    if sys.prefix == sys.base_prefix:
        return found
    for name in {name.partition("@")[0] for name in backends} - set(found):
        python = Path(sys.prefix).parent / f".venv-{name}" / "bin" / "python"
        if python.exists() and registry.ours(registry.find(name)) and not registry.installed(name):
            found[name] = str(python)
    return found


def adapters(backends: Iterable[str], given: Mapping[str, str] = MappingProxyType({})) -> dict[str, Adapter | str]:
    """What each backend's adapter says without its framework, or why it says nothing.

    Here as below `given` are paths of interpreters; those that are found join them.
    """
    backends = tuple(backends)
    pythons = interpreters(backends, given)
    targets = {name: registry.find(name.partition("@")[0]) for name in backends}
    foreign = {name: target for name, target in targets.items() if interpreter(pythons, name) or not registry.ours(target)}
    with tempfile.TemporaryDirectory() as logs:
        told = launcher.look(foreign, Path(logs), pythons) if foreign else {}
    return {name: told[name] if name in foreign else _ours(name, target) for name, target in targets.items()}


def _ours(name: str, target: str) -> Adapter | str:
    try:
        return worker.look(name.partition("@")[0], target)
    except Exception as error:  # a broken installation
        return worker.refusal(error)


def discover(backends: Iterable[str], given: Mapping[str, str] = MappingProxyType({})) -> dict[str, tuple[Device, ...]]:
    """The devices that each installed backend sees. Without an NVIDIA driver that is the CPU, and no framework is imported."""
    told = adapters(backends, given)
    here = [name for name, answer in told.items() if isinstance(answer, str) or answer.installed]
    able = [name for name in here if isinstance(told[name], Adapter)]
    answers = probe(able, given) if nvidia_driver() else {}
    # A backend that cannot be loaded keeps its cells on the CPU: the launcher makes them rows that say why.
    answer_of = {name: answers.get(name) for name in here}
    return {name: answer.devices if isinstance(answer, Hello) else _CPU_ONLY for name, answer in answer_of.items()}


def absent(
    backends: Iterable[str], found: Iterable[str], given: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:  # fmt: skip
    """The command that installs it, of each of these backends that is not installed; `found` are those of `discover`."""
    told = adapters(set(backends).difference(found), given)
    return {name: each.remedy for name, each in sorted(told.items()) if isinstance(each, Adapter) and not each.installed}


def answers(backends: Iterable[str], given: Mapping[str, str] = MappingProxyType({})) -> dict[str, Hello | str]:
    """What each installed backend says of its versions, its build and its devices, or why it says nothing."""
    told = adapters(backends, given)
    silent = {name: answer for name, answer in told.items() if isinstance(answer, str)}
    able = [name for name, answer in told.items() if isinstance(answer, Adapter) and answer.installed]
    return silent | probe(able, given)


def modes(backends: Iterable[str], given: Mapping[str, str] = MappingProxyType({})) -> dict[str, tuple[Mode, ...]]:
    """The modes of each backend that says so."""
    told = adapters(backends, given)
    return {name: each.modes for name, each in told.items() if isinstance(each, Adapter) and each.modes}


def needs_no_process(backends: Iterable[str], given: Mapping[str, str] = MappingProxyType({})) -> bool:
    """Whether `discover` finds these without starting any."""
    backends = tuple(backends)
    pythons = interpreters(backends, given)
    if any(interpreter(pythons, name) for name in backends):
        return False
    targets = [registry.find(name.partition("@")[0]) for name in backends]
    return not nvidia_driver() and all(map(registry.ours, targets))


def probe(backends: Iterable[str], given: Mapping[str, str] = MappingProxyType({})) -> dict[str, Hello | str]:
    """What each backend says of its versions and devices, or why it cannot be loaded."""
    targets = {name: registry.find(name.partition("@")[0]) for name in backends}
    with tempfile.TemporaryDirectory() as logs:
        return launcher.probe(targets, Path(logs), interpreters(targets, given))


def nvidia_driver() -> bool:
    """Whether an NVIDIA driver answers on this machine."""
    try:
        import pynvml

        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except Exception:  # no library, no driver, no device: each version raises its own
        return False
    return True
