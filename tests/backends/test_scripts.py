"""A script and the adapter that wrote it are two copies of one call: they give the same bits, and call it by the same name.

What is called and looked at stands in `scripts.py`, in a process of its own for every framework.
"""

import ast
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.axes import Api, Device, Direction, Layout, Mode, Optimizer, Precision
from harness.backends import registry
from harness.measure.script import program
from harness.spec import GemmSpec
from tests import builders
from tests.backends import scripts

ROOT = Path(__file__).parents[2]
BACKENDS = [name for name in registry.names() if name != "numpy"]
PACKAGES = {"torch": {"torch"}, "jax": {"jax", "jaxlib"}, "tensorflow": {"tensorflow"}}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """What a process saw, by the name of the backend and which of its cells; each runs once."""

    @cache
    def answer(name: str, which: str) -> dict[str, Any]:
        if not registry.installed(name):
            pytest.skip(f"{name} is not installed")
        folder = tmp_path_factory.mktemp("scripts")
        command = [sys.executable, "-W", "ignore", "-m", "tests.backends.scripts", name, str(folder), which]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return answer


@pytest.fixture(params=["part", pytest.param("whole", marks=pytest.mark.long)])
def seen(child: Callable[..., dict[str, Any]], name: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The supported cells by their ids, and what was seen of each."""
    found = {cell: what for cell, what in child(name, request.param).items() if "unsupported" not in what}
    assert len(found) >= 30
    return found


@pytest.mark.parametrize("name", BACKENDS)
def test_a_script_gives_the_bits_of_its_adapter(seen: dict[str, Any]):
    """Where two calls of the adapter differ themselves, the check of the script says that both are right."""
    assert {cell for cell, what in seen.items() if what["repeats"] and not what["same"]} == set()
    assert {cell: what["wrong"] for cell, what in seen.items() if what["wrong"]} == {}
    assert sum(what["same"] for what in seen.values()) > 0.9 * len(seen)


@pytest.mark.parametrize("name", BACKENDS)
def test_it_names_the_call_as_the_record_does(seen: dict[str, Any]):
    assert {cell: what["op"] for cell, what in seen.items() if len(set(what["op"])) > 1} == {}


# The program by itself ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("precision", Precision)
def test_it_imports_numpy_and_its_framework_alone(name: str, precision: Precision):
    kind, read = registry.resolve(registry.find(name)), set[str]()
    for cell in scripts.asked(name, kind.modes):
        for device in (Device("cpu"), Device("gpu", 1)):
            asked = dataclasses.replace(cell, precision=precision, device=device)
            if (script := kind.script(asked)) is None:
                line = cell.layout is Layout.CHANNELS_LAST and cell.conv.ndim == 1
                adam = cell.optimizer is Optimizer.ADAM  # whose constants vanish in 16 bits
                assert line or not cell.spec.pads_evenly or cell.api is not Api.DEFAULT or adam
                continue
            text = program(asked, script, [], builders.environment(), 7)
            if scripts.lines(text) <= read:  # what it imports, others import
                continue
            read |= scripts.lines(text)
            tree = ast.parse(text)
            found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            foreign = {each.partition(".")[0] for each in found} - set(sys.stdlib_module_names)
            assert foreign == {"numpy", *PACKAGES[name]}


@pytest.mark.parametrize("name", BACKENDS)
def test_what_an_adapter_does_not_call_it_does_not_write(name: str):
    kind = registry.resolve(registry.find(name))
    other = builders.cell(backend=name, spec=GemmSpec(2, 3, 4), direction=Direction.NONE)
    assert kind.script(other) is None
    if Mode.XLA not in kind.modes:
        assert kind.script(builders.cell(backend=name, mode=Mode.XLA)) is None


@pytest.mark.parametrize("name", BACKENDS)
def test_it_runs_by_itself(name: str, tmp_path: Path):
    """In a process that knows nothing of a run but what the program itself sets, and that cannot import this package."""
    if not registry.installed(name):
        pytest.skip(f"{name} is not installed")
    kind = registry.resolve(registry.find(name))
    cell = scripts.cell(name, scripts.PLAIN, Direction.TRAIN, optimizer=Optimizer.ADAM)
    cores = tuple(sorted(os.sched_getaffinity(0)))
    environ = {"OMP_NUM_THREADS": str(len(cores)), **kind.environ(Device("cpu"), len(cores))}
    text = program(cell, kind.script(cell), ["a head"], builders.environment(affinity=cores, environ=environ), 7)
    (tmp_path / "report.py").write_text(text)
    (tmp_path / "harness.py").write_text("raise ImportError('this package is not there')")
    done = subprocess.run(
        [sys.executable, "report.py", "0"], cwd=tmp_path, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[0] == kind.script(cell).op
    assert "WRONG" not in done.stdout
    (figures,) = (line for line in lines if line.startswith("median "))
    assert float(figures.split()[1]) > 0
    assert f"{len(cores)} cores, {len(cores)} threads" in done.stdout


def test_it_is_short_enough_to_be_read():
    """By its lines of code, with the longest call: a training step that is compiled."""
    for name in BACKENDS:
        kind = registry.resolve(registry.find(name))
        for direction, most in ((Direction.DGRAD, 99), (Direction.TRAIN, 144)):
            optimizer = Optimizer.ADAM if direction is Direction.TRAIN else None
            cell = scripts.cell(name, scripts.PLAIN, direction, mode=Mode.COMPILED, optimizer=optimizer)
            lines = program(cell, kind.script(cell), [], builders.environment(), 7).splitlines()
            assert len([line for line in lines if line and not line.startswith("#")]) <= most
