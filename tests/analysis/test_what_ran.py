"""What ran before a change and what runs now: which kernels are named, what is said of two profiles, and of which nights."""

from datetime import timedelta

import pandas as pd
import pytest

from harness.analysis import what_ran
from harness.analysis.gate import judge
from harness.analysis.what_ran import BOTH_RUNS, Change, Ran, Words, change, of_nights, of_runs, read, with_kernels
from harness.columns import CASE_COLUMNS, COLUMNS, COMPARISON_COLUMNS
from harness.outcome import Level
from harness.profile import Kind
from tests.builders import START, run
from tests.histories import cell_id, flat, history, run_id, with_step

NIGHTS = Words("on 11-20", "on 11-27")
MS = 1e6
STEP = 20


def ran(computing: dict[str, float] | None = None, unsure: str = "", **others: float) -> Ran:
    """A profile with these times in ms."""
    ns = {name: ms * MS for name, ms in (computing or {"brg": 1.0}).items()}
    return Ran("run", ns, {kind: ms * MS for kind, ms in others.items()}, unsure)


# From the frames ----------------------------------------------------------------------------------------------------------


def kernel(kind: Kind, ns: float, implementation: str = "", name: str = "it", cell: str = "a") -> dict:
    return {"run_id": "r", "cell": cell, "kind": str(kind), "name": name, "implementation": implementation, "kernel_ns": ns}


def frames(*rows: dict, problem: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    kernels = pd.DataFrame(rows, columns=["run_id", "cell", "kind", "name", "implementation", "kernel_ns"])
    cells = kernels["cell"].unique()
    return kernels, pd.DataFrame({"cell": cells, "problem": [problem] * len(cells)})


def test_times_are_summed_by_kernel_and_else_by_kind():
    found = read(*frames(
        kernel(Kind.CONVOLUTION, 5, "brg_conv_fwd:avx512_core"), kernel(Kind.CONVOLUTION, 3, "brg_conv_fwd:avx512_core"),
        kernel(Kind.GEMM, 2, name="dot"), kernel(Kind.REORDER, 1), kernel(Kind.REORDER, 1), kernel(Kind.OUTSIDE, 4),
    ))["a"]  # fmt: skip
    assert found.computing == {"brg_conv_fwd:avx512_core": 8, "dot": 2}
    assert found.others == {"reorder": 2, "outside": 4}
    assert found.whole_ns == 16


def test_a_kernel_has_the_same_name_whatever_number_the_compiler_gave_it():
    one, other = (read(*frames(kernel(Kind.CONVOLUTION, 5, name=name)))["a"] for name in ("ynn_fusion.3", "ynn_fusion.12"))
    assert one.main == other.main == ("ynn_fusion",)


def test_where_nobody_knows_what_the_parts_do_they_may_compute_it_and_nothing_else_may():
    assert read(*frames(kernel(Kind.OTHER, 5, name="fusion"), kernel(Kind.OUTSIDE, 9)))["a"].main == ("fusion",)
    both = read(*frames(kernel(Kind.OTHER, 9, name="fusion"), kernel(Kind.CONVOLUTION, 5, "brg")))["a"]
    assert (both.main, both.others) == (("brg",), {"other": 9})
    assert read(*frames(kernel(Kind.FRAMEWORK, 5), kernel(Kind.OUTSIDE, 9))) == {}
    assert read(*frames()) == {}


def test_the_main_kernels_are_the_longest_and_those_of_a_fifth_of_its_time():
    assert ran({"a": 1.0, "b": 5.0, "c": 0.9}).main == ("b", "a")
    assert ran({"a": 1.0, "b": 5.0}).text == "`b` and `a`"
    assert ran({"a": 3, "b": 2, "c": 1}).text == "`a`, `b` and `c`"
    assert ran(dict.fromkeys("edcba", 1)).text == "`a`, `b`, `c` and 2 more"


def test_no_name_ends_a_piece_of_code():
    found = read(*frames(kernel(Kind.CONVOLUTION, 5, "a`b")))["a"]
    assert found.text == "`a'b`"


# Sentences ----------------------------------------------------------------------------------------------------------------


def test_another_kernel_is_named_with_both_nights():
    found = change(ran({"brg_conv_fwd:avx512_core": 1.0}), ran({"ref:any": 9.0}), NIGHTS)
    assert found.sentence == "`ref:any` on 11-27, `brg_conv_fwd:avx512_core` on 11-20"
    assert found.another
    told = {"ran_before": "brg_conv_fwd:avx512_core", "ran_now": "ref:any", "another_kernel": True}
    assert found.columns == {"what_ran": found.sentence, **told}


def test_one_of_several_kernels_that_goes_or_comes_is_another():
    both = ran({"Conv2D": 5.0, "x64:gemm:jit": 2.0})
    assert change(both, ran({"Conv2D": 7.0}), NIGHTS).sentence == "`Conv2D` on 11-27, `Conv2D` and `x64:gemm:jit` on 11-20"
    assert change(ran({"Conv2D": 7.0}), both, NIGHTS).another


@pytest.mark.parametrize("share", [0.19, 0.21])
def test_a_share_that_wanders_about_the_limit_is_no_change(share: float):
    one, other = ran({"Conv2D": 1.0, "gemm": 0.2 * 0.99}), ran({"Conv2D": 1.0, "gemm": share})
    assert not change(one, other, NIGHTS).another
    assert not change(other, one, NIGHTS).another


@pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
        (ran(), ran({"brg": 1.4}), "the same kernel takes longer: `brg` 1.400 ms on 11-27, 1.000 ms on 11-20"),
        (ran(), ran({"brg": 0.7}), "the same kernel takes less time: `brg` 700.0 µs on 11-27, 1.000 ms on 11-20"),
        (
            ran({"a": 2, "b": 1}), ran({"a": 3, "b": 1}),
            "the same kernels take longer: `a` and `b` 4.000 ms on 11-27, 3.000 ms on 11-20",
        ),
        (
            ran(reorder=0.02, outside=0.1), ran({"brg": 1.02}, reorder=0.4, outside=0.2),
            "the same kernel: `brg` 1.020 ms on 11-27, 1.000 ms on 11-20; what grew is the time in reorder, "
            "400.0 µs after 20.00 µs",
        ),
        (
            ran(outside=0.5), ran(outside=0.1),
            "the same kernel: `brg` 1.000 ms on 11-27, 1.000 ms on 11-20; what shrank is the time in no event, "
            "100.0 µs after 500.0 µs",
        ),
        (
            ran(), ran({"brg": 1.04}),
            "the same kernel, and the profiles show no change: `brg` 1.040 ms on 11-27, 1.000 ms on 11-20",
        ),
        (
            ran(), ran({"brg": 2.0}, unsure="2 of 40 calls were undisturbed"),
            "the same kernel, `brg`, on 11-27 and on 11-20; what took longer is not known: 2 of 40 calls were undisturbed",
        ),
    ],
)  # fmt: skip
def test_of_the_same_kernel_it_says_what_takes_longer(before: Ran, now: Ran, sentence: str):
    found = change(before, now, NIGHTS)
    assert (found.sentence, found.another) == (sentence, False)


