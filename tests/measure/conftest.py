from itertools import repeat

import pytest

from harness.measure import later, witness
from tests.measure.scripted import CALL, Backend, Clock, Machine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def machine(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(clock)
    monkeypatch.setattr(witness, "RunDelay", found.delay)
    monkeypatch.setattr(witness, "Others", found.rest)
    monkeypatch.setattr(witness, "steal_ns", lambda: None)
    return found


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call by lot, whose result is compared with the first one's, is the one before the warm-up."""
    monkeypatch.setattr(later, "by_lot", lambda rng: 0.0)


@pytest.fixture
def backend(clock: Clock) -> Backend:
    return Backend(clock, repeat(CALL))
