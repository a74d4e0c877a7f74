"""The vocabulary of outcomes: what one word says agrees with what another one says."""

import pickle

import pytest

from harness.digest import SCHEMA, Digest
from harness.outcome import CHANGED, COMPARABLE, Difference, Level, Outcome, Result, State, differences
from tests.builders import START


@pytest.mark.parametrize("kind", [Level, Outcome, State, Result])
def test_a_member_is_found_by_its_value_alone(kind):
    for member in kind:
        assert kind(member.value) is member
        assert pickle.loads(pickle.dumps(member)) is member
        assert str(member) == member.value


def test_what_is_slower_fails_a_test_unless_the_next_night_must_say_so_too():
    assert {state for state in State if state.outcome is Outcome.SLOWER and state.passes} == {State.SUSPECT}
    assert {outcome for outcome in CHANGED if outcome.passes} == {Outcome.FASTER}
    assert Outcome.UNCERTAIN.passes is None


def test_what_changed_is_comparable_and_has_a_tone_and_an_icon():
    assert set(CHANGED) < set(COMPARABLE)
    assert all(outcome.tone and outcome.icon for outcome in COMPARABLE)
    assert all(level.tone and level.icon for level in Level)


def test_words_are_for_people():
    assert Outcome.NO_CHANGE.words == "no change"
    assert Outcome.STILL_FAILED.words == "failed (known)"
    assert State.INSUFFICIENT_HISTORY.words == "insufficient history"
    assert Level.MACHINE_EVENT.tag == "! machine event"


def test_a_fact_that_one_side_lacks_differs_from_none():
    found = differences({"torch": "2.13", "CPU": "x"}, {"torch": "2.14", "CPU": "x", "driver": "580"})
    assert found == (Difference("torch", "2.13", "2.14"), Difference("driver", "", "580"))
    assert [each.words for each in found] == ["torch 2.13 → 2.14", "driver none → 580"]


def test_a_digest_counts_states_of_the_gate_under_what_they_come_to():
    digest = Digest(
        SCHEMA, "run", "suite", START, 1.0, "id", "CPU", "", "", "", 0, "",
        {"confirmed": 1, "suspect": 2, "improving": 4, "steady": 8, "failed": 16, "failing": 32, "slower": 64}, {}, 0,
    )  # fmt: skip
    counts = {outcome: digest.count(outcome) for outcome in (Outcome.SLOWER, Outcome.FASTER, Outcome.FAILED)}
    assert counts == {Outcome.SLOWER: 67, Outcome.FASTER: 4, Outcome.FAILED: 16}
