"""What follows from stored profiles: shares, what watching costs, and what keeps a profile from telling all."""

import math
from typing import Any

import pandas as pd
import pytest

from harness.analysis.profiles import profiles
from harness.columns import COLUMNS, PROFILE_COLUMNS
from harness.profile import Kind, Profile
from harness.store import frames
from tests.builders import cell, kernel, profile, unprofiled

MS = 1e6
TORCH, JAX = cell(), cell(backend="jax")


def derived(*stored: Profile, timed_ns: dict[str, float] | None = None) -> pd.DataFrame:
    times = timed_ns or {}
    summary = pd.DataFrame({"cell": list(times), "median_ns": list(times.values())})
    return profiles(frames.profiles_frame(stored), frames.kernels_frame(stored), summary)


def row(*stored: Profile, **more: Any) -> dict[str, Any]:
    (found,) = derived(*stored, **more).to_dict("records")
    return {str(name): value for name, value in found.items()}


def scaled(ns: float, share: float = 1.0, **more: Any) -> Profile:
    """A profile of a call that takes so long, of which a convolution has that share and the framework the rest."""
    kernels = (
        kernel(share * ns),
        kernel((1 - share) * ns, name="call", kind=Kind.FRAMEWORK, implementation="", source="torch.profiler"),
    )  # fmt: skip
    return profile(**{"kernels": kernels, "watched_ns": ns, "plain_ns": ns, **more})


def test_the_shares_of_a_call_add_up_to_one_whatever_kinds_there_are():
    kernels = [
        kernel(10.0 * place, name=str(kind), kind=kind) for place, kind in enumerate(Kind, 1) if kind is not Kind.OUTSIDE
    ]
    found = row(profile(*kernels))
    outside = found["outside_ns"] / found["watched_ns"]
    assert found["kernel_share"] + found["move_share"] + found["framework_share"] + outside == pytest.approx(1)
    assert found["kernel_share"] == pytest.approx(sum((1, 2, 7, 8, 9)) / 100)
    assert found["move_share"] == pytest.approx(sum((3, 4, 5, 6)) / 100)
    assert found["framework_share"] == pytest.approx(sum((10, 11, 13)) / 100)


def test_what_is_derived_of_a_profile():
    found = row(profile(kernel(800.0), flop_compiled=800.0), timed_ns={str(TORCH): 1010.0})
    assert found["timed_ns"] == 1010.0
    assert found["overhead"] == pytest.approx(1000 / 990)
    assert found["outside_ns"] == pytest.approx(200.0)
    assert found["flop_ratio"] == 2.0  # the exact count is 400
    assert found["incomplete"] == ""


def test_the_frame_has_the_columns_of_the_schema_and_a_row_per_profile():
    found = derived(profile(kernel()), unprofiled("timeout: late", of=JAX))
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {name: COLUMNS[name].dtype for name in PROFILE_COLUMNS}
    assert found["cell"].tolist() == [str(TORCH), str(JAX)]
    assert found["problem"].tolist() == ["", "timeout: late"]
    missing = found.iloc[1][["plain_ns", "watched_ns", "timed_ns", "overhead", "outside_ns", "kernel_share", "flop_ratio"]]
    assert missing.isna().all()
    assert found["incomplete"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("plain_ns", "sources", "told"),
    [
        (1000 / 0.91, ("oneDNN",), ""), (1000 / 0.89, ("oneDNN",), "a watched call takes 0.890× the time of a plain one"),
        (1000 / 1.09, ("oneDNN",), ""), (1000 / 1.11, ("oneDNN",), "a watched call takes 1.11× the time of a plain one"),
        (1000 / 1.24, ("XLA 0.10.2 trace",), ""),
        (1000 / 1.26, ("XLA 0.10.2 trace",), "a watched call takes 1.26× the time of a plain one"),
    ],
)  # fmt: skip
def test_watching_may_cost_so_much_and_no_more(plain_ns: float, sources: tuple[str, ...], told: str):
    assert row(profile(kernel(), plain_ns=plain_ns, sources=sources))["incomplete"] == told


@pytest.mark.parametrize(
    ("timed_ns", "told"),
    [
        (1000 / 1.24, ""), (1000 / 1.26, "a watched call takes 1.000 µs, and the run timed 793.7 ns"), (1000 / 0.76, ""),
        (1000 / 0.74, "a watched call takes 1.000 µs, and the run timed 1.351 µs"), (math.nan, ""),
    ],
)  # fmt: skip
def test_a_watched_call_must_be_like_the_one_that_was_timed(timed_ns: float, told: str):
    assert row(profile(kernel()), timed_ns={str(TORCH): timed_ns})["incomplete"] == told


@pytest.mark.parametrize(
    ("ns", "share", "told"),
    [
        (2 * MS, 0.51, ""), (2 * MS, 0.49, "51.0 % of the call lie in no kernel"), (0.9 * MS, 0.1, ""),
    ],
)  # fmt: skip
def test_most_of_a_long_call_must_lie_in_kernels(ns: float, share: float, told: str):
    assert row(scaled(ns, share))["incomplete"] == told


def test_all_that_is_missing_is_told():
    found = row(scaled(2 * MS, 0.2, plain_ns=1 * MS), timed_ns={str(TORCH): 1 * MS})
    assert found["incomplete"].count(";") == 2
