from pathlib import Path
from typing import Any

import pytest

from harness.measure.gpu import Gpu, State, Told
from harness.measure.power import GpuEnergy, Rapl, Reading, measure
from harness.record import Power

MS = 1_000_000


class Machine:
    """A clock that goes on while calls run, and a counter that moves in steps and draws a fixed power."""

    source, missing = "a counter", ""

    def __init__(self, call_ns: int, step_ns: int, watts: float = 100.0, wait_ns: int = 0) -> None:
        self.call_ns, self.step_ns, self.watts, self.wait_ns = call_ns, step_ns, watts, wait_ns
        self.now = 12_345
        self.calls, self.queued, self.longest = 0, 0, 0
        self.waited: list[int] = []

    def clock(self) -> int:
        return self.now

    def call(self) -> int:
        self.calls += 1
        self.queued += 1
        self.longest = max(self.longest, self.queued)
        self.now += self.call_ns
        return self.calls

    def sync(self, handle: int) -> None:
        self.waited.append(handle)
        self.queued = 0
        self.now += self.wait_ns

    def read(self) -> Reading | None:
        steps = self.now // self.step_ns
        return (round(steps * self.step_ns * self.watts),)  # nanojoules

    def joules(self, before: Reading, after: Reading) -> float:
        return (after[0] - before[0]) / 1e9

    def state(self) -> State:
        return State(1500, 1980, ("SwPowerCap",), 66)


def of(machine: Machine, window_s: float = 1.0, counters: Any = None) -> Power:
    return measure(machine.call, machine.sync, window_s, machine.clock, counters or machine)


@pytest.mark.parametrize("call_ns", [20_000, 3 * MS, 250 * MS])
@pytest.mark.parametrize("step_ns", [MS, 100 * MS])
def test_energy_is_that_of_the_window_from_one_step_of_the_counter_to_another(call_ns: int, step_ns: int) -> None:
    machine = Machine(call_ns, step_ns)
    found = of(machine, window_s=1.057)  # no multiple of a step
    assert found.energy_j is not None
    assert found.window_ns is not None
    assert found.calls is not None
    assert found.window_ns >= 1.057e9
    assert found.calls * call_ns == found.window_ns
    # Off by less than the group of calls in which each step fell, not by a step of the counter.
    group_ns = max(call_ns, 10 * MS)
    assert found.energy_j == pytest.approx(100.0 * found.window_ns / 1e9, abs=100.0 * 2 * min(group_ns, step_ns) / 1e9)
    assert (found.clock_mhz, found.temperature_c, found.throttle_reasons) == (1500, 66, ("SwPowerCap",))
    assert found.source == "a counter"


@pytest.mark.parametrize("call_ns", [7_000, 20_000, 33_000])
def test_calls_are_queued_for_some_milliseconds_and_then_waited_for(call_ns: int) -> None:
    fast = Machine(call_ns, MS)
    of(fast)
    assert 5 * MS <= fast.longest * fast.call_ns <= 20 * MS
    slow = Machine(30 * MS, MS)
    of(slow)
    assert slow.longest == 1
    for machine in (fast, slow):
        assert machine.queued == 0
        assert machine.waited[-1] == machine.calls


@pytest.mark.parametrize("launch_ns", [1, 1_000])
def test_where_launching_is_quick_and_the_wait_long_the_queue_stays_bounded(launch_ns: int) -> None:
    """As on a GPU: it is the wait that tells how much was queued."""
    machine = Machine(launch_ns, MS, wait_ns=8 * MS)
    of(machine)
    assert machine.longest == 1


def test_without_a_counter_nothing_is_called() -> None:
    machine = Machine(MS, MS)
    machine.missing = "no CPU package in /sys/class/powercap"
    assert of(machine) == Power(
        None, None, None, "not measured (no readable energy counter: no CPU package in /sys/class/powercap)"
    )
    assert machine.calls == 0


def test_a_counter_that_stands_still_is_none() -> None:
    machine = Machine(10 * MS, 10**15)
    assert of(machine) == Power(None, None, None, "not measured (a counter did not move within 2 s)")


