"""A run that never was, for looking at the page and for testing it: seeded, and as untidy as a real one."""

import gzip
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from harness import flops, profile
from harness.axes import Device, Direction, Mode, Optimizer
from harness.columns import COLUMNS, SAMPLE_COLUMNS, SUMMARY_COLUMNS
from harness.flags import Flag
from harness.outcome import Check, Difference, Group, Judgement, Level, Outcome, Result
from harness.page.sections import Ran
from harness.record import Environment, Run
from harness.spec import Cell, ConvSpec
from tests import profiled

START = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
RUN_ID = "20260301-023000-5ee0"
PASSES = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)
DIRECTIONS = tuple(direction for direction in Direction if direction is not Direction.NONE)
SPEED = {"tensorflow": 52e9, "torch": 71e9, "jax": 44e9, "numpy": 1.5e9}


def conv(n: int, c: int, k: int, size: int, kernel: int, stride: int = 1, pad: int = 0) -> ConvSpec:
    return ConvSpec(n, c, k, (size, size), (kernel, kernel), (stride, stride), (1, 1), ((pad, pad), (pad, pad)))


LAYERS = {
    "rn50_conv1": conv(1, 3, 64, 224, 7, 2, 3),
    "rn50_res2_3x3": conv(1, 64, 64, 56, 3, 1, 1),
    "rn50_res4_1x1": conv(1, 1024, 256, 14, 1),
    "rn50_res5_3x3": conv(1, 512, 512, 7, 3, 1, 1),
}


def cells(backends: tuple[str, ...] = ("tensorflow", "torch", "jax"), device: str = "cpu") -> list[Cell]:
    """A small workload in 5 directions and 2 modes, four layers in 3 directions: 22 cells per backend."""
    found = []
    for backend in backends:
        where = {"backend": backend, "device": Device.parse(device)}
        for direction in DIRECTIONS:
            optimizer = Optimizer.SGD if direction is Direction.TRAIN else None
            found += [
                Cell("example", conv(1, 3, 64, 28, 5, 1, 2), direction, mode=mode, optimizer=optimizer, **where)
                for mode in (Mode.EAGER, Mode.COMPILED)
            ]
        found += [Cell(name, spec, direction, **where) for name, spec in LAYERS.items() for direction in PASSES]
    return found


def ranked(summary: pd.DataFrame) -> pd.DataFrame:
    """RANK_COLUMNS, much by the rule of `analysis.ranking`, which this wing's tests do not import."""
    same = ["workload", "direction", "precision", "layout", "cache", "device", "threads", "optimizer"]
    known = summary[(summary["status"] == "ok") & (summary["backend"] != "numpy") & summary["median_ns"].notna()]
    fastest = known.groupby(same)["median_ns"].transform("idxmin").reindex(summary.index)
    at = fastest.fillna(0).astype(int)
    barred = summary["barred_by"] != ""
    sure = fastest.notna() & ~barred & ~barred.to_numpy()[at]
    competitors = known.groupby(same)["median_ns"].transform("size").reindex(summary.index).fillna(1).astype("int64") - 1
    best = (fastest == summary.index) & ~barred & (competitors > 0)
    apart = summary["ci_low_ns"].to_numpy() > summary["ci_high_ns"].to_numpy()[at]
    tie, decided = sure & ~best & ~apart & (competitors > 0), sure
    factor = (summary["median_ns"] / summary["median_ns"].to_numpy()[at]).where(fastest.notna())
    interval = {"vs_best_low": factor / 1.03, "vs_best_high": factor * 1.03, "vs_best_pairs": 4}
    marks = {"competitors": competitors, "best": best, "tie": tie, "decided": decided}
    return summary.assign(**marks, vs_best=factor, tuning_differs=False, **interval)


