import pytest

from harness.measure.ledger import Ledger
from tests.measure.scripted import Clock


def test_what_is_spent_inside_belongs_to_the_inner_name_alone() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.spending("outer"):
        clock.pass_(5)
        with ledger.spending("inner"):
            clock.pass_(7)
            with ledger.spending("innermost"):
                clock.pass_(11)
        clock.pass_(13)
        with ledger.spending("inner"):
            clock.pass_(17)
    assert ledger.ns == {"outer": 18, "inner": 24, "innermost": 11}


def test_a_failure_is_booked_too() -> None:
    clock = Clock()
    ledger = Ledger(clock)

    def fail() -> None:
        with ledger.spending("outer"), ledger.spending("inner"):
            clock.pass_(3)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    with ledger.spending("later"):
        clock.pass_(2)
    assert ledger.ns == {"outer": 0, "inner": 3, "later": 2}
