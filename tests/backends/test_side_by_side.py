"""Twenty prepared cells in one process do not touch one another, with every real framework in a process of its own.

What is called and looked at there stands in `side_by_side.py`. Times are looked at by the long tests alone.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.axes import Device, Mode, Precision
from harness.backends import registry
from tests.backends.side_by_side import CELLS, code_of
from tests.builders import cell

ROOT = Path(__file__).parents[2]
BACKENDS = registry.names()
COMPILERS = [name for name in BACKENDS if registry.resolve(registry.find(name)).modes - {Mode.EAGER}]
KEEPERS = ["jax", "torch"]  # what they compiled for the CPU can be kept in a folder
LONG = pytest.mark.long
Child = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Child:
    """What a process saw, by the name of the backend, the folder for compilers, and how it was asked; each runs once."""

    @cache
    def answer(name: str, folder: str = "", *how: str) -> dict[str, Any]:
        if not registry.installed(name):
            pytest.skip(f"{name} is not installed")
        if name == "torch" and how and not shutil.which(os.environ.get("CXX", "g++")):
            pytest.skip("no compiler for torch.compile")
        place = os.fspath(tmp_path_factory.getbasetemp() / f"{name}-{folder}") if folder else ""
        command = [sys.executable, "-W", "ignore", "-m", "tests.backends.side_by_side", name, place, *how]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    return answer


@pytest.fixture(params=["part", pytest.param("whole", marks=LONG)])
def seen(child: Child, name: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Twenty cells alone and side by side; those of PyTorch that need a C++ compiler are among them in the long form."""
    return child(name, "twenty", *([request.param] if request.param == "whole" else []))


def differing(expected: dict[str, Any], found: dict[str, Any], *keys: str) -> dict[str, Any]:
    """By cell, what differs from what it was alone."""
    pairs = {name: (expected[name], visit) for name, visit in found.items()}
    return {name: (alone, visit) for name, (alone, visit) in pairs.items() if any(alone[key] != visit[key] for key in keys)}


@pytest.mark.parametrize("name", BACKENDS)
def test_twenty_cells_side_by_side_give_the_bits_that_each_gave_alone(seen: dict[str, Any]):
    alone = seen["alone"]
    assert len(alone) == CELLS
    assert len({visit["bits"] for visit in alone.values()}) > CELLS / 2
    for visits in (seen["beside"], *seen["turns"]):
        assert differing(alone, visits, "bits") == {}
    assert [len(visits) for visits in seen["turns"]] == [CELLS, CELLS, CELLS / 2]


@pytest.mark.parametrize("name", BACKENDS)
def test_they_run_the_same_program_and_the_same_kernels(seen: dict[str, Any], name: str):
    assert differing(seen["alone"], seen["beside"], "program") == {}
    for visits in (seen["beside"], *seen["turns"]):
        assert differing(seen["alone"], visits, "kernels") == {}
    if name == "torch" and os.uname().machine == "x86_64":  # the others have kernels of their own as well
        assert any(visit["kernels"] for visit in seen["alone"].values())
    assert (seen["compiled"] >= CELLS / 2) == (name in COMPILERS)


@pytest.mark.parametrize("name", BACKENDS)
def test_no_visit_compiles_anything_and_the_settings_stay(seen: dict[str, Any]):
    for visits in (seen["beside"], *seen["turns"]):
        assert differing(seen["alone"], visits, "settings") == {}
        assert {visit["compiled"] for visit in visits.values()} == {0}
    assert seen["changed"] == []


@pytest.mark.parametrize("name", COMPILERS)
def test_a_closed_cell_lets_go_of_its_own_program_and_of_no_other(seen: dict[str, Any]):
    none, all_of_them, half, after = seen["alive"]
    assert none < half < all_of_them
    assert after == none


@pytest.mark.parametrize("name", BACKENDS)
def test_settings_that_cannot_be_had_side_by_side_are_told_apart(child: Child, name: str):
    """What a cell in fp32 had set is read back unchanged after another was prepared exactly where both need the same."""
    found = child(name, "twenty")["precisions"]
    assert all(alike == unchanged for alike, unchanged in found.values()), found
    other = {"torch": ["tf32"], "tensorflow": ["tf32"], "jax": ["fp64"]}.get(name, [])
    assert [precision for precision, (alike, _) in found.items() if not alike] == other