def modes(made: "Made") -> dict[str, pd.DataFrame]:
    """The frame of `analysis.along` beside eager, much by its rule, which this wing's tests do not import."""
    known = made.summary[made.summary["median_ns"].notna()]
    same = ["workload", "direction", "backend", "device", "optimizer"]
    eager = known[known["mode"] == "eager"].set_index(same)["median_ns"].rename("base_ns")
    found = known[known["mode"] != "eager"].join(eager, on=same).dropna(subset=["base_ns"]).reset_index(drop=True)
    factor = found["median_ns"] / found["base_ns"]
    named = np.select([factor < 0.9, factor > 1.1, factor < 1.0], ["faster", "slower", "equivalent"], "undecided")
    frame = found.assign(
        factor=factor, factor_low=factor / 1.04, factor_high=factor * 1.04, difference=named, process_pairs=4, paired="visits"
    )
    frame.attrs["base"] = "eager"
    return {"mode": frame}


def measured(cell: Cell, lots: np.random.Generator) -> tuple[dict[str, object], pd.DataFrame]:
    """Figures and samples of a cell that went well."""
    speed = SPEED.get(cell.backend, 30e9) * (30 if cell.device.kind == "gpu" else 1)
    flop = cell.direction.passes * flops.nominal(cell.spec)
    slow = {Direction.FPROP: 1.0, Direction.DGRAD: 1.4, Direction.WGRAD: 1.6}.get(cell.direction, 1.3)
    overhead = {Mode.EAGER: 45_000, Mode.COMPILED: 18_000, Mode.XLA: 15_000}[cell.mode] * lots.uniform(0.7, 1.6)
    median = flop / speed * 1e9 * slow * lots.lognormal(0, 0.35) + overhead
    width = lots.choice([0.004, 0.01, 0.03, 0.12], p=[0.4, 0.35, 0.2, 0.05])
    noise = lots.choice([0.01, 0.03, 0.1], p=[0.6, 0.3, 0.1])
    blocks = []
    for trial in range(3):
        times = median * lots.lognormal(lots.normal(0, width), noise, 60) * (1 + 0.6 * (lots.random(60) > 0.97))
        blocks.append(
            pd.DataFrame({"trial": trial, "index": range(60), "block_ns": times, "contended": lots.random(60) > 0.97})
        )
    least = flops.least_bytes(cell)
    workspace = 0.0 if lots.random() < 0.3 else least * lots.lognormal(0, 1.2)
    flags = [
        name
        for name, share in {"noisy": noise / 0.3, "outliers": 0.05, "not_converged": width, "drift": 0.04}.items()
        if lots.random() < share
    ]
    side = "host" if cell.device.kind == "cpu" else "device"
    return {
        "status": "ok", "flags": ",".join(flags),
        "barred_by": ",".join(flag for flag in flags if Flag(flag).bars_verdict),
        "op": f"{cell.backend}.conv2d ({cell.mode})", "op_reason": "", "trials": 3, "processes": 3, "samples": 174,
        "median_ns": median, "ci_low_ns": median * (1 - width), "ci_high_ns": median * (1 + width), "ci_method": "trials",
        "time_ns": 0.98 * median, "time_low_ns": 0.97 * median, "time_high_ns": 0.99 * median, "time_method": "turns",
        "min_ns": median * 0.97, "p95_ns": median * 1.1, "first_call_ns": 4e7 * lots.lognormal(0, 1),
        "flop_per_s": flop / median * 1e9,
        "bytes_per_s": least / median * 1e9, "settings": "fp32_precision=ieee,threads=2", "workspace_bytes": workspace,
        f"{side}_base_bytes": 3e8, f"{side}_peak_bytes": 3e8 + workspace + flops.result_bytes(cell),
        "memory_method": "VmHWM after clear_refs" if side == "host" else "the framework's peak counter",
        "threads_used": 2, "effective_cores": lots.uniform(1, 2), "contended_share": 0.03, "steal_ns": 0.0,
        "check_method": "integer", "max_rel_err": lots.uniform(0, 1e-7), "tolerance": 1e-5,
    }, pd.concat(blocks)  # fmt: skip


