import pandas as pd
import pytest

from harness.analysis.spent import OWN, PROOF, share_of, spent
from harness.columns import SPENT


def records(**seconds: list[float]) -> pd.DataFrame:
    rows = max(map(len, seconds.values()))
    return pd.DataFrame({f"spent_{step}_ns": [s * 1e9 for s in seconds.get(step, [0.0] * rows)] for step in SPENT})


def test_seconds_and_shares_are_of_the_wall_time() -> None:
    table = spent(records(start=[3.0, 0.0], sampling=[2.0, 4.0]), 20.0).set_index("step")
    assert list(table.index) == [*SPENT, "rest"]
    assert table.loc["start", "seconds"] == 3.0
    assert table.loc["sampling", "seconds"] == 6.0
    assert table.loc["sampling", "share"] == pytest.approx(0.3)
    assert table.loc["rest", "seconds"] == pytest.approx(11.0)
    assert table["share"].sum() == pytest.approx(1.0)


def test_a_run_that_was_cut_off_has_shares_of_what_was_booked() -> None:
    table = spent(records(sampling=[3.0], check=[1.0]), None).set_index("step")
    assert table.loc["check", "share"] == pytest.approx(0.25)
    assert table.loc["rest", "seconds"] == 0.0


def test_what_was_not_booked_counts_as_nothing() -> None:
    frame = records(sampling=[3.0, 2.0])
    frame.loc[1, "spent_sampling_ns"] = None
    assert spent(frame, None).set_index("step").loc["sampling", "seconds"] == 3.0


def test_the_harness_own_share_leaves_out_what_the_frameworks_take() -> None:
    took = {"start": 50.0, "first_call": 30.0, "sampling": 6.0, "warmup": 2.0, "check": 1.0, "witness": 0.5, "wire": 0.5}
    table = spent(records(**{step: [seconds] for step, seconds in took.items()}, set_aside=[10.0]), 100.0)
    assert share_of(table, OWN) == pytest.approx(0.1)
    assert share_of(table, PROOF) == pytest.approx(0.1)
