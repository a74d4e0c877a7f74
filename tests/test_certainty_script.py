"""What scripts/certainty makes of runs, by visits of which the truth is known; and that it goes on where it was cut off."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.analysis.race import Looks
from scripts import certainty as package
from scripts.certainty import __main__ as command
from scripts.certainty import analysis, axes, issue, jobs, place, programs, report
from scripts.certainty.analysis import Known, Run

BACKENDS = ("torch", "torch@b", "jax", "jax@b")


def measured(
    seed: int, ns: dict[str, float], *, workloads: Sequence[str] = ("a", "b", "c"), trials: int = 5, process: float = 0.01,
    visit: float = 0.03, turn: float = 0.2, looks: Looks | None = None, flags: str = "",
) -> Run:  # fmt: skip
    """A run whose cells take `ns` by backend, but for what each process, each turn and each visit makes of it."""
    rng, rows = np.random.default_rng(seed), []
    cells = [(f"{workload}/fprop/{backend}/eager", workload, backend) for workload in workloads for backend in ns]
    number = 0
    for trial in range(trials):
        of_process = rng.normal(0, process, len(cells))
        for _ in range(6):
            common, order = rng.normal(0, turn), rng.permutation(len(cells))
            for at, which in enumerate(order):
                cell, _, backend = cells[which]
                time_ns = ns[backend] * np.exp(common + of_process[which] + rng.normal(0, visit))
                rows.append(
                    (f"run{seed}", trial, cell, trial * len(ns) + list(ns).index(backend), number, at, 0, True, 9, time_ns)
                )
            number += 1
    names = ["run_id", "trial", "cell", "process", "turn", "place", "visit", "turned", "samples", "median_ns"]
    visited = pd.DataFrame(rows, columns=names).sort_values(["trial", "cell", "turn"], kind="stable")
    visited = visited.assign(decile_ns=0.95 * visited["median_ns"], min_ns=0.9 * visited["median_ns"])
    told = [(cell, workload, "fprop", backend, "eager", flags) for cell, workload, backend in cells]
    columns = ["cell", "workload", "direction", "backend", "mode", "flags"]
    return Run(f"run{seed}", pd.DataFrame(told, columns=columns), visited.reset_index(drop=True), looks)


EQUAL = dict.fromkeys(BACKENDS, 1e6)
TWICE = {"torch": 1e6, "torch@b": 1e6, "jax": 2e6, "jax@b": 2e6}


def test_each_cell_is_held_against_the_fastest_of_all_runs_together() -> None:
    runs = [measured(0, {"torch": 1e6, "jax": 1.2e6}), measured(1, {"torch": 1.1e6, "jax": 1e6})]
    assert analysis.with_the_fastest(runs) == [(f"{name}/fprop/jax/eager", f"{name}/fprop/torch/eager") for name in "abc"]


def test_what_runs_say_of_the_same_comparisons() -> None:
    known = Known(np.log([[1.5, 1.01, 0.8, 1.2], [1.4, 1.015, 1.3, np.nan]]), np.full((2, 4), np.log(1.03)))
    assert known.decided.tolist() == [4, 3]
    assert known.same.tolist() == [[False, True, False, False], [False, True, False, False]]
    assert known.opposite == 1
    assert known.covered == (
        1,
        3,
    )  # 1.5 and 1.4 are 7 % apart, 1.01 and 1.015 half a one, 0.8 and 1.3 far; the last is not known twice
    assert known.half_width() == pytest.approx(0.03)
    assert np.isnan(Known(np.full((2, 1), np.nan), np.full((2, 1), np.nan)).half_width())


def test_engines_are_told_by_the_same_rule_and_times_by_their_own_intervals() -> None:
    runs = [measured(seed, {"torch": 1e6, "jax": 1.3e6, "tensorflow": 2e6}) for seed in range(3)]
    compared = analysis.with_the_fastest(runs)
    ratios, times = analysis.comparisons_of(runs, compared), analysis.times_of(runs)
    assert ratios.decided.tolist() == [6, 6, 6]
    assert ratios.opposite == 0
    assert np.exp(ratios.value.mean(axis=0)) == pytest.approx([1.3, 2.0] * 3, rel=0.02)
    assert 0.002 < ratios.half_width() < 0.04
    held, told = ratios.covered
    assert told == 18
    assert held >= 14
    assert times.value.shape == (3, 9)
    assert times.covered[1] == 27


def test_equals_are_paired_by_label_and_seldom_called_different() -> None:
    runs = [measured(seed, EQUAL) for seed in range(20)]
    assert analysis.equals(runs[0])[:2] == [
        ("a/fprop/torch/eager", "a/fprop/torch@b/eager"), ("a/fprop/jax/eager", "a/fprop/jax@b/eager"),
    ]  # fmt: skip
    called = np.concatenate([analysis.different(run, analysis.equals(run)) for run in runs])
    assert len(called) == 120
    assert np.count_nonzero(called) <= 8
    unlike = [measured(seed, {**EQUAL, "torch@b": 1.1e6}) for seed in range(4)]
    called = np.stack([analysis.different(run, [(twin, plain) for plain, twin in analysis.equals(run)]) for run in unlike])
    assert (called[:, ::2] == 1).all()  # PyTorch's
    assert np.count_nonzero(called[:, 1::2]) <= 1


def test_a_run_that_was_looked_at_spends_its_level_over_the_looks() -> None:
    """After four of twelve trials nearly nothing may go wrong: what one look would find is not found yet."""
    unlike, counts = {**EQUAL, "torch@b": 1.06e6}, []
    for looks in (None, Looks(12)):
        runs = [measured(seed, unlike, trials=4, process=0.02, looks=looks) for seed in range(8)]
        counts.append(sum(np.count_nonzero(analysis.different(run, analysis.equals(run))) for run in runs))
    assert counts[0] > 3 * counts[1]


def test_fewer_than_four_pairs_of_processes_decide_nothing() -> None:
    few = measured(0, {**EQUAL, "torch@b": 2e6}, trials=3)
    assert not analysis.different(few, analysis.equals(few)).any()


def test_groups_of_equals_are_drawn_from_all_pairs_and_one_is_seldom_called_slower() -> None:
    runs = [measured(seed, EQUAL) for seed in range(3)]
    slower, factor = analysis.groups_of_equals(runs, groups=100)
    assert slower <= 10
    assert 1.0 <= factor < 1.01
    assert analysis.groups_of_equals(runs, groups=100) == (slower, factor)
    unlike = [measured(seed, {**EQUAL, "torch@b": 1.5e6}) for seed in range(3)]
    slower, factor = analysis.groups_of_equals(unlike, groups=20)
    assert slower >= 15  # half of the members have a ratio of 1.5
    assert factor > 1.1
    assert analysis.groups_of_equals([measured(0, EQUAL, trials=3)], groups=5)[0] == 0


def test_a_planted_slowdown_is_found_where_the_noise_lets_it_and_not_where_none_was_planted() -> None:
    runs = [measured(seed, EQUAL, process=0.005) for seed in range(4)]
    assert sum(analysis.planted(runs, seed) for seed in analysis.SEEDS) >= 18
    assert sum(analysis.planted(runs, seed, 1.0) for seed in analysis.SEEDS) <= 1
    restless = [measured(seed, EQUAL, process=0.2) for seed in range(8)]
    assert sum(analysis.planted(restless, seed) for seed in analysis.SEEDS) <= 4


def test_paired_ratios_lose_the_turns_part_and_unpaired_ones_keep_it() -> None:
    run = measured(0, EQUAL, workloads=tuple("abcdefgh"), trials=30)
    pairs = analysis.equals(run)
    # A process: 1 %, and the median of six visits of 3 % each, on both sides.
    assert np.median(analysis.spread(run, pairs)) == pytest.approx(np.sqrt(2) * np.hypot(0.01, 0.03 * 1.2 / 6**0.5), rel=0.3)
    assert np.median(analysis.spread_unpaired(run, pairs)) == pytest.approx(np.sqrt(2) * 0.2 * 1.2 / 6**0.5, rel=0.3)
    assert analysis.spread(run, pairs, "decile_ns") == pytest.approx(analysis.spread(run, pairs))


def test_pairs_of_one_group_are_of_equals_or_of_two_frameworks() -> None:
    run = measured(0, TWICE)
    equal = {(one, other): len(pairs) for one, other, pairs in analysis.beside_in_group(run, equal=True)}
    unlike = {(one, other): len(pairs) for one, other, pairs in analysis.beside_in_group(run, equal=False)}
    assert equal == {("torch", "torch"): 3, ("jax", "jax"): 3}
    assert unlike == {("jax", "torch"): 12}


def test_the_noise_of_a_visit_is_told_by_how_far_apart_two_stood() -> None:
    """Where visits that stand further apart differ by more, that is seen."""
    run = measured(0, EQUAL, turn=0.0, visit=0.0, process=0.0, trials=20)
    wander = np.random.default_rng(0).normal(0, 0.05, (run.visited["turn"].max() + 1, 12)).cumsum(axis=1)
    walked = run.visited.assign(median_ns=1e6 * np.exp(wander[run.visited["turn"], run.visited["place"]]))
    found = analysis.by_distance(Run("walk", run.cells, walked), analysis.equals(run))
    assert list(found) == [1, 2, 3]
    assert sum(count for _, count in found.values()) == 6 * 20 * 6
    spreads = [spread for spread, _ in found.values()]
    assert spreads[0] < spreads[1] < spreads[2]


def test_what_is_off_beside_a_busy_process_counts_unless_a_flag_says_so() -> None:
    quiet = measured(0, {"torch": 1e6, "jax": 3e6}, process=0.001, visit=0.001, turn=0.001)
    busy = measured(1, {"torch": 1.2e6, "jax": 3e6}, process=0.001, visit=0.001, turn=0.001)
    silent = analysis.disturbed(quiet, busy, {})
    assert (silent.comparisons, silent.comparisons_off, silent.comparisons_silent) == (3, 3, 3)
    assert (silent.times, silent.times_off) == (3, 3)  # JAX's are no short calls
    assert silent.times_silent == tuple(f"{name}/fprop/torch/eager" for name in "abc")
    told = analysis.disturbed(quiet, busy, {f"{name}/fprop/torch/eager": "contended" for name in "ab"})
    assert (told.comparisons_silent, told.times_silent) == (1, ("c/fprop/torch/eager",))
    same = analysis.disturbed(quiet, measured(2, {"torch": 1e6, "jax": 3e6}, process=0.001, visit=0.001, turn=0.001), {})
    assert (same.comparisons_off, same.times_off) == (0, 0)


def test_a_full_run_confirms_the_fastest_setting_and_an_equal_one() -> None:
    run = measured(0, {"torch": 1e6, "torch@b": 1.01e6, "jax": 3e6}, process=0.001, visit=0.001, trials=6)
    settings = Run(run.name, run.cells.assign(backend="torch"), run.visited)
    said = [analysis.confirmed(settings, f"a/fprop/{backend}/eager")[0] for backend in ("torch", "torch@b", "jax")]
    assert said == ["fastest", "equal", "slower"]
    assert analysis.confirmed(settings, "a/fprop/jax/eager")[1] == pytest.approx(3.0, rel=0.01)


def test_the_turns_part_and_the_yardstick_are_taken_out_of_times() -> None:
    run = measured(0, {**EQUAL, "tensorflow": 1e6}, turn=0.3)
    common = run.visited.groupby("turn")["median_ns"].median()
    samples = run.visited.assign(yardstick_ns=run.visited["turn"].map(common))
    found = {kind: np.median(each) for kind, each in analysis.figures_of_processes(run, samples).items()}
    assert found["raw"] > 3 * found["without the turn's common part"]
    assert found["raw"] > 3 * found["over the yardstick"]


# The script -------------------------------------------------------------------------------------------------------------------


def test_all_measurements_take_at_most_four_hours_and_count_what_is_asked_for() -> None:
    assert sum(job.minutes for job in jobs.JOBS.values()) <= 240
    assert jobs.EQUALS_RUNS * 24 >= 240
    assert jobs.ROUNDS * 4 >= 200
    assert {job.after for job in jobs.JOBS.values()} - {""} <= set(jobs.JOBS)
    parts = [part for part in jobs.PARTS if part != "issue"]
    told = {name for part in parts for _, names, _ in report.sections(part) for name in names} | {"issue"}
    assert told == set(jobs.JOBS)


def test_a_job_is_made_once_and_one_that_was_cut_off_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def works(where: place.Place) -> dict[str, int]:
        assert list(where.folder.iterdir()) == []  # what an earlier attempt left is gone
        made.append(where.folder.name)
        return {"found": 7}

    def cut_off(where: place.Place) -> dict[str, int]:
        (where.folder / "half").write_text("")
        raise jobs.RefusedError("there is no such thing")

    known = {
        "one": jobs.Job("one", 1.0, works),
        "two": jobs.Job("two", 2.0, cut_off),
        "three": jobs.Job("three", 1.0, works, "two"),
    }
    monkeypatch.setattr(command, "JOBS", known)
    monkeypatch.setattr("sys.argv", ["certainty", "--out", str(tmp_path), "--try"])
    with pytest.raises(SystemExit, match="not made: two, three"):
        command.main()
    assert json.loads((tmp_path / "one" / "result.json").read_text())["found"] == 7
    assert command.listing(tmp_path)[-1].startswith("left: about 0.1")
    known["two"] = jobs.Job("two", 2.0, works)
    command.main()
    assert made == ["one", "two", "three"]
    assert all("a try" in line for line in command.listing(tmp_path)[:3])


def test_it_waits_while_others_use_the_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    used, slept = iter([0.9, 0.4, 0.01]), []
    monkeypatch.setattr(place.Others, "cores", lambda self: next(used))
    monkeypatch.setattr(place.time, "sleep", slept.append)
    assert place.wait_for_quiet() == 0.01
    assert len(slept) == 5
    assert "others use 0.90 cores" in capsys.readouterr().err


def test_what_others_use_is_what_the_machine_used_less_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([(10.0, 5.0, 100.0), (16.0, 7.0, 102.0)])
    now: list[tuple[float, ...]] = [next(clock)]
    monkeypatch.setattr(place, "busy_s", lambda: now[0][0])
    monkeypatch.setattr(place, "own_s", lambda: now[0][1])
    monkeypatch.setattr(place.time, "monotonic", lambda: now[0][2])
    others = place.Others()
    now[0] = next(clock)
    assert others.cores() == 2.0


@pytest.mark.parametrize("name", ["first-66", "equals", "standard", "settings", "programs", "padding"])
def test_its_suites_are_suites(name: str) -> None:
    from harness.ask import planning, suite

    (folder,) = package.__path__
    loaded = suite.load(Path(folder) / f"{name}.toml")
    found = {backend: (planning.Device("cpu"),) for backend in ("torch", "tensorflow", "jax")}
    counts = {"first-66": 66, "equals": 48, "standard": 12, "settings": 120, "programs": 120, "padding": 2}
    assert len(planning.cells(loaded, found)) == counts[name]


def test_the_report_says_what_is_missing_and_tells_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "machine", lambda: "a machine")
    (lines,) = report.report(tmp_path, "certainty").values()
    assert "Not measured yet: clock." in lines
    told = {"took_s": 60.0, "started_at": "2026-01-01 00:00", "others": 0.01, "tried": False}
    runs = {name: measured(number, TWICE) for number, name in enumerate(jobs.JOBS)}
    for name in jobs.JOBS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({**told, "run": name, "lines": [f"table of {name}"]}))
    visits = [
        (one, "1 MB", before, number, 1e6 * (1.1 if before == "jax" else 1.0) * (1 + 0.001 * number))
        for one in ("torch", "jax") for before in ("rest", "torch", "jax") if before != one for number in range(9)
    ]  # fmt: skip
    sizes = dict.fromkeys(("torch", "jax"), 2**20)
    beside = {"visits": visits, "asleep": dict.fromkeys(sizes, 0.001), "forecast": sizes, "held": sizes, "left": sizes}
    (tmp_path / "neighbours" / "result.json").write_text(json.dumps({**told, **beside}))
    runs["clock"] = Run("busy", runs["clock"].cells[:0], runs["clock"].visited[:0])
    (tmp_path / "nights" / "result.json").write_text(json.dumps({**told, "runs": ["old-1", "old-2", "clock", "old-3"]}))
    tuned = [{"cell": "a/fprop/torch/eager", "workload": "a", "backend": "torch", "setting": "nhwc", "choice": "best"}]
    (tmp_path / "tune" / "result.json").write_text(json.dumps({**told, "tuned": tuned}))
    monkeypatch.setattr(report.Run, "read", lambda folder: runs[folder.name])
    monkeypatch.setattr(report, "_barred", lambda out, name: {})
    monkeypatch.setattr(report, "_worth", lambda out: ["worth"])
    (lines,) = report.report(tmp_path, "certainty").values()
    text = "\n".join(lines)
    assert "Not measured yet" not in text
    assert "| new | 1.0 1.0 1.0 |" in text
    assert "3 of 4 nights were measured; " in text
    assert "| torch | jax | 9 | 1.100 ± 0.000 | 1 MB 1.100 |" in text
    assert "Confirmed as fastest or equal: 1 of 1, in 100% of the full run's time." in text
    assert "table of kills" in text


# Programs beside adapters, axes, and an issue ---------------------------------------------------------------------------------

GRADIENT, FORWARD = "one/dgrad/torch/eager/cpu/fp32/nhwc/hot/t1", "one/fprop/jax/compiled/cpu/fp32/nhwc/hot/t1"


def test_a_program_is_held_against_its_adapter_by_the_least_of_all_processes() -> None:
    rounds = [[[GRADIENT, 1e5, 1e5], [FORWARD, 2.2e5, 2.0e5]], [[GRADIENT, 9e4, 3e5], [FORWARD, 2.1e5, 2.5e5]]]
    lines = programs.tables(rounds)
    assert lines[2] == "| torch | 1 | **0.900** | NO | 0.475 | 0 of 1 |"  # the least 90 over 100 us, the medians 95 over 200
    assert lines[3] == "| jax | 1 | **1.050** | NO | 0.956 | 0 of 1 |"
    assert f"| {GRADIENT} | 100.0 µs | 90.00 µs | 0.900 | 0.475 | 1.000 0.300 |" in lines
    close = programs.tables([[[GRADIENT, 1.02e5, 1e5], [GRADIENT.replace("dgrad", "wgrad"), 0.9e5, 1e5]]])
    assert close[2].startswith("| torch | 2 | **0.958** | NO |")
    assert close[2].endswith("| 1 of 2 |")
    assert "| yes |" in programs.tables([[[GRADIENT, 1.02e5, 1e5]]])[2]


def test_who_is_first_alternates_from_cell_to_cell_and_from_round_to_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.plan import Budget, Plan, Step
    from harness.store import journal
    from tests import builders

    cells = [builders.cell(workload=name) for name in ("one", "two")]
    plan = Plan("programs", tuple(Step(0, order, cell) for order, cell in enumerate(cells)), 0, Budget())
    asked: list[str] = []

    def reads(name: str, ns: float) -> object:
        return lambda *given: asked.append(name) or ns

    monkeypatch.setattr(journal, "read_plan", lambda folder: plan)
    monkeypatch.setattr(programs, "script_ns", reads("script", 1.0))
    monkeypatch.setattr(programs, "adapter_ns", reads("adapter", 2.0))
    found = {"run": "run", "programs": {str(cell): f"{cell.workload}.py" for cell in cells}}
    where = place.Place(tmp_path, tmp_path)
    pairs = [pair for number in range(2) for pair in programs.in_turns(where, found, number)]
    assert pairs == [(str(cell), 1.0, 2.0) for cell in cells * 2]
    assert asked == ["adapter", "script", "script", "adapter", "script", "adapter", "adapter", "script"]


def test_a_program_runs_in_an_empty_folder_and_must_be_right(tmp_path: Path) -> None:
    program = tmp_path / "report-0.py"
    program.write_text("import os\nassert os.listdir() == ['report.py']\nprint('median 9.0 us, least 7.5 us')\n")
    assert programs.script_ns(program) == 7500.0
    program.write_text("print('    WRONG y[0]: 1')\nprint('least 7.5 us')\n")
    with pytest.raises(SystemExit, match="WRONG y"):
        programs.script_ns(program)
    program.write_text("raise RuntimeError('no such library')\n")
    with pytest.raises(SystemExit, match="no such library"):
        programs.script_ns(program)


def test_an_adapter_is_read_by_the_least_call_of_all_its_visits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.isolate.launcher import Launcher
    from harness.plan import Plan
    from harness.record import Record, Series, SeriesKind, Status, Visit
    from tests import builders

    def visit(*block_ns: int) -> Visit:
        return Visit(0, 0, 0, 0, (Series(SeriesKind.LATENCY, 10, block_ns, (), (), "visits"),) if block_ns else (), 0, 0, None)

    given: list[Plan] = []

    def answers(*found: object) -> object:
        return lambda launcher, plan: given.append(plan) or iter(found)

    cell = builders.cell(workload="one")
    monkeypatch.setattr(
        Launcher, "execute", closable(answers(visit(900, 700), visit(), visit(800, 5000), builders.record(of=cell)))
    )
    assert programs.adapter_ns(cell, tmp_path, tmp_path) == 70.0
    assert [(step.trial, step.cell) for step in given[0].steps] == [(1, cell)]  # no first trial, which would read more
    assert given[0].budget.visits == programs.VISITS
    failed: Record = builders.failed(Status.CRASHED, "no such library")
    monkeypatch.setattr(Launcher, "execute", closable(answers(failed)))
    with pytest.raises(SystemExit, match="no such library"):
        programs.adapter_ns(cell, tmp_path, tmp_path)
    monkeypatch.setattr(Launcher, "execute", closable(answers(visit())))
    with pytest.raises(SystemExit, match="no visit"):
        programs.adapter_ns(cell, tmp_path, tmp_path)


def closable(made: object) -> object:
    """What gives an iterator, as what gives a generator, which can be closed."""

    def given(*arguments: object) -> Iterator[object]:
        yield from made(*arguments)  # type: ignore[operator]

    return given


def test_each_named_cell_is_one_of_its_suite() -> None:
    from harness.ask import expression, planning, suite

    (folder,) = package.__path__
    found = {backend: (planning.Device("cpu"),) for backend in programs.CELLS}
    cells = list(map(str, planning.cells(suite.load(Path(folder) / "programs.toml"), found)))
    for framework, named in programs.CELLS.items():
        assert {cell.split("/")[1] for cell in named} == {"fprop", "dgrad", "wgrad", "bprop", "train"}
        for cell in named:
            fitting = [each for each in cells if expression.keyword(programs.keyword(framework, cell))(each)]
            assert [programs.framework_of(each) for each in fitting] == [framework], cell


@pytest.mark.parametrize(
    ("name", "count"), [("operands", 12), ("flush", 2), ("onednn", 4), ("isa", 3), ("ynn", 2), ("padding", 2)]
)
def test_the_run_of_each_effect_has_what_it_is_read_by(name: str, count: int) -> None:
    from typer.testing import CliRunner

    from harness.cli import app

    (effect,) = (each for each in axes.EFFECTS if each.name == name)
    said = CliRunner().invoke(app, ["run", *effect.run, "--threads", "1", "--dry-run", "--no-ceilings"])
    assert said.exit_code == 0, said.output
    assert len(said.stdout.splitlines()) == count


def test_an_effect_is_told_as_a_row_per_comparison() -> None:
    row = {"workload": "one", "direction": "fprop", "backend": "torch", "mode": "eager", "operands": "denormal", "switch": "x",
           "factor": 1.5, "factor_low": 1.4, "factor_high": 1.6, "difference": "slower", "process_pairs": 5}  # fmt: skip
    lines = axes.table({"flush": [row], "padding": [{**row, "operands": "normal", "workload": "explicit"}]})
    assert len(lines) == 4
    assert lines[2].startswith("| one fprop, torch eager, denormal operands | x over default | 1.5")
    assert lines[3].startswith("| explicit fprop, torch eager | padding in numbers over SAME | 1.5")
    assert axes.tried(["a", "-k", "one or two"], "three") == ["a", "-k", "(one or two) and (three)"]


def test_what_the_commands_of_an_issue_print_has_its_places_in_the_page() -> None:
    commands = issue.commands()
    assert len(commands) == 10
    said = [{"command": command, "printed": f"of {number}\n"} for number, command in enumerate(commands, start=1)]
    said[0]["printed"] = "note     │ CPU clock │ cannot be seen   \n         │  │ why\nfine     │ swap │ none\n"
    assert len(issue.found_lines(f"warning │ {'x' * 200}")[0]) == issue.WIDTH
    text = "**title**\n\n```python\nimport os\n```\n\n</details>\n"
    told = issue.sections({"commands": said, "report.py": "# head\n\nimport os\nrest\n", "issue.md": text})
    assert told["issue-1"] == ["````", "$ convbench doctor", "note     │ CPU clock │ cannot be seen", "...", "````"]
    assert told["issue-4"] == ["````", f"$ {commands[3]}", "of 4", "````"]
    assert told["issue-8"][2:-1] == ["# head", "..."]
    assert told["issue-10"][2:-1] == ["**title**", "", "```python", "...", "```", "", "</details>"]
    page = (issue.ROOT / "docs" / "bug-report.md").read_text()
    for section in (*told, "issue", "programs"):
        assert page.count(f"<!-- {section}: begin -->\n") == page.count(f"<!-- {section}: end -->") == 1


def test_commands_that_fail_are_no_issue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issue, "commands", lambda: ["python -c 'print(7)'; ls > report.py; ls > issue.md", "exit 3"])
    with pytest.raises(SystemExit, match="exit code 3"):
        issue.made(place.Place(tmp_path, tmp_path))
    monkeypatch.setattr(issue, "commands", lambda: ["python -c 'print(7)'; ls > report.py; ls > issue.md"])
    found = issue.made(place.Place(tmp_path, tmp_path))
    assert found["commands"][0]["printed"] == "7\n"
    assert "net.py" in found["issue.md"]