_COMPILED = "torch.compile of an optimizer's step is not supported on this Python."
_WRONG = "max relative error 3.1e-02 > tolerance 2.0e-04; 1204 of 589824 elements differ"
_MEMORY = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate {} bytes."
FAILURES = {
    ("torch", "example", "train", "compiled"): ("unsupported", _COMPILED),
    ("torch", "example", "bprop", "compiled"): ("unsupported", _COMPILED),
    ("jax", "rn50_res5_3x3", "wgrad", "eager"): ("incorrect", _WRONG),
    ("tensorflow", "rn50_conv1", "dgrad", "eager"): ("oom", _MEMORY.format(42949672960)),
    ("tensorflow", "rn50_conv1", "wgrad", "eager"): ("oom", _MEMORY.format(31138512896)),
    ("jax", "rn50_conv1", "dgrad", "eager"): ("timeout", "no answer for 180 s; the worker was ended"),
}


@dataclass(frozen=True)
class Made:
    """A run with its frames."""

    summary: pd.DataFrame
    samples: pd.DataFrame
    run: Run


def make(asked: list[Cell] | None = None, failing: dict | None = None, seed: int = 7) -> Made:
    """Summary, samples and run of these cells; `failing` maps (backend, workload, direction, mode) to status and reason."""
    asked, failing, lots = (
        cells() if asked is None else asked,
        FAILURES if failing is None else failing,
        np.random.default_rng(seed),
    )
    rows, blocks = [], []
    for order, cell in enumerate(asked):
        row: dict[str, object] = {
            "run_id": RUN_ID, "suite": "first", "workload": cell.workload, "shape": str(cell.spec),
            "direction": str(cell.direction),
            "precision": str(cell.precision), "layout": cell.layout.text(2), "cache": str(cell.cache), "backend": cell.backend,
            "mode": str(cell.mode), "optimizer": str(cell.optimizer or ""), "device": str(cell.device), "threads": cell.threads,
            "count": cell.count, "network": cell.network, "scaled": cell.scaled, "cell": str(cell),
            "trials": 0, "processes": 0, "samples": 0,
            "flop_nominal": cell.direction.passes * flops.nominal(cell.spec), "bytes_min": flops.least_bytes(cell),
            "intensity_flop_per_byte": cell.direction.passes * flops.nominal(cell.spec) / flops.least_bytes(cell),
            "started_at": START + timedelta(seconds=order), "environment_id": f"env-{cell.backend}", "machine_id": "machine-1",
        }  # fmt: skip
        status, reason = failing.get((cell.backend, cell.workload, str(cell.direction), str(cell.mode)), ("ok", ""))
        if status == "ok":
            facts, samples = measured(cell, lots)
            row |= facts
            blocks.append(samples.assign(run_id=RUN_ID, cell=str(cell), iterations=1, series="latency", run_delay_ns=0))
        else:
            row |= {"status": status, "reason": reason, "flags": "", "barred_by": "", "op": "", "op_reason": ""}
        rows.append(row)
    summary = frame(rows, SUMMARY_COLUMNS)
    samples = frame(pd.concat(blocks).assign(block_ns=lambda b: b["block_ns"].round()) if blocks else [], SAMPLE_COLUMNS)
    return Made(ranked(summary) if len(summary) else summary, samples, run(sorted({cell.backend for cell in asked})))


def frame(rows: object, columns: tuple[str, ...]) -> pd.DataFrame:
    """A frame with these columns, dtypes as COLUMNS says."""
    made = pd.DataFrame(rows).reindex(columns=list(columns))
    return pd.DataFrame({name: made[name].astype(COLUMNS[name].dtype) for name in columns})


