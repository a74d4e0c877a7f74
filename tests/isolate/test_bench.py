"""A round of scripted workers: who is visited when, whose turn is whose, and what becomes of those that are lost."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.axes import Autotune, Device, Precision, Switch, Values
from harness.isolate import launcher
from harness.isolate.launcher import Launcher
from harness.isolate.process import LostError, Refusal, Worker
from harness.isolate.wire import Hello, Ready
from harness.measure.footprint import Need, Room
from harness.plan import Budget, Plan, Step
from harness.record import Environment, Memory, Progress, Record, Status, Visit
from tests import builders

BUDGET = Budget(trials=1, visits=4)
LOST = LostError(Status.CRASHED, "exit code 3 in sampling", {"sampling": 7})


@dataclass
class World:
    """What workers do. `faults` are what comes in place of an answer, by what is asked and the order of the step."""

    faults: dict[tuple[str, int], list[Any]] = field(default_factory=lambda: defaultdict(list))
    asked: list[tuple[int, str, int]] = field(default_factory=list)  # process, what, order
    workers: list["Scripted"] = field(default_factory=list)
    timeouts: set[tuple[str, float]] = field(default_factory=set)
    company: list[int] = field(default_factory=list)  # how many other workers were alive when each of `asked` was asked
    settings: dict[int, str] = field(default_factory=dict)  # of the whole process that a step needs, by its order
    idle: Callable[["Scripted"], bool] = lambda worker: False  # whether a worker has died since it was asked for last
    refuses: Callable[["Scripted"], Refusal | None] = lambda worker: None

    def of(self, what: str) -> list[tuple[int, int]]:
        """Process and order of each step that this was asked of."""
        return [(process, order) for process, asked, order in self.asked if asked == what]


class Scripted(Worker):
    """Answers at once and holds what it was asked to prepare."""

    def __init__(self, world: World, backend: str, options: tuple[tuple[str, str], ...]) -> None:
        self.world, self.backend, self.number = world, backend, len(world.workers)
        self.options = dict(options)
        self.leaving = self.killed = False
        self.prepared: set[int] = set()
        self.settings = ""
        world.workers.append(self)

    def hello(self) -> Hello | Refusal:
        environment = builders.environment(id=f"env-{self.backend}", backend=self.backend)
        return self.world.refuses(self) or Hello(environment, (Device("cpu"),))

    def _asked_for(self, what: str, step: Step, timeout_s: float) -> Any:
        """What comes in place of the answer, if anything."""
        assert not self.killed
        self.world.timeouts.add((what, timeout_s))
        self.world.asked.append((self.number, what, step.order))
        self.world.company.append(sum(not other.killed for other in self.world.workers) - 1)
        faults = self.world.faults[what, step.order]
        found = faults.pop(0) if faults else None
        if isinstance(found, LostError):
            self.kill()
            raise found
        if isinstance(found, Record):
            self.prepared.discard(step.order)
            return replace(found, trial=step.trial, order=step.order, cell=step.cell)
        return found

    def _record(self, step: Step, first_call_ns: int, **more: Any) -> Record:
        empty = builders.samples(first_call_ns=first_call_ns, warmup_ns=9, wall_ns=0, cpu_ns=0, steal_ns=None)
        return builders.record(trial=step.trial, order=step.order, of=step.cell, samples=empty, **more)

    def alone(self, step: Step, timeout_s: float) -> Record:
        assert not self.prepared  # nothing else is
        memory = Memory(1, 2, None, None, "alone")
        return self._asked_for("alone", step, timeout_s) or self._record(step, 111, memory=memory, spent_ns={"first_call": 100})

    def prepare(self, step: Step, timeout_s: float) -> Record | Ready:
        if found := self._asked_for("prepare", step, timeout_s):
            return found
        settings = self.world.settings.get(step.order, "")
        if self.prepared and settings != self.settings:
            return Ready(1, {}, apart=settings or "plain")
        self.settings = settings
        self.prepared.add(step.order)
        return Ready(1, {"first_call": 30, "warmup": 10})

    def visit(self, step: Step, timeout_s: float) -> Record | Visit:
        assert step.order in self.prepared
        return self._asked_for("visit", step, timeout_s) or builders.visit(step.order, spent_ns={"sampling": 5})

    def finish(self, step: Step, timeout_s: float) -> Record:
        assert step.order in self.prepared
        found = self._asked_for("finish", step, timeout_s) or self._record(step, 222, memory=None, spent_ns={"check": 1})
        self.prepared.discard(step.order)
        return found

    def ended(self, within_s: float = 0.0) -> bool:
        return self.world.idle(self)

    def kill(self) -> None:
        self.killed = True

    stop = kill


class Staged(Launcher):
    """Starts scripted workers."""

    world: World

    def worker(self, plan: Plan, backend: str, device: Device, cores: tuple[int, ...], **more: Any) -> Worker:
        return Scripted(self.world, backend, more["options"])


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def stage(world: World, tmp_path: Path) -> Callable[..., Staged]:
    def make(**more: Any) -> Staged:
        made = Staged("run", tmp_path / "logs", **more)
        made.world = world
        return made

    return make


def plan(*names: str, trials: int = 1, budget: Budget = BUDGET) -> Plan:
    """A cell for each of `workload/backend`."""
    cells = [builders.cell(workload=name.partition("/")[0], backend=name.partition("/")[2]) for name in names]
    asked = [(trial, cell) for trial in range(trials) for cell in cells]
    return Plan("tests", tuple(Step(trial, order, cell) for order, (trial, cell) in enumerate(asked)), 7, budget)


FOUR = plan("one/a", "one/b", "two/a", "two/b")


def split(answers: Sequence[Record | Environment | Visit]) -> tuple[dict[int, Record], list[Visit]]:
    """The records by order, and the visits."""
    rows = [answer for answer in answers if isinstance(answer, Record)]
    assert len({row.order for row in rows}) == len(rows)
    return {row.order: row for row in rows}, [answer for answer in answers if isinstance(answer, Visit)]


def stretches(record: Record) -> list[tuple[int, int]]:
    """Process and turn of each visit of a record."""
    assert record.samples
    return [(visit.process, visit.turn) for visit in record.samples.series[0].visits]


# Turns ----------------------------------------------------------------------------------------------------------------------


def test_in_every_turn_each_cell_is_visited_once_and_what_is_compared_stands_together(stage) -> None:
    asked = plan("one/a", "one/b", "two/a", "two/b", trials=2)
    _, visits = split(list(stage().execute(asked)))
    turns = [[visit for visit in visits if visit.turn == turn] for turn in range(8)]
    assert sum(map(len, turns)) == len(visits) == 8 * 4
    for turn, made in enumerate(turns):
        assert [visit.place for visit in made] == [0, 1, 2, 3]
        orders = [visit.order - 4 * (turn // 4) for visit in made]
        assert sorted(orders) == [0, 1, 2, 3]
        assert {orders[0] // 2, orders[1] // 2} in ({0}, {1})
    assert len({tuple(visit.order % 4 for visit in made) for made in turns}) > 3


def test_the_order_of_visits_is_a_function_of_the_seed(stage) -> None:
    def orders(seed: int) -> list[int]:
        return [visit.order for visit in split(list(stage().execute(replace(FOUR, seed=seed))))[1]]

    assert orders(7) == orders(7) != orders(8)


def test_process_turn_and_place_say_where_a_visit_was(stage, world: World) -> None:
    asked = plan("one/a", "one/b", trials=2, budget=replace(BUDGET, visits=2))
    _, visits = split(list(stage().execute(asked)))
    backend = {0: "a", 1: "b", 2: "a", 3: "b"}  # by process: each trial has fresh ones
    assert [worker.backend for worker in world.workers] == list(backend.values())
    assert all(asked.steps[visit.order].cell.backend == backend[visit.process] for visit in visits)
    assert Counter(visit.process for visit in visits) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert len({(visit.turn, visit.place) for visit in visits}) == len(visits)
    assert [visit.turn for visit in visits] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_visits_come_before_their_record_which_holds_their_samples(stage) -> None:
    answers = list(stage().execute(FOUR))
    rows, visits = split(answers)
    for order, row in rows.items():
        mine = [visit for visit in visits if visit.order == order]
        assert max(answers.index(visit) for visit in mine) < answers.index(row)
        assert row.samples
        (series,) = row.samples.series
        assert series.block_ns == tuple(ns for visit in mine for ns in visit.series[0].block_ns)
        assert stretches(row) == [(visit.process, visit.turn) for visit in mine]
        assert row.samples.wall_ns == sum(visit.wall_ns for visit in mine)


def test_in_the_first_trial_each_cell_is_measured_alone_before_anything_is_made_ready(stage, world: World) -> None:
    asked = plan("one/a", "two/a", trials=2, budget=replace(BUDGET, visits=1))
    rows, _ = split(list(stage().execute(asked)))
    assert [what for _, what, _ in world.asked] == [
        "alone", "alone", "prepare", "prepare", "visit", "visit", "finish", "finish",
        "prepare", "prepare", "visit", "visit", "finish", "finish",
    ]  # fmt: skip
    samples = [row.samples for _, row in sorted(rows.items())]
    assert [found.first_call_ns for found in samples if found] == [111, 111, 222, 222]
    assert [row.memory and row.memory.method for _, row in sorted(rows.items())] == ["alone", "alone", None, None]


def test_windows_come_one_after_the_other_and_progress_is_told_after_every_turn(stage, world: World) -> None:
    told: list[Progress] = []
    asked = plan("one/a", "two/a", "three/a", budget=replace(BUDGET, prepared=2, visits=2))
    split(list(stage(observe=told.append).execute(asked)))
    assert told == [Progress(1, window, 2, turn, 2) for window in (1, 2) for turn in (1, 2)]
    assert [order for _, order in world.of("prepare")] == [0, 1, 2]
    third = world.asked.index((0, "alone", 2))
    assert world.asked.index((0, "finish", 1)) < third  # the second window begins when nothing of the first is left
    assert len(world.workers) == 1


def test_a_window_in_which_every_cell_came_to_nothing_has_no_turns(stage, world: World) -> None:
    told: list[Progress] = []
    for order in (0, 1):
        world.faults["alone", order] = [builders.failed(Status.UNSUPPORTED, "no such kernel")]
    rows, _ = split(
        list(stage(observe=told.append).execute(plan("one/a", "one/b", "two/a", budget=replace(BUDGET, prepared=1))))
    )
    assert [rows[order].status for order in range(3)] == [Status.UNSUPPORTED] * 2 + [Status.OK]
    assert told == [Progress(1, 2, 2, turn, 4) for turn in range(1, 5)]


def test_a_window_holds_no_more_than_the_memory_that_is_left(stage, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_room", lambda device: Room(1))
    split(list(stage().execute(FOUR)))
    assert [what for _, what, _ in world.asked] == ["alone", "prepare", *["visit"] * 4, "finish"] * 4


def test_preparing_and_each_visit_have_the_time_that_the_budget_says(stage, world: World) -> None:
    """However long all of them take together."""
    list(stage().execute(replace(FOUR, budget=replace(BUDGET, timeout_s=17.0))))
    assert world.timeouts == {(what, 17.0) for what in ("alone", "prepare", "visit", "finish")}


# Who is lost ----------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "a worker is lost in a visit",
    "its other cells are made ready by a new process, keep their visits and get all of them",
)
def test_a_lost_worker_costs_one_cell_and_the_others_get_all_their_visits(stage, world: World) -> None:
    world.faults["visit", 0] = [None, None, LOST]
    rows, visits = split(list(stage().execute(FOUR)))
    assert (rows[0].status, rows[0].reason) == (Status.CRASHED, "exit code 3 in sampling")
    assert [rows[order].status for order in (1, 2, 3)] == [Status.OK] * 3
    assert {process for process, _ in stretches(rows[1])} == {process for process, _ in stretches(rows[3])} == {1}
    twice = stretches(rows[2])
    assert [turn for _, turn in twice] == [0, 1, 2, 3]
    assert {process for process, _ in twice} == {0, 2}
    assert world.of("prepare").count((2, 2)) == 1
    assert (2, 0) not in world.of("prepare")  # which has ended
    assert world.of("alone") == [(0, 0), (1, 1), (0, 2), (1, 3)]  # once each
    assert rows[2].samples
    assert rows[2].samples.first_call_ns == 111
    assert sum(visit.order == 0 for visit in visits) == 2


@pytest.mark.parametrize("what", ["alone", "prepare", "visit", "finish"])
@pytest.mark.parametrize("fault", [LOST, builders.failed(Status.INCORRECT, "largest relative error 3")])
def test_whatever_is_lost_leaves_one_row_and_whoever_was_wrong_is_asked_nothing_more(
    stage, world: World, what: str, fault: Any
) -> None:
    world.faults[what, 2] = [fault]
    rows, visits = split(list(stage().execute(FOUR)))
    assert rows[2].status is (Status.INCORRECT if isinstance(fault, Record) else Status.CRASHED)
    assert rows[2].samples is None
    assert [rows[order].status for order in (0, 1, 3)] == [Status.OK] * 3
    assert Counter(visit.order for visit in visits if visit.order != 2) == {0: 4, 1: 4, 3: 4}
    assert all(worker.killed for worker in world.workers)
    first = next(place for place, asked in enumerate(world.asked) if asked == (0, what, 2))
    assert [asked for asked in world.asked[first + 1 :] if asked[0] == 0] == []


def test_a_worker_that_leaves_after_an_answer_is_replaced(stage, world: World) -> None:
    world.faults["visit", 0] = [builders.failed(Status.ERROR, "CUDA error")]
    visit = Scripted.visit

    def leaving(worker: Scripted, step: Step, timeout_s: float) -> Record | Visit:
        found = visit(worker, step, timeout_s)
        worker.leaving = isinstance(found, Record)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scripted, "visit", leaving)
        rows, _ = split(list(stage().execute(FOUR)))
    assert [rows[order].status for order in range(4)] == [Status.ERROR, Status.OK, Status.OK, Status.OK]
    assert {process for process, _ in stretches(rows[2])} <= {0, 2}
    assert len(world.workers) == 3


def test_an_error_of_one_cell_replaces_nobody(stage, world: World) -> None:
    world.faults["visit", 0] = [builders.failed(Status.ERROR, "ValueError")]
    rows, _ = split(list(stage().execute(FOUR)))
    assert [row.status for _, row in sorted(rows.items())] == [Status.ERROR, Status.OK, Status.OK, Status.OK]
    assert len(world.workers) == 2


def test_time_is_booked_where_it_went_and_sums_up(stage, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**9))
    monkeypatch.setattr(launcher.time, "perf_counter_ns", lambda: next(ticks))
    world.faults["visit", 0] = [None, None, LOST]
    rows, visits = split(list(stage().execute(FOUR)))

    def engine(order: int) -> dict[str, int]:
        found = rows[order].spent_ns or {}
        return {name: ns for name, ns in found.items() if name not in ("start", "parent")}

    assert engine(0) == {"first_call": 130, "warmup": 10, "sampling": 2 * 5 + 7}
    assert engine(1) == engine(3) == {"first_call": 130, "warmup": 10, "sampling": 4 * 5, "check": 1}
    assert engine(2) == {"first_call": 100 + 2 * 30, "warmup": 2 * 10, "sampling": 4 * 5, "check": 1}
    assert sum((row.spent_ns or {})["start"] for row in rows.values()) == len(world.workers)
    # One tick for each answer that was kept before the record.
    assert sum((row.spent_ns or {})["parent"] for row in rows.values()) == 2 + len(visits) + len(rows) - 1


# Who dies while nothing is asked --------------------------------------------------------------------------------------------


def dying(nth: dict[int, int]) -> Callable[[Scripted], bool]:
    """Has a worker, by its number, found dead when somebody wants to ask it for the nth time."""
    looks = Counter[int]()

    def idle(worker: Scripted) -> bool:
        looks[worker.number] += 1
        return looks[worker.number] == nth.get(worker.number, -1)

    return idle


@pytest.mark.fault("a worker dies while nothing is asked of it", "it is replaced, and costs no cell")
def test_a_worker_that_is_found_dead_is_replaced(stage, world: World) -> None:
    world.idle = dying({0: 6})
    rows, visits = split(list(stage().execute(FOUR)))
    assert {row.status for row in rows.values()} == {Status.OK}
    assert Counter(visit.order for visit in visits) == {0: 4, 1: 4, 2: 4, 3: 4}
    assert {process for order in (0, 2) for process, _ in stretches(rows[order])} == {0, 2}
    assert [worker.backend for worker in world.workers] == ["a", "b", "a"]


@pytest.mark.fault("a worker dies three times in a row while nothing is asked of it", "its cells end with a row each")
@pytest.mark.parametrize("looks", [1, 2])
def test_a_worker_that_dies_again_and_again_ends_its_cells(stage, world: World, looks: int) -> None:
    """Whatever it answered before: a process for every visit would take for ever."""
    world.idle = lambda worker: worker.backend == "a" and died(worker)
    died = dying(dict.fromkeys(range(9), looks))
    rows, visits = split(list(stage().execute(FOUR)))
    assert [rows[order].status for order in (1, 3)] == [Status.OK] * 2
    for order in (0, 2):
        assert rows[order].status is Status.CRASHED
        assert rows[order].reason == "its worker ended 3 times in a row while nothing was asked of it"
        assert rows[order].environment_id == "env-a"
    assert [worker.backend for worker in world.workers] == ["a", "b", "a", "a"]
    assert Counter(visit.order for visit in visits if visit.order % 2) == {1: 4, 3: 4}


def test_a_worker_that_lives_through_a_turn_may_die_again_later(stage, world: World) -> None:
    """Two cells are asked for six times before the first turn, so that each of these dies in its second or third."""
    world.idle = dying({0: 7, 2: 5, 3: 5, 4: 5})
    rows, visits = split(list(stage().execute(replace(FOUR, budget=replace(BUDGET, visits=8)))))
    assert {row.status for row in rows.values()} == {Status.OK}
    assert Counter(visit.order for visit in visits) == dict.fromkeys(range(4), 8)
    assert len(world.workers) == 6


@pytest.mark.fault("the worker that replaces a lost one cannot be set up", "its other cells end with a row that says why")
def test_where_no_new_worker_comes_up_the_others_cells_say_why(stage, world: World) -> None:
    world.faults["visit", 0] = [LOST]
    world.refuses = lambda worker: Refusal("no memory left") if worker.number == 2 else None
    rows, _ = split(list(stage().execute(FOUR)))
    assert [rows[order].status for order in range(4)] == [Status.CRASHED, Status.OK, Status.ERROR, Status.OK]
    assert rows[2].reason == "a could not be set up: no memory left"
    assert len(world.workers) == 3


@pytest.mark.fault("a cell needs settings of the process that the others do not have", "it has a worker of its own")
@pytest.mark.parametrize("fault", [None, LOST])
def test_cells_of_other_settings_go_to_a_worker_of_their_own_and_miss_no_turn(stage, world: World, fault: Any) -> None:
    """Also where the first worker is lost, and the one in its place prepares the others first."""
    world.settings = {0: "x64"}
    world.faults["visit", 2] = [None, None, fault]
    asked = plan("one/a", "two/a", "three/a", "four/a")
    rows, visits = split(list(stage().execute(asked)))
    assert [rows[order].status for order in (0, 1, 3)] == [Status.OK] * 3
    assert [len(stretches(rows[order])) for order in (0, 1, 3)] == [4] * 3
    of = {visit.process: {each.order == 0 for each in visits if each.process == visit.process} for visit in visits}
    assert all(len(kinds) == 1 for kinds in of.values())


# The memory of a GPU --------------------------------------------------------------------------------------------------------


def with_gpu(asked: Plan) -> Plan:
    """The same cells on a GPU."""
    steps = (replace(step, cell=replace(step.cell, device=Device("gpu", 0))) for step in asked.steps)
    return replace(asked, steps=tuple(steps))


def told(record: Record) -> str:
    """What a row says of the GPU's memory."""
    return (record.settings or {}).get("memory", "")


