"""Which cells go on after a trial: by default backends and modes compete, in a tuning the settings of each backend."""

import random
from dataclasses import replace

from harness.analysis.ranking import Sureness
from harness.ask import planning
from harness.axes import Layout, Mode
from harness.execution.growth import SoFar, grown, sure
from harness.plan import Budget, Plan
from harness.record import Record, Status
from harness.spec import Cell
from tests.builders import cell, failed, record

FIRST, LAST = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST
TUNED = {"layout": "NHWC", "mode": "eager"}
WANDERS, NEAR = (1.0, 1.3, 0.8, 1.1), (1.2, 0.9, 1.1, 0.9)  # two that nobody can tell apart


def trials(of: Cell, time_ns: float, factors=(1.0, 1.001, 0.999, 1.0)) -> list[Record]:
    return [
        record([round(time_ns * factor * (1 + 0.002 * (place % 3 - 1))) for place in range(30)], trial=trial, of=of)
        for trial, factor in enumerate(factors)
    ]


def goes_on(records: list[Record], tuned: dict[str, str], **budget) -> list[str]:
    """Layout, mode and backend of the cells of the next trial, sorted; empty where the run has come to its end."""
    plan = Plan("small", (), 0, Budget(**{"until": 0.02, **budget}), tuned=tuned)
    for _ in range(1 + max(each.trial for each in records)):
        plan = planning.extended(plan, list(dict.fromkeys(each.cell for each in records)), random.Random(0))
    more = grown(plan, SoFar.of(records, [], "small"), 0.0)
    new = more.steps[len(plan.steps) :] if more else ()
    return sorted(f"{step.cell.layout_text} {step.cell.mode} {step.cell.backend}" for step in new)


def settings(backend: str = "torch") -> dict[str, Cell]:
    return {
        f"{layout} {mode}": cell(layout=layout, mode=mode, backend=backend)
        for layout in (LAST, FIRST) for mode in (Mode.EAGER, Mode.COMPILED)
    }  # fmt: skip


def test_a_setting_that_is_surely_slower_is_dropped_and_the_default_stays_as_a_partner():
    of = settings()
    records = [
        *trials(of["NHWC eager"], 900_000), *trials(of["NCHW eager"], 100_000, WANDERS),
        *trials(of["NCHW compiled"], 100_000, NEAR), *trials(of["NHWC compiled"], 900_000),
    ]  # fmt: skip
    assert goes_on(records, TUNED) == ["NCHW compiled torch", "NCHW eager torch", "NHWC eager torch"]


def test_settings_of_the_reference_race_too():
    of = settings("numpy")
    close = [*trials(of["NHWC eager"], 100_000, WANDERS), *trials(of["NCHW eager"], 100_000, NEAR)]
    assert goes_on(close, TUNED) == ["NCHW eager numpy", "NHWC eager numpy"]
    assert goes_on(close, {}) == []


def test_when_all_settings_of_a_backend_are_sure_its_default_stops_too():
    fast, slow = settings(), settings("jax")
    records = [
        *trials(fast["NHWC eager"], 100_000), *trials(fast["NCHW eager"], 200_000),
        *trials(slow["NHWC eager"], 900_000, WANDERS), *trials(slow["NCHW eager"], 900_000, NEAR),
    ]  # fmt: skip
    assert goes_on(records, TUNED) == ["NCHW eager jax", "NHWC eager jax"]  # though far slower than torch


def test_the_same_run_that_is_no_tuning_drops_the_slower_backend():
    fast, slow = settings(), settings("jax")
    records = [
        *trials(fast["NHWC eager"], 100_000), *trials(fast["NHWC compiled"], 200_000),
        *trials(slow["NHWC eager"], 900_000, WANDERS), *trials(slow["NHWC compiled"], 900_000, NEAR),
    ]  # fmt: skip
    assert goes_on(records, {}) == []


def test_a_setting_whose_result_was_wrong_is_measured_no_further_be_it_the_default():
    of = settings()
    wrong = [failed(Status.INCORRECT, "off", trial=trial, of=of["NHWC eager"]) for trial in range(4)]
    close = [*trials(of["NCHW eager"], 100_000, WANDERS), *trials(of["NCHW compiled"], 100_000, NEAR)]
    assert goes_on([*wrong, *close], TUNED) == ["NCHW compiled torch", "NCHW eager torch"]


def test_where_nothing_is_left_to_choose_from_nothing_goes_on():
    of = settings()
    wrong = [failed(Status.ERROR, "no", trial=trial, of=of["NCHW eager"]) for trial in range(4)]
    assert goes_on([*trials(of["NHWC eager"], 100_000, WANDERS), *wrong], TUNED) == []


def test_before_four_trials_all_go_on_and_no_more_are_made_than_asked_for():
    of = settings()
    records = [*trials(of["NHWC eager"], 900_000), *trials(of["NCHW eager"], 100_000)]
    early = [replace(each) for each in records if each.trial < 3]
    assert goes_on(early, TUNED) == ["NCHW eager torch", "NHWC eager torch"]
    assert goes_on(early, TUNED, most_trials=3, trials=3) == []


def test_how_sure_a_run_is_so_far_is_said_of_its_comparisons_with_the_fastest():
    of = {name: cell(backend=name) for name in ("torch", "jax", "tensorflow")}
    plan, steady = Plan("small", (), 0, Budget()), (1.0, 1.001, 0.999, 1.0)

    def so_far(count: int, plan: Plan = plan) -> Sureness:
        records = [
            *trials(of["torch"], 100_000, steady[:count]), *trials(of["jax"], 300_000, steady[:count]),
            *trials(of["tensorflow"], 100_000, WANDERS[:count]),
        ]  # fmt: skip
        return sure(plan, SoFar.of(records, [], "small"))

    assert so_far(1).words == "comparisons: 2, how well they are known takes 2 trials"
    assert so_far(3).words.endswith(" in the median, 0 of 2 decided")  # nothing is decided before 4 pairs
    assert so_far(4).words.endswith(" in the median, 1 of 2 decided")
    widths = [so_far(count).half for count in (2, 3, 4)]
    assert so_far(2).words.startswith("comparisons not known to a factor of 2 yet")
    assert widths == sorted(widths, reverse=True)
    looked_at = Plan("small", (), 0, Budget(until=0.02))
    assert so_far(4, looked_at).half > so_far(4).half  # a look takes a part of what may go wrong, and its intervals are wider
    alone = SoFar.of(trials(of["torch"], 100_000), [], "small")
    assert sure(plan, alone).comparisons == 0


def test_a_twin_by_the_standard_goes_on_with_its_cell_and_with_no_other():
    close, slow = (cell(mode=mode) for mode in (Mode.EAGER, Mode.COMPILED))
    fast = cell(backend="jax")
    records = [
        *trials(close, 100_000, WANDERS), *trials(fast, 100_000, NEAR), *trials(slow, 900_000),
        *(each for one in (close, fast, slow) for each in trials(replace(one, backend=f"{one.backend}@pinned"), 100_000)),
    ]  # fmt: skip
    assert goes_on(records, {}) == [f"NCHW eager {name}" for name in ("jax", "jax@pinned", "torch", "torch@pinned")]