@pytest.mark.parametrize("name", BACKENDS)
def test_what_a_cell_needs_of_the_process_is_asked_before_it_is_prepared(name: str):
    backend = object.__new__(registry.resolve(registry.find(name)))
    answers = {precision: backend.process_wide(cell(precision=precision)) for precision in Precision}
    assert set(map(type, answers.values())) <= {str, Precision}


# What compilers leave in a folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KEEPERS)
def test_what_was_compiled_by_an_earlier_process_is_used_and_is_the_same_program(child: Child, name: str):
    """The text of the programs, the bits of their results, and the machine code: of the libraries that inductor loaded, and of
    the programs in JAX's folder, which are what a process that compiles them itself has in memory."""
    first, second = (child(name, "kept", "first", turn) for turn in ("once", "again"))
    assert differing(first["found"], second["found"], "text", "bits", "first", "kernels") == {}
    assert len(first["loaded"]) > 1
    if name == "jax":
        assert (first["hits"], second["hits"]) == (0, len(first["kept"]))
        assert first["loaded"] == first["kept"] == second["kept"]
    else:
        assert first["loaded"] == second["loaded"]
        assert second["written"] == 0 < first["written"]


@pytest.mark.parametrize("name", ["jax", pytest.param("torch", marks=LONG)])
def test_it_is_what_a_process_without_such_a_folder_compiles(child: Child, name: str):
    without, first = child(name, "", "first"), child(name, "kept", "first", "once")
    assert differing(without["found"], first["found"], "text", "bits", "first", "kernels") == {}
    assert without["loaded"] == first["loaded"]


@pytest.mark.parametrize("name", KEEPERS)
def test_a_program_is_compiled_once_only_where_a_folder_is_given_and_not_for_a_gpu(name: str):
    kind = registry.resolve(registry.find(name))
    without, kept = kind.environ(Device("cpu"), 2), kind.environ(Device("cpu"), 2, "/a/folder")
    assert not any("/a/folder" in value for value in without.values())
    assert [value for value in kept.values() if "/a/folder" in value] == [f"/a/folder/{'jax' if name == 'jax' else 'inductor'}"]
    assert kind.environ(Device("gpu"), 2, "/a/folder") == kind.environ(Device("gpu"), 2)
    switch = {"torch": "TORCHINDUCTOR_FORCE_DISABLE_CACHES", "jax": "JAX_ENABLE_COMPILATION_CACHE"}[name]
    assert without[switch] in ("1", "false")
    assert kept[switch] in ("0", "true")


def test_inductor_is_given_no_folder_whose_name_it_would_split():
    """It writes commands for the C++ compiler without quotation marks."""
    kind = registry.resolve(registry.find("torch"))
    assert kind.environ(Device("cpu"), 2, "/a folder") == kind.environ(Device("cpu"), 2)


def test_other_machine_code_is_told_apart():
    """With two extension modules of NumPy for programs."""
    from numpy._core import _multiarray_umath
    from numpy.linalg import _umath_linalg

    one, other = (Path(module.__file__).read_bytes() for module in (_multiarray_umath, _umath_linalg))
    assert code_of(one) == code_of(b"what stands before it" + one)
    assert len({code_of(one), code_of(other), code_of(b"none")}) == 3


# What a call costs beside others ------------------------------------------------------------------------------------------


@LONG
@pytest.mark.parametrize("name", BACKENDS)
def test_a_small_call_costs_beside_nineteen_others_what_it_costs_alone(child: Child, name: str):
    """By processor time. The figure is printed; what is asserted would only show a search among programs, or a compilation."""
    for mode, ratios in child(name, "dispatch", "dispatch").items():
        print(f"{name} {mode}: {statistics.median(ratios):.3f} times as much", [round(ratio, 3) for ratio in ratios])
        assert statistics.median(ratios) < 1.25
