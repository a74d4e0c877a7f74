"""DeepBench's spreadsheets, row by row as text, to the columns of a table of published timings.

What the sheets print in many spellings is brought to one here; what is right and wrong in a row is for `published` to say.
"""

from collections.abc import Mapping

# The header of the spreadsheets of results/train and results/inference put together, one timing a row.
COLUMNS = (
    "hardware", "kind", "sheet", "direction", "n", "c", "k", "spatial", "kernel", "stride", "pad", "time_ms",
    "published_tflops", "algorithm", "tflops_rel_err", "source", "row",
)  # fmt: skip

# One name per device; others stand as they are printed.
_HARDWARE = {
    "1.2 GHZ quad-core ARM Cortex A53": "Raspberry Pi 3",
    "AMD Vega Frontier Edition 16GB": "AMD Vega Frontier Edition",
    "Intel(R) Xeon Phi(TM) 7250F": "Intel Xeon Phi 7250F",
    "NVIDIA GTX TitanXp": "NVIDIA Titan Xp",
    "Nvidia 1080Ti": "NVIDIA GTX 1080 Ti",
    "Nvidia Tesla M40": "NVIDIA Tesla M40",
    "Nvidia TitanX": "NVIDIA Titan X",
    "Nvidia TitanX Pascal": "NVIDIA Titan X Pascal",
    "Nvidia TitanXp": "NVIDIA Titan Xp",
}

# The arithmetic by the name of the sheet. DeepBench's README, "Training Precision" and "Supported Ops and Precision": pseudo
# FP16 is 16 bits in memory and single precision in the arithmetic; the device's convolutions are in single precision.
_MATH = {
    "FP32": "fp32",
    "Results FP32": "fp32",
    "Results - FP32": "fp32",
    "Results - FP16 ip, Mixed math": "fp16 mixed",
    "Results - Psuedo FP16": "fp16 pseudo",
    "Results - Mixed Precision": "mixed",
    "Kernels": "fp32",
}
# The same README says of these that their "Mixed Precision" is an 8-bit multiplication added up in 32 bits. It is silent
# on the T4, which came later.
_INT8 = ("NVIDIA GTX 1080 Ti", "NVIDIA Titan X Pascal", "NVIDIA Titan Xp")


def translated(row: Mapping[str, str]) -> dict[str, str]:
    """The row under the columns of `published.COLUMNS`. Raises ValueError for a sheet whose arithmetic is not known."""
    if row["sheet"] not in _MATH:
        raise ValueError(f"sheet: found {row['sheet']!r:.60}; allowed: {', '.join(_MATH)}")
    printed = " ".join(row["hardware"].split())  # one of them has a no-break space
    hardware, math = _HARDWARE.get(printed, printed), _MATH[row["sheet"]]
    kept = ("kind", "direction", "n", "c", "k", "spatial", "kernel", "stride", "time_ms", "algorithm")
    return {
        "hardware": hardware,
        "math": "int8" if math == "mixed" and hardware in _INT8 else math,
        **{name: row[name] for name in kept},
        "padding": row["pad"],
        "tflop_per_s": row["published_tflops"],
        "source": f"{row['source']}:{row['sheet']}:{row['row']}",
        "remark": "",
    }
