"""The first section in parts: validity in words, what the slower cases have in common, the largest changes."""

import dataclasses

import pytest

from harness.outcome import Check, Difference, Outcome, Result
from harness.page import opening
from tests.page import synthetic


def checks(*results: Result) -> list[Check]:
    return [Check(f"check {place}", result, f"measured {place}", "limit") for place, result in enumerate(results)]


def test_validity_says_what_failed_what_warned_and_what_is_not_known():
    assert opening.trust(checks(Result.PASS, Result.PASS)) == "usable, all 2 checks passed."
    told = opening.trust(checks(Result.WARNING, Result.UNKNOWN, Result.PASS))
    assert told == "usable; 1 warning (check 0: measured 0), 1 not measured."
    blocking = [dataclasses.replace(each, blocks=True) for each in checks(Result.FAILED)]
    assert opening.trust(blocking) == "not usable; 1 failed (check 0: measured 0)."


@pytest.mark.parametrize(("parts", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_parts_are_listed_as_in_a_sentence(parts: list[str], said: str):
    assert opening.listed(parts) == said


def test_the_largest_changes_come_by_severity_and_what_is_cut_is_counted(made, view):
    judged = synthetic.judged(made, {"torch": 1.2, "jax rn50_conv1": 0.8})
    head = opening.beside_baseline(view, judged, synthetic.CHECKS, synthetic.DIFFERENCES, None)
    slower = judged.cases[judged.cases["verdict"] == Outcome.SLOWER]
    rows = [row for row in head.changes or [] if row.word.startswith(Outcome.SLOWER.icon)]
    assert len(rows) == opening.MOST[Outcome.SLOWER] < len(slower)
    assert (Outcome.SLOWER.words, len(rows), len(slower)) in head.more
    severity = [float(row.severity.removesuffix("×")) for row in rows]
    assert severity == sorted(severity, reverse=True)


def test_a_case_that_this_run_does_not_have_is_named_without_a_link(made, view):
    head = opening.beside_baseline(view, synthetic.judged(made, {}), synthetic.CHECKS, (), None)
    (lost,) = [row for row in head.changes or [] if row.now == "lost"]
    assert (lost.case, lost.slug, lost.backend.text, lost.backend.icon) == ("gone · forward", "", "gone", "")


def test_at_most_four_differences_are_named(made, view):
    many = [Difference(f"fact {place}", "1", "2") for place in range(6)]
    head = opening.beside_baseline(view, synthetic.judged(made, {}), synthetic.CHECKS, many, None)
    assert "fact 3 1 → 2 and 2 more." in head.differ
    assert "fact 4" not in head.differ


def test_another_method_than_before_is_told_on_the_first_screen(made, view):
    judged = dataclasses.replace(synthetic.judged(made, {}), notes=("method 11 → 12: compared by 5 cells",))
    head = opening.beside_baseline(view, judged, synthetic.CHECKS, (), None)
    assert head.sentences == ["Method 11 → 12: compared by 5 cells."]
    assert opening.beside_baseline(view, synthetic.judged(made, {}), synthetic.CHECKS, (), None).sentences == []


def test_the_figures_of_the_last_thirty_nights_oldest_first(made):
    nights = synthetic.nights(made, 40)
    found = opening.lines(nights)
    cell = nights["cell"].iloc[0]
    mine = nights[nights["cell"] == cell].sort_values("started_at")["night_ns"].to_list()
    assert found[cell] == mine[-30:]
    assert opening.lines(None) == {}


def test_a_slower_case_says_what_ran_and_names_stand_as_code(made, view):
    judged = synthetic.judged(made, {"torch": 1.2})
    cases = judged.cases
    cases.loc[cases["verdict"].isin([Outcome.SLOWER, Outcome.FAILED, Outcome.LOST]), "what_ran"] = (
        "`ref:<any>` on 11-27, `brg` on 11-20"
    )
    judged = dataclasses.replace(judged, cases=cases, notes=("2 cases run another kernel: `a&b`",))
    head = opening.beside_baseline(view, judged, synthetic.CHECKS, (), None)
    told = "<code>ref:&lt;any&gt;</code> on 11-27, <code>brg</code> on 11-20"
    assert {str(row.ran) for row in head.changes or [] if row.word.startswith(Outcome.SLOWER.icon)} == {told}
    assert {str(row.ran) for row in head.changes or [] if row.now == "lost"} == {""}
    assert [str(sentence) for sentence in head.sentences] == ["2 cases run another kernel: <code>a&amp;b</code>."]
