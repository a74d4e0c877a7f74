"""How scripts/fidelity reads other tools beside convbench; how long anything takes is no matter of tests."""

import os
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from harness.ask import suite
from harness.isolate.launcher import Launcher
from harness.record import Status
from scripts import oracles
from scripts.fidelity import noise, sampling, turns
from tests import builders

CELL = ("depthwise/wgrad",)


def test_other_tools_are_read_on_both_sides_of_convbench() -> None:
    """A machine that gets slower with every reading favours nobody: all see the same time in the middle."""
    told: list[str] = []

    def read(tool: str) -> tuple[float, float]:
        told.append(tool)
        return 100.0 * 2.0 ** len(told), float(len(told))

    found = turns.bracketed(("loop", "timer"), read, lambda: told.append("convbench"))
    assert told == ["loop", "timer", "convbench", "timer", "loop"]
    assert {tool: ns for tool, (ns, _) in found.items()} == pytest.approx(dict.fromkeys(("loop", "timer"), 100.0 * 2.0**3))
    assert {tool: seconds for tool, (_, seconds) in found.items()} == {"loop": 3.0, "timer": 3.0}


def test_what_the_correction_is_worth_between_nights_is_what_the_kept_nights_say() -> None:
    root = turns.ROOT
    asked = Namespace(store=root / "results" / "samples" / "short-nights", suite="short-night", first=20)
    assert "\n".join(noise.describe_nights(asked)) in (root / "docs" / "fidelity.md").read_text()


def test_its_cells_are_those_of_the_suite_noise() -> None:
    """So the noise, the slowdowns and the ratios that the page gives are of the same convolutions."""
    asked = {workload.name: workload.spec for workload in suite.load("noise").workloads}
    for name in turns.CELLS:
        layer, direction = name.split("/")
        cell = turns.cell_of("jax", name)
        assert cell.conv == asked[layer]
        assert (cell.direction, cell.backend, cell.mode, cell.threads) == (direction, "jax", "compiled", 1)


@pytest.mark.parametrize("cells", [CELL, pytest.param((*CELL, "example/fprop"), marks=pytest.mark.long)])
def test_a_cell_is_measured_by_a_worker_and_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: tuple[str, ...]
) -> None:
    started: list[list[str]] = []
    popen = turns.subprocess.Popen
    monkeypatch.setattr(turns.subprocess, "Popen", lambda command, **rest: started.append(command) or popen(command, **rest))
    turn = turns.Turn("torch", busy=False)
    for cell in cells:
        turns.one_cell(turn, cell, 0, ["plain loop"], settled=True, busy=0, logs=tmp_path)
    assert sum(str(turns.ORACLES) in command for command in started) == len(cells)
    for cell in cells:
        record = turn.records[cell]
        assert record.status is Status.OK
        assert record.cell == turns.cell_of("torch", cell)
        assert turn.read_ns["convbench"][cell] == turns.median_ns(record)
        assert turn.read_ns["plain loop"][cell] > 0
    assert set(turn.wall_s) == {"convbench", "plain loop"}


def test_a_worker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(launcher: Launcher, plan: object):
        yield builders.failed(Status.CRASHED, "no such library")

    monkeypatch.setattr(Launcher, "execute", refused)
    with pytest.raises(SystemExit, match=r"conv.*crashed: no such library"):
        turns.one_cell(turns.Turn("torch", False), "depthwise/wgrad", 0, ["plain loop"], True, 0, tmp_path)


def test_one_call_is_sampled_and_in_a_loop_by_turns_in_a_process_of_its_own() -> None:
    affinity = os.sched_getaffinity(0)
    rounds = sampling.read_in_one_process("torch", "depthwise/wgrad", 2)
    assert len(rounds) == 2
    assert all(ours > 0 and theirs > 0 for ours, theirs in rounds)
    assert os.sched_getaffinity(0) == affinity


@pytest.mark.parametrize("framework", ["tensorflow", "torch"])
def test_only_the_loop_of_tensorflow_has_no_function_above_it(framework: str) -> None:
    pytest.importorskip("greenlet", reason="comes with TensorFlow's extra")
    above = oracles.beneath_nothing(framework)(lambda frame: frame().f_back, sys._getframe)
    assert (above is None) is (framework == "tensorflow")


def test_the_loop_waits_itself_with_no_function_around_the_call() -> None:
    above: list[str] = []
    waited: list[object] = []

    def launch() -> object:
        above.append(sys._getframe().f_back.f_code.co_name)
        return len(above)

    assert oracles.plain_loop(oracles.Waited(launch, waited.append)) > 0
    warm = above.count("__call__")
    assert above[:warm] == ["__call__"] * warm
    assert above[warm:] == ["plain_loop"] * (len(above) - warm)
    assert len(above) - warm >= 10
    assert waited == list(range(1, len(above) + 1))


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match="'nothing' is not registered"):
        sampling.read_in_one_process("nothing", "depthwise/wgrad", 1)