@pytest.mark.fault(
    "the memory of a GPU runs out beside other workers",
    "the cell is measured once more by a fresh worker while no other is alive, and its row says so",
)
@pytest.mark.parametrize("status", [Status.OOM, Status.SKIPPED])
@pytest.mark.parametrize("what", ["alone", "prepare", "visit", "finish"])
def test_what_has_too_little_memory_beside_others_is_measured_alone(stage, world: World, what: str, status: Status) -> None:
    world.faults[what, 2] = [builders.failed(status, "out of memory")]
    rows, visits = split(list(stage().execute(with_gpu(FOUR))))
    assert {row.status for row in rows.values()} == {Status.OK}
    assert told(rows[2]) == "ran out beside other workers; measured alone"
    assert [told(rows[order]) for order in (0, 1, 3)] == [""] * 3
    *_, alone = world.workers
    later = [(asked, company) for asked, company in zip(world.asked, world.company, strict=True) if asked[0] == alone.number]
    assert [asked[1:] for asked, _ in later] == [
        (each, 2) for each in ("alone", "prepare", *["visit"] * 4, "finish")
    ]  # fmt: skip
    assert {company for _, company in later} == {0}
    assert [process for process, _ in stretches(rows[2])][-4:] == [alone.number] * 4
    assert Counter(visit.order for visit in visits if visit.order != 2) == {0: 4, 1: 4, 3: 4}
    assert alone.killed  # with what its framework keeps of the memory


