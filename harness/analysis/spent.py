"""Where the time of a run went: records to one row per kind of step."""

import pandas as pd

from harness.columns import SPENT

REST = "rest"
# Measuring is what the time is for; of the rest, what the harness itself adds to it, and what keeps the figures honest.
OWN = ("witness", "yardstick", "wire", "parent")
PROOF = ("check", "memory")


def spent(records: pd.DataFrame, wall_s: float | None) -> pd.DataFrame:
    """Columns step, seconds, share, meaning, in the order of columns.SPENT; `rest` is what of the wall time nobody booked.

    Shares are of the wall time, of the sum where a run was cut off and has none. The rest is planning, probing, profiling
    and sealing.
    """
    seconds = {step: float(records[f"spent_{step}_ns"].sum()) / 1e9 for step in SPENT}
    total = wall_s if wall_s is not None else sum(seconds.values())
    seconds[REST] = max(total - sum(seconds.values()), 0.0)
    meanings = {**SPENT, REST: "of planning, probing, profiling and sealing."}
    return pd.DataFrame(
        [(step, took, took / total if total else 0.0, meanings[step]) for step, took in seconds.items()],
        columns=["step", "seconds", "share", "meaning"],
    )


def share_of(
    table: pd.DataFrame, steps: tuple[str, ...], beside: tuple[str, ...] = ("start", "first_call", "set_aside", REST)
) -> float:
    """The share of these steps in the time without `beside`: starting and compiling belong to the frameworks, and what was
    set aside has all steps in it."""
    by_step = table.set_index("step")["seconds"]
    left = float(by_step.drop(list(beside)).sum())
    return float(by_step[list(steps)].sum()) / left if left else 0.0