def test_without_a_profile_it_says_so():
    assert change(None, ran(), NIGHTS).sentence == "`brg` on 11-27; no profile of before"
    assert change(ran(), None, NIGHTS).sentence == "`brg` on 11-20; no profile since"
    assert change(None, None, NIGHTS) == Change("not profiled")
    assert change(None, ran(), BOTH_RUNS).sentence == "`brg` in new; not profiled in base"
    assert change(ran(), ran({"ref": 1}), BOTH_RUNS).sentence == "`ref` in new, `brg` in base"


# Nights -------------------------------------------------------------------------------------------------------------------


def told(values, night: int, profiled: dict[int, dict[str, Ran]], **overrides):
    """The judgement of a night, with what ran; `profiled` are the profiles by the number of the night."""
    known = history(values, **overrides).until(run_id(night))
    asked = []

    def look(of):
        asked.append(of.id)
        return profiled.get([each.id for each in known.runs].index(of.id), {})

    found = with_kernels(judge(known), known.runs, look)
    assert len(asked) == len(set(asked))  # none is read twice
    return found


def of(night: int, kernel: str, ms: float = 1.0) -> dict[str, Ran]:
    """A profile of the first case on a night."""
    return {cell_id(0): Ran(run_id(night), {kernel: ms * MS}, {})}


def first(judgement) -> pd.Series:
    return judgement.cases.set_index("cell").loc[cell_id(0)]


SLOW = with_step(flat(6, STEP + 5), STEP, 1.3)


def test_a_slower_case_says_what_ran_on_the_last_nights_before_and_since_the_change():
    profiled = {12: of(12, "old"), 17: of(17, "fast"), STEP: of(STEP, "slow", 9), STEP + 2: of(STEP + 2, "slow", 10)}
    for night, day in ((STEP, "03-21"), (STEP + 1, "03-21"), (STEP + 2, "03-23"), (STEP + 4, "03-23")):
        row = first(told(SLOW, night, profiled))
        assert row["what_ran"] == f"`slow` on {day}, `fast` on 03-18"
        assert (row["ran_before"], row["ran_before_id"], row["ran_now"]) == ("fast", run_id(17), "slow")
        assert row["ran_now_id"] == run_id(STEP if day == "03-21" else STEP + 2)