def test_a_counter_that_stops_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(10 * MS, MS)
    real = machine.read
    monkeypatch.setattr(machine, "read", lambda: real() if machine.now < 900 * MS else None)
    assert of(machine) == Power(None, None, None, "not measured (a counter stopped moving)")


# RAPL ---------------------------------------------------------------------------------------------------------------------


def domain(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two packages with their parts, the platform, and the second road to the first package, as kernels show them."""
    domain(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    domain(tmp_path, "intel-rapl:0:0", "core", 400_000)
    domain(tmp_path, "intel-rapl:0:1", "dram", 300_000)
    domain(tmp_path, "intel-rapl:1", "package-1", 5_000_000)
    domain(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    domain(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000_000)
    (tmp_path / "intel-rapl").mkdir()
    return tmp_path


def test_packages_are_summed_and_their_parts_are_not(tree: Path) -> None:
    counters = Rapl(tree)
    assert (counters.missing, counters.source) == ("", "RAPL package-0, package-1")
    before = counters.read()
    (tree / "intel-rapl:0/energy_uj").write_text("3000000\n")
    (tree / "intel-rapl:1/energy_uj").write_text("5500000\n")
    (tree / "intel-rapl:0:0/energy_uj").write_text("999999999\n")
    after = counters.read()
    assert before == (1_000_000, 5_000_000)
    assert after is not None
    assert counters.joules(before, after) == 2.5
    assert counters.state() == State()


def test_a_counter_that_began_anew_is_counted_on(tmp_path: Path) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", 990_000, range_uj=999_999)
    counters = Rapl(tmp_path)
    before = counters.read()
    (folder / "energy_uj").write_text("40000")
    after = counters.read()
    assert before is not None
    assert after is not None
    assert counters.joules(before, after) == pytest.approx(0.05)


def test_no_tree_is_a_reason(tmp_path: Path) -> None:
    assert Rapl(tmp_path / "nowhere").missing == f"no CPU package in {tmp_path}/nowhere"


def test_a_package_that_may_not_be_read_is_a_reason_and_no_half_of_the_sum(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since 2020 the files belong to root. As root nothing is forbidden, so the refusal is acted."""
    real = Path.read_text

    def refuse(path: Path, *more: Any) -> str:
        if path == tree / "intel-rapl:1/energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *more)

    monkeypatch.setattr(Path, "read_text", refuse)
    counters = Rapl(tree)
    assert counters.missing == f"{tree}/intel-rapl:1/energy_uj: Permission denied"
    machine = Machine(MS, MS)
    assert of(machine, counters=counters).energy_j is None
    assert machine.calls == 0


def test_a_counter_that_cannot_be_read_any_more_tells_nothing(tree: Path) -> None:
    counters = Rapl(tree)
    (tree / "intel-rapl:1/energy_uj").unlink()
    assert counters.read() is None


# GPUs ---------------------------------------------------------------------------------------------------------------------


def fake_gpu(energies: list[int | None]) -> Gpu:
    """A fake of `Gpu`, whose own tests stand beside this file."""
    one, values = object.__new__(Gpu), iter(energies)

    def energy_mj() -> Told:
        value = next(values)
        return Told(value, "" if value is not None else "Not Supported")

    one.energy_mj = energy_mj  # type: ignore[method-assign]
    one.read = lambda: State(1500, 1980, (), 66)  # type: ignore[method-assign]
    return one


def test_a_gpu_counts_millijoules() -> None:
    counters = GpuEnergy(fake_gpu([1, 5_000, 7_250, None]))
    assert (counters.missing, counters.source) == ("", "NVML total energy of the GPU")
    before, after = counters.read(), counters.read()
    assert before is not None
    assert after is not None
    assert counters.joules(before, after) == 2.25
    assert counters.read() is None
    assert counters.state().clock_mhz == 1500


def test_a_gpu_without_the_counter_says_why() -> None:
    assert GpuEnergy(fake_gpu([None])).missing == "Not Supported"