def test_what_runs_out_of_memory_alone_as_well_is_told_so(stage, world: World) -> None:
    world.faults["prepare", 2] = [builders.failed(Status.OOM, "out of memory", spent_ns={"first_call": 3})] * 2
    rows, _ = split(list(stage().execute(with_gpu(FOUR))))
    assert (rows[2].status, rows[2].reason) == (Status.OOM, "out of memory")
    assert told(rows[2]) == "ran out beside other workers; measured alone"
    assert (rows[2].spent_ns or {})["first_call"] == 2 * (100 + 3)
    assert [rows[order].status for order in (0, 1, 3)] == [Status.OK] * 3


def test_what_is_left_of_the_windows_goes_on_with_fresh_workers(stage, world: World) -> None:
    world.faults["prepare", 0] = [builders.failed(Status.OOM, "out of memory")]
    rows, visits = split(list(stage().execute(with_gpu(replace(FOUR, budget=replace(BUDGET, prepared=1))))))
    assert {row.status for row in rows.values()} == {Status.OK}
    assert [worker.backend for worker in world.workers][:3] == ["a", "b", "a"]
    assert Counter(visit.order for visit in visits) == dict.fromkeys(range(4), 4)
    assert {process for order in (2, 3) for process, _ in stretches(rows[order])} == {3, 4}