def test_a_slower_case_without_a_profile_of_before_or_since_says_so():
    assert first(told(SLOW, STEP, {}))["what_ran"] == "not profiled"
    assert first(told(SLOW, STEP, {STEP: of(STEP, "slow")}))["what_ran"] == "`slow` on 03-21; no profile of before"
    assert first(told(SLOW, STEP + 1, {3: of(3, "fast")}))["what_ran"] == "`fast` on 03-04; no profile since"


def test_of_cases_as_before_nothing_is_said_but_where_another_kernel_runs():
    calm = flat(6, STEP)
    quiet = told(calm, 15, {4: of(4, "one"), 15: of(15, "one", 2.0)})
    assert set(quiet.cases["what_ran"]) == {""}
    assert set(quiet.cases["ran_now_id"]) == {""}
    moved = told(calm, 15, {4: of(4, "one"), 15: of(15, "other")})
    assert (moved.level, first(moved)["state"]) == (Level.QUIET, "steady")
    assert (
        moved.reasons[-1] == "1 case runs another kernel: `other` on 03-16, `one` on 03-05 (conv0 forward, torch eager on cpu)"
    )
    assert set(told(calm, 16, {4: of(4, "one"), 15: of(15, "other")}).cases["what_ran"]) == {""}  # it was said on its night


def test_a_change_of_kernel_is_named_on_the_second_night_of_all():
    moved = told(flat(6, 2), 1, {0: of(0, "one"), 1: of(1, "other")})
    assert first(moved)["state"] == "insufficient_history"
    assert first(moved)["what_ran"] == "`other` on 03-02, `one` on 03-01"


def test_cases_with_the_same_change_of_kernel_are_told_together():
    def all_of(night: int, kernels: str) -> dict[str, Ran]:
        return {cell_id(case): Ran(run_id(night), {kernel: MS}, {}) for case, kernel in enumerate(kernels)}

    moved = told(flat(6, 12), 11, {3: all_of(3, "aaabcd"), 11: all_of(11, "xxxyzw")})
    lines = [reason for reason in moved.reasons if "another kernel" in reason]
    assert lines[0].startswith("3 cases run another kernel: `x` on 03-12, `a` on 03-04 (conv")
    assert lines[0].endswith(" forward, torch eager on cpu and 2 more)")
    assert lines[1].startswith("1 case runs another kernel: ")
    assert lines[3] == "1 more case with another kernel"
    assert len(lines) == 4


def test_profiles_of_another_machine_are_none_of_its():
    values = with_step(flat(6, STEP + 1), STEP, 1.3)
    values[0, 15] = float("nan")
    machines = ["machine-1", *["machine-2"] * 5]  # on the 16th night the first machine does not report
    row = first(told(values, STEP, {15: of(15, "elsewhere"), 10: of(10, "here")}, machines=machines))
    assert row["ran_before_id"] == run_id(10)


def test_dates_have_the_hour_or_the_year_where_they_need_it():
    night = run("n", started_at=START)
    later = run("l", started_at=START + timedelta(hours=3))
    next_year = run("y", started_at=START + timedelta(days=365))
    assert what_ran._dated(night, later)[:2] == ("on 03-01 02:30", "on 03-01 05:30")
    assert what_ran._dated(night, next_year)[:2] == ("on 2026-03-01", "on 2027-03-01")
    assert what_ran._dated(None, later)[:2] == ("", "on 03-01")


def test_the_frames_keep_the_columns_and_dtypes_of_the_schema():
    found = told(SLOW, STEP, {STEP: of(STEP, "slow")}).cases
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {name: COLUMNS[name].dtype for name in CASE_COLUMNS}
    assert of_nights(found[:0], history(SLOW).runs, lambda run: {}).empty


# Two runs -----------------------------------------------------------------------------------------------------------------


def test_a_comparison_says_it_of_what_is_slower_and_of_what_runs_otherwise():
    verdicts = ["slower", "no_change", "no_change", "faster", "only_new", "uncertain"]
    compared = pd.DataFrame({"cell": list("abcdef"), "verdict": verdicts}).reindex(columns=list(COMPARISON_COLUMNS))
    base = {cell: ran({kernel: 1.0}) for cell, kernel in zip("abcdf", "uvwxy", strict=True)}
    new = {cell: ran({kernel: 1.0}) for cell, kernel in zip("abce", "uVwz", strict=True)}
    found = of_runs(compared, base, new)["what_ran"].tolist()
    assert found == [
        "the same kernel, and the profiles show no change: `u` 1.000 ms in new, 1.000 ms in base",
        "`V` in new, `v` in base",
        "",
        "`x` in base; not profiled in new",
        "",
        "",
    ]
