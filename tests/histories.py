"""Histories for tests: matrices of times by case and night, with plain values for everything else."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.history import History
from harness.columns import NIGHT_COLUMNS
from harness.record import NIGHTLY, Acknowledgement, Run
from tests.builders import START, environment, run

MS = 1e6  # ns: plain cells take milliseconds, so that 20 us are less than 3 %


def run_id(night: int) -> str:
    """The id of a night's run; ids sort by time."""
    return f"night-{night:04d}"


def cell_id(case: int, backend: str = "torch") -> str:
    """The id of a plain cell."""
    return f"conv{case}/fprop/{backend}/eager/cpu/fp32/nchw/hot/t1"


def history(
    values: Sequence[Sequence[float]] | np.ndarray,
    *,
    backends: Sequence[str] | None = None,
    machines: Sequence[str] | None = None,
    packages: Callable[[int], Mapping[str, str]] = lambda night: {},
    facts: Callable[[int], Mapping[str, Any]] = lambda night: {},
    of_run: Callable[[int], Mapping[str, Any]] = lambda night: {},
    row: Callable[[int, int], Mapping[str, Any]] = lambda case, night: {},
    ratios: np.ndarray | None = None,
    references: Sequence[float] | None = None,
    hours: float = 24,
    vs_standard: np.ndarray | None = None,
    standard: Callable[[int], Mapping[str, str]] = lambda night: {"torch": "2.13"},
) -> History:
    """A history of values [C, N] in ms, one row per case, one column per night, the newest last; None or NaN: no row.

    `backends` and `machines` are by case. By night, `packages` are those of torch's environment beside torch 2.13, `facts` are
    of every environment, `of_run` of the run. `row` says what is special of a row; `ratios` are in yardsticks, `references` the
    yardsticks' times in ns. `vs_standard` are the ratios to the standard `pinned`, NaN for none, and `standard` its packages.
    """
    values = np.array(values, dtype=float)
    cases, nights = values.shape
    backends = backends or ["torch"] * cases
    machines = machines or ["machine-1"] * cases
    runs, rows = [], []
    for night in range(nights):
        used = sorted({(machines[case], backends[case]) for case in range(cases) if not np.isnan(values[case, night])})
        environments = tuple(_environment(machine, backend, packages(night), facts(night)) for machine, backend in used)
        if vs_standard is not None:
            pinned = [environment(id=f"{each}/pinned", machine_id=each, backend="torch@pinned", packages=dict(standard(night)))
                      for each in sorted(set(machines))]  # fmt: skip
            environments += tuple(pinned)
        plain = {"started_at": START + timedelta(hours=hours * night), "tags": (NIGHTLY,), "environments": environments}
        plain["standard"] = "" if vs_standard is None else "pinned"
        plain["finished_at"] = plain["started_at"] + timedelta(hours=hours / 2)
        runs.append(run(run_id(night), **{**plain, **of_run(night)}))
        for case in range(cases):
            if np.isnan(values[case, night]):
                continue
            beside = np.nan if vs_standard is None else vs_standard[case, night]
            ratio = np.nan if ratios is None else ratios[case, night]
            reference = np.nan if references is None else references[night]
            backend, machine = backends[case], machines[case]
            axes = {"cell": cell_id(case, backend), "workload": f"conv{case}", "backend": backend, "machine_id": machine}
            if "@" in backend:  # the equal of the case before it
                axes |= {"cell": cell_id(case - 1, backend), "workload": f"conv{case - 1}"}
            rows.append(
                {
                    "run_id": run_id(night), "shape": "n1 c1 k1 4x4 f3x3", "direction": "fprop", "mode": "eager",
                    "device": "cpu", "threads": 1, "status": "ok", "reason": "", "barred_by": "",
                    "median_ns": values[case, night] * MS,
                    "yardstick_ratio": ratio, "reference_ns": reference, "environment_id": f"{machine}/{backend}", **axes,
                    "vs_standard": beside, "vs_standard_low": beside, "vs_standard_high": beside,
                    "standard_environment_id": "" if np.isnan(beside) else f"{machine}/pinned",
                    "vs_stay": np.nan, "vs_stay_error": np.nan,
                    **row(case, night),
                }
            )  # fmt: skip
    return History(tuple(runs), pd.DataFrame(rows, columns=list(NIGHT_COLUMNS)))


def _environment(machine: str, backend: str, packages: Mapping[str, str], facts: Mapping[str, Any]) -> Any:
    framework = backend.partition("@")[0]
    versions = {framework: "2.13", "numpy": "2.4", **(packages if framework == "torch" else {})}
    return environment(id=f"{machine}/{backend}", machine_id=machine, backend=framework, **{"packages": versions, **facts})


def flat(cases: int, nights: int, noise: float = 0.005, seed: int = 0) -> np.ndarray:
    """Times of 1 ms and more that nothing happens to, [C, N], with normal noise."""
    rng = np.random.default_rng(seed)
    return np.linspace(1, 2, cases)[:, None] * np.exp(rng.normal(0, noise, (cases, nights)))


def with_step(values: np.ndarray, night: int, factor: float, cases: Sequence[int] | slice = (0,)) -> np.ndarray:
    """The same with a step from a night on."""
    changed = values.copy()
    changed[cases if isinstance(cases, slice) else list(cases), night:] *= factor
    return changed


def acknowledgement(case: str = cell_id(0), night: int = 0, machine_id: str | None = None) -> Acknowledgement:
    """What somebody has said of a case, from that night on."""
    return Acknowledgement(case, machine_id, run_id(night), "known", "someone", START)


def last(found: History) -> Run:
    """The newest run."""
    return found.runs[-1]