def test_cells_of_one_worker_may_leave_each_other_too_little_memory(stage, world: World) -> None:
    world.faults["prepare", 1] = [builders.failed(Status.OOM, "out of memory")]
    rows, _ = split(list(stage().execute(with_gpu(plan("one/a", "two/a")))))
    assert [rows[order].status for order in (0, 1)] == [Status.OK] * 2
    assert told(rows[1]) == "ran out beside other cells; measured alone"
    assert {process for process, _ in stretches(rows[1])} == {1}


@pytest.mark.parametrize(("asked", "order"), [(with_gpu(plan("one/a")), 0), (FOUR, 2)])
def test_what_had_all_of_the_memory_or_that_of_the_host_is_not_measured_again(
    stage, world: World, asked: Plan, order: int
) -> None:
    world.faults["prepare", order] = [builders.failed(Status.OOM, "out of memory")]
    rows, _ = split(list(stage().execute(asked)))
    assert (rows[order].status, told(rows[order])) == (Status.OOM, "")
    assert len(world.workers) == len({step.cell.backend for step in asked})


def test_what_does_not_fit_on_an_empty_gpu_is_not_measured_again(stage, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def need(step: Step, cores: int) -> Need:
        return Need(operands=0, tensors=200 if step.order == 2 else 1, workspace=0, check=0, copies=0, on_cpu=False)

    monkeypatch.setattr(launcher, "_need", need)
    monkeypatch.setattr(launcher, "_room", lambda device: Room(None, 100))
    world.faults["alone", 2] = [builders.failed(Status.SKIPPED, "needs about 200 B")]
    rows, _ = split(list(stage().execute(with_gpu(FOUR))))
    assert (rows[2].status, told(rows[2])) == (Status.SKIPPED, "")
    assert len(world.workers) == 2


# Resumed --------------------------------------------------------------------------------------------------------------------


def by_order(visits: Sequence[Visit]) -> dict[int, list[Visit]]:
    found: dict[int, list[Visit]] = {}
    for visit in visits:
        found.setdefault(visit.order, []).append(visit)
    return found


@pytest.mark.fault(
    "a run is cut off amid its visits",
    "they are kept, and the rest is made by new processes in turns whose numbers go on",
)
@pytest.mark.parametrize("cut", range(0, 27, 2))
def test_wherever_a_run_is_cut_off_it_is_gone_on_with(stage, cut: int) -> None:
    asked = plan("one/a", "one/b", "two/a", trials=2)
    answers = [answer for answer in stage().execute(asked) if not isinstance(answer, Environment)][:cut]
    rows, visits = split(answers)
    left = replace(asked, steps=tuple(step for step in asked.steps if step.order not in rows))
    again = list(stage().execute(left, by_order(visits)))
    new_rows, new_visits = split(again)
    assert sorted([*rows, *new_rows]) == list(range(6))
    if visits and new_visits:
        assert min(visit.process for visit in new_visits) > max(visit.process for visit in visits)
        assert min(visit.turn for visit in new_visits) > max(visit.turn for visit in visits)
    every = by_order([*visits, *new_visits])
    for order, row in (rows | new_rows).items():
        assert row.status is Status.OK
        assert stretches(row) == [(visit.process, visit.turn) for visit in every[order]]
        # In the turn that was cut off some cells were visited: the others get theirs in a turn of the whole window.
        assert len(every[order]) in (BUDGET.visits, BUDGET.visits + 1)
    places = [(visit.turn, visit.place) for of_step in every.values() for visit in of_step]
    assert len(set(places)) == len(places)


def test_what_lacks_nothing_but_its_record_is_made_ready_and_finished(stage, world: World) -> None:
    _, visits = split(list(stage().execute(FOUR)))
    world.asked.clear()
    rows, more = split(list(stage().execute(FOUR, by_order(visits))))
    assert more == []
    assert {row.status for row in rows.values()} == {Status.OK}
    assert Counter(what for _, what, _ in world.asked) == {"alone": 4, "prepare": 4, "finish": 4}


# On a GPU -----------------------------------------------------------------------------------------------------------------


def on_gpu(budget: Budget = BUDGET) -> Plan:
    precisions = [Precision.FP32, Precision.TF32, Precision.BF16, Precision.TF32]
    names = ["one", "one", "one", "two"]
    cells = [
        builders.cell(workload=name, backend="tensorflow", precision=precision, device=Device("gpu", 0))
        for name, precision in zip(names, precisions, strict=True)
    ]
    return Plan("tests", tuple(Step(0, order, cell) for order, cell in enumerate(cells)), 7, budget)


def test_on_a_gpu_no_worker_ever_holds_cells_with_and_without_tf32(world: World, stage: Callable[..., Staged]) -> None:
    """Not even while a cell is alone in it: TensorFlow keeps the plan that cuDNN was fastest with, whatever the precision."""
    rows = [answer for answer in stage().execute(on_gpu()) if isinstance(answer, Record)]
    assert [row.status for row in rows] == [Status.OK] * 4
    held: dict[int, set[bool]] = defaultdict(set)
    for process, _, order in world.asked:
        held[process].add(order in (1, 3))
    assert sorted(map(sorted, held.values())) == [[False], [True]]


def test_preparing_on_a_gpu_has_a_limit_of_its_own(world: World, stage: Callable[..., Staged]) -> None:
    list(stage().execute(on_gpu()))
    assert world.timeouts == {("alone", 600.0), ("prepare", 600.0), ("visit", 180.0), ("finish", 180.0)}
    world.timeouts.clear()
    list(stage().execute(on_gpu(replace(BUDGET, timeout_s=900.0))))
    assert {timeout for _, timeout in world.timeouts} == {900.0}


def test_cells_of_each_autotune_and_switch_have_workers_of_their_own_and_are_visited_in_the_same_turns(
    world: World, stage: Callable[..., Staged]
) -> None:
    """A process is begun with one value of each: frameworks read it when they are imported, and keep what was found."""
    cells = [builders.cell(workload="one", device=Device("gpu", 0), autotune=choice) for choice in Autotune]
    cells.append(builders.cell(workload="one", device=Device("gpu", 0), switch=Switch.ISA_AVX2))
    cells.append(builders.cell(workload="one", device=Device("gpu", 0), operands=Values.ONES))
    choices = [{}, {"autotune": "on"}, {"autotune": "off"}, {"switch": "isa_avx2"}, {}]
    asked = Plan("tests", tuple(Step(0, order, cell) for order, cell in enumerate(cells)), 7, BUDGET)
    rows, visits = split(list(stage().execute(asked)))
    assert {row.status for row in rows.values()} == {Status.OK}
    number = {tuple(worker.options.items()): worker.number for worker in world.workers}
    assert len(world.workers) == len(number) == 4  # operands are a cell's own
    assert {(process, order) for process, _, order in world.asked} == {
        (number[tuple(options.items())], order) for order, options in enumerate(choices)
    }  # fmt: skip
    turns = {order: [visit.turn for visit in visits if visit.order == order] for order in range(5)}
    assert all(found == turns[0] for found in turns.values())