def run(backends: list[str]) -> Run:
    packages = {
        "tensorflow": {"tensorflow": "2.21.0"},
        "torch": {"torch": "2.13.0"},
        "jax": {"jax": "0.10.2", "jaxlib": "0.10.2"},
    }
    environments = tuple(
        Environment(
            id=f"env-{name}", machine_id="9c1e55aa02b7", backend=name, host="bench-1", os="Linux-6.1.0-x86_64-with-glibc2.36",
            cpu="Some CPU @ 2.60GHz", cores=2, affinity=(0, 1), memory_bytes=2**34, gpu="", driver="", python="CPython 3.11.9",
            packages={**packages.get(name, {}), "numpy": "2.4.6"},
            environ={"OMP_NUM_THREADS": "2", "TF_ENABLE_ONEDNN_OPTS": "1"},
        )
        for name in backends
    )  # fmt: skip
    return Run(
        id=RUN_ID, suite="first", suite_sha256="6f1d" * 16, commit="3f9c2d1ab0", harness_version="0.1.0",
        method_version=1, seed=42,
        description="A first look: the textbook convolution in all five directions, and four ResNet-50 layers.",
        command="convbench run first", started_at=START,
        finished_at=START + timedelta(minutes=5, seconds=12), environments=environments,
    )  # fmt: skip


# --- beside a baseline -----------------------------------------------------------------------------------------------------


CHECKS = (
    Check("Results match the reference", Result.PASS, "60 of 60 cells that gave a result", "all"),
    Check(
        "Nobody else on the cores",
        Result.WARNING,
        "9 of 60 cells under contended",
        "5 % of the cells",
        "Flagged cells are set aside.",
    ),
    Check(
        "Energy counter readable", Result.UNKNOWN, "no counter", "every cell", "Cells without a reading have no energy figure."
    ),
)
DIFFERENCES = (Difference("jax", "0.10.1", "0.10.2"), Difference("operating system", "Linux-6.0", "Linux-6.1"))


def judged(made: Made, slower: dict[str, float], lost: bool = True, seed: int = 3) -> Judgement:
    """Every case beside a baseline: noise of 1 %, and `slower` maps parts of a cell's id to the factor that it changed by."""
    lots = np.random.default_rng(seed)
    rows = []
    for row in made.summary.to_dict("records"):
        ok = row["status"] == "ok"
        factor = next((factor for part, factor in slower.items() if all(word in row["cell"] for word in part.split())), 1.0)
        ratio = factor * lots.lognormal(0, 0.01) if ok else np.nan
        width = lots.uniform(0.005, 0.03)
        low, high = ratio * (1 - width), ratio * (1 + width)
        if not ok:
            skipped = row["status"] in ("unsupported", "skipped")
            outcome = Outcome.SKIPPED if skipped else Outcome.FAILED if row["status"] == "incorrect" else Outcome.STILL_FAILED
        elif low > 1.03 or high < 0.97:
            outcome = Outcome.SLOWER if low > 1.03 else Outcome.FASTER
        else:
            outcome = Outcome.NO_CHANGE if low > 0.95 and high < 1.05 else Outcome.UNCERTAIN
        rows.append(
            {name: row[name] for name in ("cell", "workload", "direction", "backend", "mode", "device")}
            | {
                "family": row["workload"].partition("_")[0], "verdict": str(outcome), "word": outcome.words,
                "baseline_ns": row["median_ns"] / ratio if ok else 1e6, "now_ns": row["median_ns"], "ratio": ratio,
                "ratio_low": low, "ratio_high": high, "threshold": 0.03, "estimator": "median" if ok else "",
                "severity": abs(np.log(ratio)) / np.log(1.03) if ok else np.nan, "why": "", "what_ran": "",
            }
        )  # fmt: skip
    if lost:
        gone = {
            "cell": "gone/fprop",
            "workload": "gone",
            "family": "gone",
            "verdict": "lost",
            "word": "lost",
            "baseline_ns": 2e6,
        }
        rows.append(
            {
                **dict.fromkeys(rows[0], np.nan),
                **gone,
                "direction": "fprop",
                "backend": "gone",
                "mode": "eager",
                "device": "cpu",
            }
        )
    cases = pd.DataFrame(rows).fillna({"why": "", "estimator": "", "what_ran": ""})
    count = cases["verdict"].value_counts()
    return Judgement(
        Level.SUSPECT, f"{count.get('slower', 0)} of {count.get('no_change', 0)} cases are slower.", "20260228-023000-0001",
        cases, (Group("jax", "wgrad", "", "rn50", 3, 4, 1.15),),
    )  # fmt: skip


