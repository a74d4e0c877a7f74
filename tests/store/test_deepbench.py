import pytest

from harness.store import deepbench

RAW = {
    "hardware": "NVIDIA V100", "kind": "train", "sheet": "Results FP32", "direction": "fprop", "n": "16", "c": "512",
    "k": "256", "spatial": "7x9", "kernel": "3x5", "stride": "2x1", "pad": "1x2", "time_ms": "0.25", "published_tflops": "1.5",
    "algorithm": "WINOGRAD", "tflops_rel_err": "0.5", "source": "owner/name:results/x.xlsx", "row": "170",
}  # fmt: skip


def test_a_row_of_the_sheets_comes_under_our_columns():
    assert tuple(RAW) == deepbench.COLUMNS
    assert deepbench.translated(RAW) == {
        "hardware": "NVIDIA V100", "math": "fp32", "kind": "train", "direction": "fprop", "n": "16", "c": "512", "k": "256",
        "spatial": "7x9", "kernel": "3x5", "stride": "2x1", "padding": "1x2", "time_ms": "0.25", "tflop_per_s": "1.5",
        "algorithm": "WINOGRAD", "source": "owner/name:results/x.xlsx:Results FP32:170", "remark": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("hardware", "sheet", "name", "math"),
    [
        ("NVIDIA V100", "Results - FP16 ip, Mixed math", "NVIDIA V100", "fp16 mixed"),
        ("NVIDIA Tesla P100", "Results - Psuedo FP16", "NVIDIA Tesla P100", "fp16 pseudo"),
        ("Nvidia 1080Ti", "Results - Mixed Precision", "NVIDIA GTX 1080 Ti", "int8"),
        ("NVIDIA T4", "Results - Mixed Precision", "NVIDIA T4", "mixed"),
        ("Intel(R) Xeon Phi(TM)\xa07250F", "Results - FP32", "Intel Xeon Phi 7250F", "fp32"),
        ("1.2 GHZ quad-core ARM Cortex A53", "Kernels", "Raspberry Pi 3", "fp32"),
        ("Some Other GPU", "FP32", "Some Other GPU", "fp32"),
    ],
)
def test_names_are_spelt_one_way_and_the_arithmetic_is_that_of_the_sheet(hardware: str, sheet: str, name: str, math: str):
    row = deepbench.translated({**RAW, "hardware": hardware, "sheet": sheet})
    assert (row["hardware"], row["math"]) == (name, math)


def test_a_sheet_whose_arithmetic_is_unknown_is_refused():
    with pytest.raises(ValueError, match="sheet: found 'Results - FP8'; allowed: FP32, Results FP32, "):
        deepbench.translated({**RAW, "sheet": "Results - FP8"})
