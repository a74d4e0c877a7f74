from types import SimpleNamespace
from typing import Any

import pytest

from harness.page import facts
from tests.builders import environment, run


@pytest.mark.parametrize(
    ("quota", "said"),
    [(None, "2 physical; may run on CPU 0–1"), (1.5, "2 physical; may run on CPU 0–1, for 1.5 CPUs' worth of time")],
)
def test_the_cores_that_a_run_had_and_the_time_that_it_was_allowed_on_them(quota: float | None, said: str) -> None:
    view: Any = SimpleNamespace(looks={"torch": None})
    found = facts.machines(run(environments=(environment(cpu_quota=quota),)), view)
    assert dict(found.rows)["Cores"] == [said]
