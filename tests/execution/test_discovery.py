"""Backends of other packages, whose modules may do anything when they are imported."""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.axes import Device
from harness.backends import registry
from harness.cli import app
from harness.execution import discovery
from harness.isolate import launcher
from harness.isolate.wire import Adapter

GOOD = "class Backend:\n    distributions = ('numpy',)\n"
MODULES = {
    "good": GOOD,
    "absent": "class Backend:\n    distributions = ('no-such-package',)\n",
    "fails": "raise ImportError('libx.so: cannot open shared object file\\nand more')",
    "exits": "raise SystemExit('not on this machine')",
    "leaves": "import os\nos._exit(3)",
    "crashes": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
    "misspelt": "class Other: pass",
    "empty": "class Backend:\n    distributions = ()\n",
    "hangs": "import signal\nsignal.pause()",
}
WORDS = {
    "fails": "ImportError: libx.so: cannot open shared object file",
    "exits": "exit code 1; last output: not on this machine",
    "leaves": "exit code 3",
    "crashes": "killed by SIGSEGV",
    "misspelt": "AttributeError: module 'plugin_misspelt' has no attribute 'Backend'",
    "empty": "IndexError: tuple index out of range",
}


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers such backends, which this process would find too, beside `numpy`."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    def register(*names: str) -> None:
        points = [EntryPoint("numpy", "harness.backends.numpy:NumpyBackend", registry.GROUP)]
        for name in names:
            (tmp_path / f"plugin_{name}.py").write_text(MODULES[name])
            points.append(EntryPoint(name, f"plugin_{name}:Backend", registry.GROUP))
        monkeypatch.setattr(registry.metadata, "entry_points", lambda group: points)

    return register


@pytest.fixture(autouse=True)
def nobody_imports_them_here() -> None:
    yield
    assert [name for name in sys.modules if name.startswith("plugin_")] == []


@pytest.mark.fault("a plug-in fails, exits or crashes at import", "a line says why, the others go on")
def test_each_adapter_says_what_it_can_or_why_it_cannot(plant: Callable[..., None]) -> None:
    names = [name for name in MODULES if name != "hangs"]
    plant(*names)
    told = discovery.adapters(["numpy", *names])
    assert list(told) == ["numpy", *names]
    assert {name: answer for name, answer in told.items() if isinstance(answer, str)} == WORDS
    good, absent = told["good"], told["absent"]
    assert isinstance(good, Adapter)
    assert good.installed
    assert good.packages.keys() == {"numpy"}
    assert absent == Adapter("no-such-package", {}, "pip install no-such-package")
    assert not absent.installed


@pytest.mark.fault("a plug-in hangs at import", "it is ended, and a line says so")
def test_one_that_hangs_is_ended_and_said(plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant("hangs")
    monkeypatch.setattr(launcher, "LOOK_TIMEOUT_S", 0.5)
    told = discovery.adapters(["numpy", "hangs"])
    assert isinstance(told["numpy"], Adapter)
    assert told["hangs"] == "the worker was not ready within 0.5 s"


def test_what_cannot_be_asked_keeps_its_cells_and_what_is_absent_has_none(
    plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "nvidia_driver", lambda: False)
    plant("crashes", "absent")
    found = discovery.discover(["numpy", "crashes", "absent"])
    assert found == dict.fromkeys(["numpy", "crashes"], (Device("cpu"),))
    assert discovery.absent(["numpy", "crashes", "absent"], found) == {"absent": "pip install no-such-package"}


def test_with_a_gpu_only_those_are_asked_for_devices_that_could_be_looked_at(
    plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "nvidia_driver", lambda: True)
    asked: list[str] = []
    monkeypatch.setattr(discovery, "probe", lambda names, given: asked.extend(names) or dict.fromkeys(asked, "no such device"))
    plant("crashes")
    assert discovery.discover(["numpy", "crashes"]) == dict.fromkeys(["numpy", "crashes"], (Device("cpu"),))
    assert asked == ["numpy"]


@pytest.mark.fault("a plug-in crashes while backends are listed", "the others are listed")
def test_the_list_of_backends_has_a_line_for_each(plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    plant("crashes", "absent", "fails")
    shown = CliRunner().invoke(app, ["list", "backends"])
    assert shown.exit_code == 0, shown.output
    for words in ("killed by SIGSEGV", "not installed: pip install no-such-package", WORDS["fails"], "numpy 2"):
        assert words in shown.output


def test_a_broken_installation_of_our_own_is_said_too(plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant()

    def broken(target: str) -> None:
        raise ModuleNotFoundError("No module named 'harness.backends.numpy'")

    monkeypatch.setattr(registry, "resolve", broken)
    assert discovery.adapters(["numpy"]) == {"numpy": "ModuleNotFoundError: No module named 'harness.backends.numpy'"}
