"""How scripts/fidelity reads a plain loop beside convbench; how long anything takes is no matter of tests."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.ask import suite
from harness.isolate.launcher import Launcher
from harness.plan import Budget, Plan, Step
from harness.record import Record, Series, SeriesKind, Status, Visit
from scripts import oracles
from scripts.fidelity import effects, frameworks, noise, sampling
from tests import builders

CELLS = ("depthwise/wgrad", "example/fprop")


def scripted(plan: Plan, told: list[str]) -> Iterator[Visit]:
    """Our visits in the order of the windows, each twice as long as the one before."""
    from harness.isolate.windows import Window

    for turn in range(plan.budget.visits):
        for place, step in enumerate(Window(tuple((step,) for step in plan.steps)).turn(turn, plan.seed)):
            told.append(f"ours {step.order}")
            series = Series(SeriesKind.LATENCY, 1, (2 ** len(told),), (0,), (0,), "visits")
            yield Visit(step.order, 0, turn, place, (series,), 0, 0, None)


def test_each_visit_of_ours_has_one_of_the_loop_right_beside_it_and_chance_says_which_is_first() -> None:
    steps = tuple(Step(1, order, frameworks.cell_of("torch", cell)) for order, cell in enumerate(CELLS))
    plan, told = Plan("fidelity", steps, 0, Budget(visits=20)), []

    def read(order: int) -> float:
        told.append(f"loop {order}")
        return 2.0 ** len(told)

    found = list(frameworks.beside(plan, scripted(plan, told), read))
    assert told[:2] == [f"ours {found[0][1]}", f"loop {found[0][1]}"]  # right before our first one everything is prepared
    pairs = list(zip(told[::2], told[1::2], strict=True))
    assert {first.split()[1] == second.split()[1] for first, second in pairs} == {True}
    firsts = [first.split()[0] for first, _ in pairs]
    assert 10 < firsts.count("loop") < 30
    assert [theirs / ours for _, _, ours, theirs in found] == [2.0 if first == "ours" else 0.5 for first in firsts]
    assert [order for _, order, _, _ in found] == [int(first.split()[1]) for first, _ in pairs]
    assert [turn for turn, *_ in found] == [number // 2 for number in range(40)]


def test_a_ratio_is_the_median_over_turns_and_then_the_mean_over_pairs_of_processes() -> None:
    """A burst that spoils a turn changes nothing, a process of another kind shows in the interval."""
    ratios = np.ones((4, len(frameworks.CELLS), 5))
    ratios[:, :, 0] = 50.0  # a burst in each
    ratios[3] *= 1.5  # one pair
    ratios[0, 0, 1] = np.nan  # a void visit
    logs = frameworks.by_pair(ratios)
    assert np.exp(logs) == pytest.approx(np.repeat([[1.0], [1.0], [1.0], [1.5]], len(frameworks.CELLS), axis=1))
    lines = frameworks.tables({"torch": ratios}, {"torch": np.full(len(frameworks.CELLS), 1e6)})
    assert "**1.1067**" in lines[2]
    assert "| NO | 0 of 12 | 0 of 12 |" in lines[2]
    assert "0.8015 to 1.5280" in lines[2]
    assert sum("1.000 1.000 1.000 1.500" in line for line in lines) == 12
    quiet = frameworks.tables({"jax": np.full((3, 12, 4), 1.01)}, {"jax": np.full(12, 1e6)})
    assert "| yes | 12 of 12 | 12 of 12 |" in quiet[2]


def test_a_visit_is_read_as_the_median_of_its_blocks() -> None:
    series = Series(SeriesKind.LATENCY, 10, (1000, 1200, 5000), (0, 0, 2500), (0, 0, 4000), "visits")
    assert frameworks.visit_ns(Visit(0, 0, 0, 0, (series,), 0, 0, None)) == 120
    assert np.isnan(frameworks.visit_ns(Visit(0, 0, 0, 0, (), 0, 0, None, "compiled again")))


def test_its_cells_are_of_the_suite_noise_with_every_pass_four_times() -> None:
    """So the noise and the ratios that the page gives are of the same convolutions."""
    asked = {workload.name: workload.spec for workload in suite.load("noise").workloads}
    passes = []
    for name in frameworks.CELLS:
        layer, direction = name.split("/")
        cell = frameworks.cell_of("jax", name)
        assert cell.conv == asked[layer]
        assert (cell.direction, cell.backend, cell.mode, cell.threads) == (direction, "jax", "compiled", 1)
        passes.append(direction)
    assert {direction: passes.count(direction) for direction in oracles.PASSES} == dict.fromkeys(oracles.PASSES, 4)
    assert {name.split("/")[0] for name in frameworks.CELLS} == set(oracles.LAYERS)


def test_what_the_correction_is_worth_between_nights_is_what_the_kept_nights_say() -> None:
    asked = Namespace(store=effects.ROOT / "results" / "samples" / "short-nights", suite="short-night", first=20)
    assert "\n".join(noise.describe_nights(asked)) in (effects.ROOT / "docs" / "fidelity.md").read_text()


def test_a_worker_and_a_process_of_the_loop_have_the_same_cells_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    popen = frameworks.subprocess.Popen
    monkeypatch.setattr(
        frameworks.subprocess, "Popen", lambda command, **rest: started.append(command) or popen(command, **rest)
    )
    both = frameworks.visited("torch", CELLS, 2, 0, tmp_path)
    assert both.shape == (2, 2, 2)
    assert (both > 0).all()
    assert sum(str(frameworks.ORACLE) in command for command in started) == 1
    assert sum("harness.isolate.worker" in command for command in started) == 1


def test_a_worker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(launcher: Launcher, plan: object) -> Iterator[Record]:
        yield builders.failed(Status.CRASHED, "no such library")

    monkeypatch.setattr(Launcher, "execute", refused)
    with pytest.raises(SystemExit, match=r"conv.*crashed: no such library"):
        frameworks.visited("torch", CELLS, 1, 0, tmp_path)


def test_one_call_is_sampled_and_in_a_loop_by_turns_in_a_process_of_its_own() -> None:
    affinity = os.sched_getaffinity(0)
    rounds = sampling.read_in_one_process("torch", "depthwise/wgrad", 2)
    assert len(rounds) == 2
    assert all(ours > 0 and theirs > 0 for ours, theirs in rounds)
    assert os.sched_getaffinity(0) == affinity


@pytest.mark.parametrize("framework", ["tensorflow", "torch"])
def test_only_the_loop_of_tensorflow_has_no_function_above_it(framework: str) -> None:
    pytest.importorskip("greenlet", reason="comes with TensorFlow's extra")
    above: list[object] = []
    oracles.loop_of(framework)(lambda: above.append(depth()), 1)
    assert (above == [1]) is (framework == "tensorflow")


def depth() -> int:
    """How many functions stand above the loop, itself included."""
    frame, count = sys._getframe(2), 0
    while frame:
        frame, count = frame.f_back, count + 1
    return count


def test_the_loop_waits_itself_with_no_function_around_the_call() -> None:
    above: list[str] = []
    waited: list[object] = []

    def launch() -> object:
        above.append(sys._getframe(1).f_code.co_name)
        return len(above)

    prepared = oracles.Prepared(oracles.Waited(launch, waited.append), oracles.loop)
    assert set(above) == {"__call__"}
    warm = len(above)
    prepared.call_s = 0.004
    assert prepared.visit() > 0
    assert above[warm:] == ["loop"] * 16  # three that do not count, and thirteen that do
    assert waited == list(range(1, len(above) + 1))


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match="'nothing' is not registered"):
        sampling.read_in_one_process("nothing", "depthwise/wgrad", 1)