def nights(made: Made, count: int = 30, step: dict[str, float] | None = None, at: int = 22, seed: int = 5) -> pd.DataFrame:
    """Earlier nights of a run as `analysis.history.nights` has them; from night `at` on some cells are slower by a factor."""
    lots, frames = np.random.default_rng(seed), []
    for night in range(count):
        if night == 9:
            continue  # a missing night
        rows = made.summary[["cell", "workload", "direction", "backend", "mode", "device", "status", "median_ns"]].copy()
        later = [
            next((f for part, f in (step or {}).items() if all(w in cell for w in part.split())), 1.0) for cell in rows["cell"]
        ]
        factor = lots.lognormal(0, 0.006) * lots.lognormal(0, 0.008, len(rows))
        before = np.array(later) if night < at else 1.0
        rows["median_ns"] = rows["median_ns"] * (factor if night < count - 1 else 1.0) / before
        started = START - timedelta(days=count - 1 - night)
        run_id = made.run.id if night == count - 1 else f"{started:%Y%m%d}-023000-{night:04}"
        frames.append(rows.assign(run_id=run_id, started_at=started, night_ns=rows["median_ns"]))
    return pd.concat(frames, ignore_index=True)


# --- what ran inside the calls ---------------------------------------------------------------------------------------------

INSIDE = {
    "tensorflow": [
        profiled.Kernel(0.79, "Eigen", name="Conv2DBackpropFilter", level=profile.Level.OPERATOR),
        profiled.Kernel(0.19, "x64:gemm:jit", name="gemm", kind=profile.Kind.GEMM, calls=21, detail="f32 147x600x64"),
    ],
    "torch": [
        profiled.Kernel(0.70, "jit:avx512_core", detail="f32 mb1_ic3oc64", src_format="acdb", dst_format="Acdb64a"),
        profiled.Kernel(0.09, "jit:uni", name="reorder", kind=profile.Kind.REORDER, role="filter"),
        profiled.Kernel(0.15, name="aten::convolution", kind=profile.Kind.FRAMEWORK, level=profile.Level.OPERATOR),
        profiled.Kernel(0.004, name="aten::empty", kind=profile.Kind.BOOKKEEPING, level=profile.Level.OPERATOR),
    ],
}
SLOW = "tensorflow computes in its own operator Conv2DBackpropFilter by Eigen, not in oneDNN: 79 % of the call."
TRACE = gzip.compress(b'{"traceEvents": []}', mtime=0)


def calls(made: Made, asked: list[Cell], workloads: tuple[str, ...] = ("example", "rn50_conv1")) -> list[profiled.Call]:
    """A profile of each cell of these workloads by INSIDE's backends, eager on the CPU, that took as long as in the run."""
    times = made.summary.set_index("cell")["median_ns"].dropna().to_dict()
    return [
        profiled.Call(cell, INSIDE[cell.backend], times[str(cell)] / 1e3, {"trace": f"traces/{place:016x}.json.gz"})
        for place, cell in enumerate(asked)
        if cell.backend in INSIDE and cell.workload in workloads and cell.mode is Mode.EAGER and str(cell) in times
        and cell.device.kind == "cpu"
    ]  # fmt: skip


def ran(made: Made, found: list[profiled.Call], traces: dict[str, bytes] | None = None) -> tuple[pd.DataFrame, Ran]:
    """The summary with the kernel of each call, and what ran, of which something is said of each call by TensorFlow."""
    kernels, profiles = profiled.kernels(*found), profiled.profiles(*found)
    names = {str(call.cell): call.kernels[0].implementation or call.kernels[0].name for call in found if call.kernels}
    told = pd.DataFrame(
        [(str(call.cell), SLOW, "padding SAME") for call in found if call.cell.backend == "tensorflow"],
        columns=["cell", "sentence", "remedy"],
    )
    summary = made.summary.assign(kernel=[names.get(cell, "") for cell in made.summary["cell"]])
    every = {str(call.cell): TRACE for call in found}
    return summary, Ran(kernels, profiles, told, every if traces is None else traces)
