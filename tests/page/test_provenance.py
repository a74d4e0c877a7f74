from types import SimpleNamespace
from typing import Any

import pytest

from harness.page import provenance
from harness.record import OTHERS_METHOD
from tests.builders import environment, run


@pytest.mark.parametrize(
    ("quota", "said"),
    [(None, "2 physical; may run on CPU 0–1"), (1.5, "2 physical; may run on CPU 0–1, for 1.5 CPUs' worth of time")],
)
def test_the_cores_that_a_run_had_and_the_time_that_it_was_allowed_on_them(quota: float | None, said: str) -> None:
    view: Any = SimpleNamespace(looks={"torch": None})
    found = provenance.machines(run(environments=(environment(cpu_quota=quota),)), view)
    assert dict(found.rows)["Cores"] == [said]


def test_a_run_says_by_whose_rules_it_was_measured() -> None:
    assert provenance.method(run(method_version=3)) == "method version 3"
    assert provenance.method(run(method_version=OTHERS_METHOD)) == "timed by another program, by rules of its own"
