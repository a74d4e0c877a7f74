"""One cell to one profile, by a scripted clock: which calls are made, which of them count, and what is told of the others."""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, cycle, repeat
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.axes import Cache
from harness.backends.base import Results
from harness.measure import profiling
from harness.measure.engine import Engine
from harness.plan import Budget
from harness.profile import Event, Kernel, Kind, Level, Profile, trace_name
from tests.measure.scripted import BUDGET, CALL, MS, TRAIN, Backend, Clock, Machine, Prepared, S, step


class Watched(Prepared):
    """Calls of which something tells: an operator for the first half of each, and a primitive from a tenth of it on."""

    sources: ClassVar[tuple[str, ...]] = ("scripted 1.0",)
    told: list[Event] | None = None

    def launch(self) -> int:
        begun = self.clock.now
        left = super().launch()
        took = self.clock.now - begun + left
        if self.told is not None:
            self.told += [
                Event(begun, begun + took // 2, "main", Level.OPERATOR, "conv2d", Kind.FRAMEWORK, "scripted"),
                Event(begun + took // 10, begun + took, "lib", Level.PRIMITIVE, "conv", Kind.CONVOLUTION, "lib"),
            ]
        return left

    @contextmanager
    def watched(self) -> Iterator[Callable[[], Iterable[Event]]]:
        self.backend.note("watch")
        self.told = told = []
        yield lambda: told
        self.told = None
        self.backend.note("unwatch")

    def compiled_flops(self) -> float:
        return 576.0


@pytest.fixture
def backend(clock: Clock) -> Backend:
    return watched(clock, repeat(CALL))


def watched(clock: Clock, durations: Iterable[int]) -> Backend:
    found = Backend(clock, durations)
    found.kind = Watched
    return found


def profile(backend: Backend, trace: str = "", budget: Budget = BUDGET, **cell: Any) -> Profile:

    def rest(seconds: float) -> None:
        backend.note("rest")
        backend.clock.pass_(round(seconds * S))

    engine = Engine(backend, budget, seed=11, run_id="run", environment_id="env", clock=backend.clock, sleep=rest)
    backend.events.clear()
    return profiling.profile(engine, step(**cell), trace, clock=backend.clock)


def by_name(found: Profile) -> dict[str, Kernel]:
    return {kernel.name: kernel for kernel in found.kernels}


# What is told ------------------------------------------------------------------------------------------------------------


def test_a_call_is_told_as_exclusive_times_that_add_up_to_it(backend: Backend) -> None:
    found = profile(backend)
    assert found.problem == ""
    assert (found.run_id, found.environment_id, found.cell) == ("run", "env", step().cell)
    assert (found.op, found.op_reason) == (Watched.op, f"scripted: {step().cell.direction}")
    assert found.plain_ns == found.watched_ns == CALL
    assert {name: kernel.kernel_ns for name, kernel in by_name(found).items()} == {
        "conv2d": CALL // 10, "conv": CALL - CALL // 10, "outside": 0,
    }  # fmt: skip
    assert by_name(found)["conv"].calls_per_launch == 1
    assert (found.calls, found.clean_calls) == (10, 10)
    assert (found.sources, found.flop_compiled) == (("scripted 1.0",), 576.0)
    assert found.effective_cores is not None
    assert found.spent_ns > 20 * CALL


def test_within_a_group_nothing_but_the_clock_stands_between_two_calls(clock: Clock) -> None:
    backend = watched(clock, repeat(MS))
    found = profile(backend)
    assert found.calls == 200
    before, _, rest = " ".join(backend.events).partition(" watch ")
    inside, _, _ = rest.partition(" unwatch")
    group = r"clock(?: launch wait clock){20}"
    assert len(re.findall(group, inside)) == 11
    assert inside.count("launch") == 220
    assert len(re.findall(group, before)) == 11


def test_plain_calls_come_before_anything_watches(backend: Backend) -> None:
    profile(backend)
    assert backend.events.count("watch") == backend.events.count("unwatch") == 1
    assert backend.events[: backend.events.index("watch")].count("launch") > 11


def test_the_first_group_of_a_pass_does_not_count(clock: Clock) -> None:
    found = profile(watched(clock, repeat(MS)))
    assert found.calls == profiling.GROUPS * profiling.MOST_IN_A_GROUP


def test_few_calls_are_made_of_a_long_one(clock: Clock) -> None:
    found = profile(watched(clock, repeat(S)))
    assert (found.calls, found.problem) == (profiling.LEAST_CALLS, "")


@pytest.mark.parametrize(("cell", "ready"), [(TRAIN, "reset"), ({"cache": Cache.COLD}, "")])
def test_a_call_that_is_made_ready_is_timed_without_that(clock: Clock, cell: dict[str, Any], ready: str) -> None:
    backend = watched(clock, repeat(CALL))
    backend.reset_ns = 7 * CALL
    found = profile(backend, **cell)
    assert found.problem == ""
    assert found.plain_ns == found.watched_ns == CALL
    if ready:
        inside = " ".join(backend.events).partition(" watch ")[2].partition(" unwatch")[0]
        assert inside.count(f"{ready} clock launch wait clock") == inside.count("launch") == 11


# Which calls count -------------------------------------------------------------------------------------------------------


def test_of_the_calls_the_fastest_fifth_counts_and_at_least_three(clock: Clock) -> None:
    found = profile(watched(clock, cycle([CALL, CALL + 3 * MS, CALL + 6 * MS, CALL + 9 * MS, CALL + 12 * MS])))
    assert (found.calls, found.problem) == (10, "")
    assert found.watched_ns == pytest.approx(CALL + MS)  # of ten calls two took CALL, and the third 3 ms longer
    assert found.plain_ns == pytest.approx(CALL + MS)
    assert sum(kernel.kernel_ns for kernel in found.kernels) == pytest.approx(found.watched_ns)


def test_a_fifth_of_many_calls_is_more_than_three(clock: Clock) -> None:
    found = profile(watched(clock, cycle([MS, MS, MS, MS, 2 * MS])))
    assert found.watched_ns == MS
    assert found.calls == 200


def disturbed(machine: Machine, watched_groups: int) -> None:
    """So many of the ten groups of watched calls that count are disturbed, none of the plain ones."""
    before = profiling.GROUPS + 2
    for name in ("waited", "others"):
        setattr(machine, name, chain(repeat(0.0, before), repeat(0.9, watched_groups), repeat(0.0)))


def test_calls_that_were_disturbed_do_not_count(clock: Clock, machine: Machine) -> None:
    disturbed(machine, 7)

    def durations() -> Iterator[int]:
        """The disturbed calls, which come after the first of those that are watched, take half as long."""
        while True:
            events = backend.events
            number = events[events.index("watch") :].count("launch") if "watch" in events else 0
            yield CALL // 2 if 2 <= number <= 8 else CALL

    backend = watched(clock, durations())
    found = profile(backend)
    assert (found.calls, found.clean_calls, found.problem) == (10, 3, "")
    assert found.watched_ns == CALL
    assert by_name(found)["conv"].kernel_ns > 0


def test_where_too_few_calls_are_clean_more_groups_follow_after_a_rest(backend: Backend, machine: Machine) -> None:
    disturbed(machine, 8)
    found = profile(backend)
    assert (found.calls, found.clean_calls, found.problem) == (11, 3, "")
    assert backend.events.count("rest") == 1


@pytest.mark.fault("too few calls of a profile were undisturbed", "it has no kernels, and says so")
def test_with_fewer_than_three_clean_calls_in_the_end_nothing_is_told(backend: Backend, machine: Machine) -> None:
    disturbed(machine, 10_000)
    found = profile(backend)
    assert re.fullmatch(r"contended: 0 of \d+ watched calls were undisturbed, and 3 are needed", found.problem)
    assert (found.kernels, found.watched_ns, found.plain_ns) == ((), None, CALL)
    assert found.calls * (CALL + profiling.REST_S * S) < profiling.PATIENCE_NS + S


def test_plain_calls_that_were_disturbed_leave_nothing_to_compare_with(backend: Backend, machine: Machine) -> None:
    for name in ("waited", "others"):
        setattr(machine, name, repeat(0.9))
    found = profile(backend)
    assert "plain calls were undisturbed" in found.problem
    assert (found.kernels, found.plain_ns) == ((), None)


# What goes wrong ---------------------------------------------------------------------------------------------------------


def test_a_backend_that_nothing_watches_is_told_so(clock: Clock) -> None:
    found = profile(Backend(clock, repeat(CALL)))
    assert (found.problem, found.plain_ns, found.kernels) == ("nothing watches this backend", CALL, ())


@pytest.mark.fault("a source of a profile fails", "it costs that profile, and the cell is let go of")
@pytest.mark.parametrize("where", ["watch", "unwatch"])
def test_a_source_that_fails_costs_the_profile(backend: Backend, where: str) -> None:
    def fail(event: str) -> None:
        if event == where:
            raise ValueError("cannot read this line\nand more")

    backend.fail = fail
    found = profile(backend)
    assert (found.problem, found.kernels) == ("ValueError: cannot read this line", ())
    assert backend.events[-3] == "close"


def test_a_source_that_tells_of_nothing_in_the_calls_is_told(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "launch", Prepared.launch)
    assert profile(backend).problem == "its sources told of nothing inside the calls"


def test_a_call_that_compiles_while_it_is_watched_is_told(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "compilations", lambda self: self.backend.events.count("unwatch"))
    found = profile(backend)
    assert (found.problem, found.kernels) == ("the call was compiled again while it was watched", ())


def test_of_a_cell_that_cannot_be_prepared_the_reason_is_told(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "supports", lambda cell: "no such thing")
    assert profile(backend).problem == "unsupported: no such thing"


@pytest.mark.fault("a call gives a wrong result after it was profiled", "the profile is dropped, and says so")
def test_a_call_whose_last_result_is_wrong_has_no_profile(backend: Backend) -> None:
    def off(results: Results) -> Results:
        return replace(results, y=results.y + 1) if "unwatch" in backend.events else results

    backend.distort = off
    found = profile(backend)
    assert found.problem.startswith("incorrect: ")
    assert (found.kernels, found.watched_ns, found.plain_ns) == ((), None, None)


def test_what_the_compiler_cannot_count_costs_no_profile(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "compiled_flops", lambda self: 1 / 0)
    found = profile(backend)
    assert (found.problem, found.flop_compiled) == ("", None)


# The trace ---------------------------------------------------------------------------------------------------------------


def test_three_calls_are_traced(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / trace_name(step().cell)
    found = profile(backend, str(path))
    assert found.trace == trace_name(step().cell)
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert [event["cat"] for event in events if event["ph"] == "X"].count("convolution") == 3
    assert [event["name"] for event in events if event.get("cat") == "call"] == ["call 1", "call 2", "call 3"]


def test_a_trace_that_cannot_be_written_costs_no_profile(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = profile(backend, str(tmp_path / "file" / "a.json.gz"))
    assert (found.trace, found.problem) == ("", "")
    assert found.kernels
