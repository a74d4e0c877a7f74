"""What is said of a call: each rule by the figures that it was made from, and by those under a setting that removes it."""

import dataclasses
import math
from typing import Any

import pandas as pd
import pytest

from harness.analysis import explain
from harness.analysis.called import with_kernel
from harness.axes import OPTIONS, Api, Autotune, Device, Direction
from harness.columns import EXPLANATION_COLUMNS
from harness.profile import Kind, Level
from harness.rows import rows
from harness.spec import ConvSpec, GemmSpec, TransposedSpec
from tests import builders
from tests.profiled import COMPILER, Call, Kernel, cell, kernels, profiles, spec

CONV1 = spec(3, 64, 224, 7, stride=2)
EXAMPLE = spec(3, 64, 28, 5)
RES4_1X1 = spec(1024, 256, 14, 1)
RES5_3X3 = spec(512, 512, 7, 3)
GROUPED = spec(64, 64, 56, 3, groups=32)
CORES = {"jax": 2, "torch": 2}


def frame(*calls: Call, cores: dict[str, int] | None = None) -> pd.DataFrame:
    return explain.explanations(kernels(*calls), profiles(*calls), CORES if cores is None else cores)


def said(rule: str, call: Call, *beside: Call, cores: dict[str, int] | None = None) -> Any:
    """What a rule says of the first call; None where it says nothing."""
    found = frame(call, *beside, cores=cores)
    told = list(rows(found[(found["rule"] == rule) & (found["cell"] == str(call.cell))]))
    assert len(told) < 2
    return told[0] if told else None


def framework(share: float) -> Kernel:
    return Kernel(share, name="aten::convolution", kind=Kind.FRAMEWORK, level=Level.OPERATOR)


def moves(share: float, role: str, kind: Kind = Kind.REORDER) -> Kernel:
    return Kernel(share, "jit:uni", name="reorder", kind=kind, role=role)


def own(share: float, name: str, calls: float = 1.0, by: str = "") -> Kernel:
    """An operator of a framework that computes by itself."""
    return Kernel(share, by, name=name, level=Level.OPERATOR, calls=calls)


def thunk(share: float, implementation: str = "", detail: str = "", kind: Kind = Kind.CONVOLUTION) -> Kernel:
    """An operation of a program that XLA compiled."""
    return Kernel(share, implementation, name="thunk", kind=kind, level=Level.COMPILED, detail=detail)


# Moving data -------------------------------------------------------------------------------------------------------------


def depthwise(direction: str, layout: str, us: float, share: float, role: str = "activation") -> Call:
    of = cell(spec(32, 32, 112, 3, groups=32), direction, layout=layout)
    return Call(of, [Kernel(0.5, "jit_dw:avx512_core"), moves(share, role)], us)


@pytest.mark.parametrize(
    ("direction", "share", "us", "removed_us"),
    [("fprop", 0.37, 633, 230), ("dgrad", 0.37, 661, 333), ("wgrad", 0.46, 641, 224)],
)
def test_reorders_of_activations(direction: str, share: float, us: float, removed_us: float) -> None:
    told = said("layout", depthwise(direction, "NCHW", us, share))
    assert told.rule_share == pytest.approx(share)
    assert told.remedy == "layout NHWC"
    assert told.sentence == f"torch moves activations into another order of their dimensions: {100 * share:.0f} % of the call."
    assert said("layout", depthwise(direction, "NHWC", removed_us, 0.01)) is None
    assert said("layout", depthwise(direction, "NCHW", us, share, "filter")) is None


def test_where_activations_are_reordered_in_the_last_order_no_setting_is_named() -> None:
    assert said("layout", depthwise("dgrad", "NHWC", 300, 0.13)).remedy == ""


def test_a_kernel_that_reorders_inside_is_told_without_a_share() -> None:
    inside = Kernel(0.8, "jit_uni_ncsp_convolution:conv+brg_conv_fwd:avx512_core")
    told = said("layout", Call(cell(RES5_3X3, backend="tensorflow", layout="NCHW"), [inside], 900))
    assert math.isnan(told.rule_share)
    assert told.sentence.startswith("tensorflow runs jit_uni_ncsp_convolution:conv+brg_conv_fwd:avx512_core, which reorders")
    assert told.remedy == "layout NHWC"


@pytest.mark.parametrize(("backend", "share"), [("jax", 0.45), ("torch", 0.20), ("tensorflow", 0.26)])
def test_a_filter_that_is_repacked(backend: str, share: float) -> None:
    call = Call(cell(RES5_3X3, "dgrad", backend), [Kernel(0.5, "brg_conv_bwd"), moves(share, "filter", Kind.TRANSPOSE)], 600)
    told = said("repacked filter", call)
    assert told.rule_share == pytest.approx(share)
    assert told.sentence == f"{backend} repacks the filter in each call: {100 * share:.0f} % of it."
    assert told.remedy == "a batch of 32"


def test_of_a_large_batch_no_larger_one_is_named_and_little_repacking_is_not_told() -> None:
    def of(direction: str, share: float) -> Call:
        return Call(cell(spec(512, 512, 7, 3, n=8), direction, "jax"), [thunk(0.6, "ynn"), moves(share, "filter")], 2000)

    assert said("repacked filter", of("dgrad", 0.15)).remedy == ""
    assert "the gradient of the filter" in said("repacked filter", of("wgrad", 0.15)).sentence
    assert said("repacked filter", of("dgrad", 0.03)) is None


# Around the kernels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "us", "inside", "around"), [("tensorflow", 277, (0.24, 0.01), 0.71), ("torch", 117, (0.38, 0.09), 0.45)]
)
def test_a_short_call_that_is_mostly_dispatch(backend: str, us: float, inside: tuple[float, float], around: float) -> None:
    parts = [Kernel(inside[0], "jit:avx512_core"), moves(inside[1], "filter"), framework(around)]
    told = said("dispatch", Call(cell(EXAMPLE, "wgrad", backend), parts, us))
    assert told.rule_share == pytest.approx(1 - sum(inside))
    assert f"of its {us} µs in the framework and in waiting" in told.sentence
    assert told.remedy == "a batch of 16"


def test_a_longer_call_and_one_that_mostly_computes_are_no_dispatch() -> None:
    parts = [Kernel(0.24, "jit:avx512_core"), framework(0.72)]
    assert said("dispatch", Call(cell(spec(3, 64, 28, 5, n=16), "wgrad"), parts, 1144)) is None
    assert said("dispatch", Call(cell(CONV1), [Kernel(0.65, "brg_conv_fwd"), framework(0.3)], 900)) is None


def test_operators_that_were_not_asked_for() -> None:
    of = cell(spec(512, 512, 14, 3, groups=512), backend="tensorflow")
    asked = [Kernel(0.14, "brgdmm_dw:avx512_core"), framework(0.4)]
    aside = [own(0.02, "Shape"), own(0.03, "_EagerConst")]
    aside = [Kernel(each.share, name=each.name, kind=Kind.BOOKKEEPING, level=Level.OPERATOR) for each in aside]
    told = said("more operators", Call(of, [*asked, *aside], 268))
    assert told.sentence == "tensorflow runs Shape and _EagerConst beside the convolution, which give no part of the result."
    assert (told.rule_share, told.remedy) == (pytest.approx(0.05), "the raw operator alone")
    assert said("more operators", Call(of, asked, 65)) is None
    assert said("more operators", Call(of, [*asked, aside[0]], 100)) is None


# Which kernel ------------------------------------------------------------------------------------------------------------


def test_reference_code_of_the_library() -> None:
    told = said("reference code", Call(cell(CONV1, "wgrad", precision="fp16"), [Kernel(0.99, "ref:any")], 3_600_000))
    assert told.sentence == "torch runs the library's reference code, ref:any: 99 % of the call."
    assert (told.rule_share, told.remedy) == (0.99, "bf16")
    half = Call(
        cell(CONV1, "wgrad", precision="bf16"), [Kernel(0.9, "brgconv_bwd_w:avx10_1_512_amx"), Kernel(0.01, "ref:any")], 600
    )
    assert said("reference code", half) is None


def test_reference_code_of_a_volume_and_what_another_kernel_wraps() -> None:
    volume = ConvSpec(1, 24, 8, (8, 12, 12), (3,) * 3, (1,) * 3, (1,) * 3, ((3, 3),) * 3)

    def of(implementation: str, layout: str = "NHWC") -> Any:
        return said(
            "reference code",
            Call(cell(volume, "dgrad", precision="bf16", layout=layout), [Kernel(0.99, implementation)], 37_000),
        )

    assert of("ref:any").remedy == "layout NCDHW"
    assert of("conv:any+ref:any").sentence.endswith("conv:any+ref:any: 99 % of the call.")
    assert of("ref:any", layout="NCHW").remedy == ""
    assert of("conv:any+x64:gemm:jit") is None


def in_eigen(direction: str, us: float, share: float = 0.79) -> Call:
    inside = Kernel(0.19, "x64:gemm:jit", name="gemm", kind=Kind.GEMM, calls=21)
    return Call(cell(CONV1, direction, "tensorflow"), [own(share, "Conv2DBackpropFilter", by="Eigen"), inside], us)


def in_onednn(direction: str, us: float) -> Call:
    return Call(cell(CONV1, direction), [Kernel(0.89, "jit:avx512_core")], us)


def test_an_operator_that_computes_by_itself_beside_a_faster_kernel() -> None:
    told = said("own operator", in_eigen("wgrad", 14_100), in_onednn("wgrad", 2_400))
    assert (told.rule_share, told.rule_factor) == (pytest.approx(0.79), pytest.approx(14.1 / 2.4))
    assert told.sentence == (
        "tensorflow computes in its own operator Conv2DBackpropFilter by Eigen, not in oneDNN: 79 % of the call. "
        "It takes 5.88× the time of torch with jit:avx512_core."
    )
    assert told.remedy == "padding SAME"
    assert told.kernel == "Eigen"
    assert said("own operator", in_onednn("wgrad", 3_100)) is None


@pytest.mark.parametrize("beside", [[in_onednn("dgrad", 17_700)], [in_onednn("dgrad", 9_500)], [in_onednn("wgrad", 2_400)], []])
def test_it_is_not_called_slow_beside_a_slower_one_about_the_same_another_pass_or_none(beside: list[Call]) -> None:
    told = said("own operator", in_eigen("dgrad", 10_900), *beside)
    assert math.isnan(told.rule_factor)
    assert told.sentence.endswith("79 % of the call.")


def test_an_operator_with_little_of_the_call_or_without_a_library_in_the_process_is_not_told() -> None:
    assert said("own operator", in_eigen("wgrad", 14_100, share=0.3)) is None
    alone = Call(cell(CONV1, "wgrad", "jax", "compiled"), [own(0.9, "convolution")], 9_000, {"sources": COMPILER})
    assert said("own operator", alone) is None


def test_one_thread_of_torch_has_another_algorithm_than_two() -> None:
    def of(threads: int, n: int = 1, precision: str = "fp32") -> Call:
        call = cell(spec(1024, 256, 14, 1, n=n), threads=threads, precision=precision)
        return Call(call, [own(0.97, "aten::_slow_conv2d_forward", by="_slow_conv2d")], 4_000)

    assert said("own operator", of(1)).remedy == "2 threads"
    assert said("own operator", of(0), cores={"torch": 1}).remedy == "2 threads"
    assert [said("own operator", call).remedy for call in (of(2), of(1, n=8), of(1, precision="fp64"))] == [""] * 3


@pytest.mark.parametrize(
    ("call", "number", "remedy"),
    [
        (Call(cell(GROUPED, precision="fp64"), [own(0.9, "aten::_slow_conv2d_forward", 32)], 9_000), 32, "fp32"),
        (
            Call(
                cell(spec(512, 512, 14, 3, groups=512), "fprop", "tensorflow", "xla"),
                [thunk(0.3), Kernel(0.6, "x64:gemm:jit", name="gemm", kind=Kind.GEMM, calls=512)], 2_000,
            ),
            512, "",
        ),
    ],
)  # fmt: skip
def test_groups_that_are_computed_one_by_one(call: Call, number: int, remedy: str) -> None:
    told = said("group by group", call)
    assert (told.rule_factor, told.remedy) == (number, remedy)
    assert f" runs {number} convolutions or matrix products for the {number} groups" in told.sentence


def test_groups_are_not_counted_where_the_forward_pass_may_be_in_the_call_of_a_gradient() -> None:
    """One gradient of four groups by a layer: two convolutions in torch, three in eager TensorFlow, whatever the groups."""
    few = spec(64, 64, 14, 3, groups=4)
    three = [Kernel(0.3, "jit:avx512_core", name=name) for name in ("fprop", "dgrad", "wgrad")]
    for direction in ("dgrad", "wgrad"):
        asked = dataclasses.replace(cell(few, direction), api=Api.LAYER)
        assert said("group by group", Call(asked, three, 500)) is None
        assert said("group by group", Call(asked, three[:2], 500)) is None
        assert said("group by group", Call(cell(few, direction), three, 500)) is not None
    alone = dataclasses.replace(cell(few), api=Api.LAYER)
    assert said("group by group", Call(alone, [Kernel(0.9, "jit:avx512_core", calls=4)], 500)).rule_factor == 4


def test_groups_of_one_primitive_or_in_a_few_and_no_groups_are_not_told() -> None:
    one, few = [Kernel(0.9, "jit:avx512_core")], [own(0.9, "aten::_slow_conv2d_forward", 8)]
    many = [Kernel(0.9, "x64:gemm:jit", kind=Kind.GEMM, calls=262)]
    for call in (Call(cell(GROUPED), one, 500), Call(cell(GROUPED), few, 900), Call(cell(CONV1), many, 10_900)):
        assert said("group by group", call) is None
    both = [Kernel(0.4, "jit:avx512_core", name=name) for name in ("dgrad", "wgrad")]
    assert said("group by group", Call(cell(spec(4, 4, 14, 3, groups=2), "bprop"), both, 500)) is None


@pytest.mark.parametrize(("channels", "ratio", "us"), [(64, 58, 177), (128, 117, 850), (256, 234, 2_947)])
def test_groups_that_are_computed_as_dense(channels: int, ratio: float, us: float) -> None:
    def of(groups: int, ratio: float) -> Call:
        call = cell(spec(channels, channels, 14, 3, groups=groups), "wgrad", "jax", "compiled")
        return Call(call, [thunk(0.95, "ynn")], us, {"flop_ratio": ratio, "sources": COMPILER})

    told = said("computed as dense", of(channels, ratio))
    assert (told.rule_factor, told.remedy) == (ratio, "")
    assert f"{channels} groups" in told.sentence
    assert said("computed as dense", of(channels, 0.91)) is None
    assert said("computed as dense", of(channels, 1.8)) is None
    assert said("computed as dense", of(1, 2.5)) is None
    assert said("computed as dense", of(channels, math.nan)) is None


def of_xla(spread: str, groups: int, us: float, implementation: str = "") -> Call:
    call = cell(spec(64, 64, 56, 3, groups=groups), "wgrad", "jax", "compiled")
    return Call(
        call,
        [thunk(0.98, implementation or "Eigen", f"f32, window={{size=56x56x1 lhs_dilate={spread}}}")],
        us,
        {"sources": COMPILER},
    )


def test_the_generic_convolution_of_xla() -> None:
    told = said("generic convolution", of_xla("1x1x32", 32, 1_160_000))
    assert (told.rule_share, told.rule_factor) == (pytest.approx(0.98), 32)
    assert told.sentence == "jax compiled runs XLA's generic convolution over an input spread 32 times: 98 % of the call."
    assert told.remedy == "groups = 1 (more FLOP)"
    assert said("generic convolution", of_xla("1x1x1", 1, 10_000, "ynn_fusion")) is None
    assert said("generic convolution", of_xla("1x1x32", 32, 10_000, "ynn_fusion")) is None
    assert said("generic convolution", of_xla("2x2", 1, 6_000)) is None  # as fast as its twin of stride 1


@pytest.mark.parametrize(
    ("precision", "share", "dtype", "told"),
    [("bf16", 0.17, "f32", True), ("fp32", 0.17, "f32", False), ("bf16", 0.02, "f32", False), ("bf16", 0.17, "bf16", False)],
)
def test_halves_that_are_computed_in_fp32(precision: str, share: float, dtype: str, told: bool) -> None:
    converts = thunk(share, kind=Kind.CONVERT)
    call = Call(cell(CONV1, backend="jax", precision=precision), [thunk(0.7, "ynn", f"{dtype}[1,112,112,64]"), converts], 1_900)
    found = said("computed in fp32", call)
    assert (found is not None) == told
    if found:
        assert (found.rule_share, found.remedy) == (0.17, "")
        assert found.sentence == "jax converts bf16 and computes in fp32: the conversions are 17 % of the call."


@pytest.mark.parametrize(
    ("backend", "threads", "cores", "us", "told"),
    [
        ("jax", 2, 1.01, 2_000, "jax keeps 1.01 of 2 threads busy."),
        ("jax", 0, 1.01, 2_000, "jax keeps 1.01 of 2 threads busy."),
        ("tensorflow", 2, 1.67, 2_000, ""),
        ("torch", 2, 1.99, 2_000, ""),
        ("jax", 2, 1.01, 500, ""),
        ("jax", 1, 0.55, 2_000, ""),
        ("nobody", 0, 1.01, 2_000, ""),
    ],
)
def test_threads_that_are_idle(backend: str, threads: int, cores: float, us: float, told: str) -> None:
    call = Call(cell(CONV1, backend=backend, threads=threads), [thunk(0.9, "ynn")], us, {"effective_cores": cores})
    found = said("idle threads", call)
    assert (found.sentence if found else "") == told
    if found:
        assert (found.rule_factor, found.remedy) == (pytest.approx(0.505), "")


def in_ynn(us: float, share: float = 0.78) -> Call:
    return Call(cell(RES4_1X1, "wgrad", "jax", "compiled"), [thunk(share, "ynn_fusion")], us, {"sources": COMPILER})


def in_jit(share: float = 0.65, implementation: str = "jit_1x1:avx512_core", layout: str = "NHWC") -> Call:
    return Call(cell(RES4_1X1, "wgrad", "tensorflow", layout=layout), [Kernel(share, implementation)], 1_200)


def test_a_library_that_takes_twice_as_long_as_another() -> None:
    told = said("other library", in_ynn(2_840), in_jit())
    assert (told.rule_share, told.rule_factor) == (pytest.approx(0.78), pytest.approx(2.84 / 1.2))
    assert told.sentence == (
        "jax compiled spends 78 % in ynn_fusion, and takes 2.37× the time of tensorflow with jit_1x1:avx512_core."
    )
    assert told.remedy == "switch ynn_off"
    assert said("other library", in_jit(), in_ynn(2_840)) is None
    assert said("other library", in_ynn(1_260), in_jit()) is None
    assert said("other library", in_ynn(2_840), in_jit(0.4)) is None
    assert said("other library", in_ynn(2_840, 0.4), in_jit()) is None
    assert said("other library", in_ynn(2_840), in_jit(implementation="ynn_fusion")) is None
    assert said("other library", in_ynn(2_840), in_jit(layout="NCHW")) is None


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if not option.competes])
def test_calls_that_were_asked_for_otherwise_are_not_compared(name: str) -> None:
    values = [value for value in type(OPTIONS[name].default) if value != OPTIONS[name].default]
    other = in_jit()
    asked = dataclasses.replace(other, cell=dataclasses.replace(other.cell, **{name: values[0]}))
    assert said("other library", in_ynn(2_840), asked) is None


def test_the_flag_of_xla_is_named_for_the_filter_of_a_product_alone() -> None:
    def of(of: ConvSpec, direction: str) -> Any:
        slow = Call(cell(of, direction, "jax", "compiled"), [thunk(0.9, "ynn_fusion")], 3_000, {"sources": COMPILER})
        return said("other library", slow, Call(cell(of, direction), [Kernel(0.9, "jit:avx512_core")], 1_000))

    assert [of(RES4_1X1, "fprop").remedy, of(RES5_3X3, "wgrad").remedy] == ["", ""]


def test_on_a_gpu_it_is_said_that_tuning_may_be_a_part_of_it() -> None:
    def on_gpu(kernel: str, us: float, autotune: Autotune) -> Call:
        of = dataclasses.replace(cell(RES5_3X3), device=Device("gpu"), autotune=autotune)
        return Call(of, [Kernel(0.9, kernel)], us)

    told = said("other library", on_gpu("one", 300, Autotune.DEFAULT), on_gpu("another", 100, Autotune.ON))
    assert told.sentence == (
        "torch spends 90 % in one, and takes 3.00× the time of torch autotune on with another. Whether kernels were tried "
        "before one was chosen, the setting “autotuned” of each says."
    )


# Of whom rules speak -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [{"clean_calls": 2}, {"incomplete": "watching cost 1.4 times"}, {"problem": "it was killed"}])
def test_no_rule_speaks_of_what_is_disturbed_incomplete_or_broken(facts: dict[str, Any]) -> None:
    call = depthwise("fprop", "NCHW", 633, 0.37)
    assert len(frame(call)) == 1
    assert frame(Call(call.cell, call.kernels, call.us, facts)).empty
    # Neither is anything held against it.
    slow, fast = in_eigen("wgrad", 14_100), in_onednn("wgrad", 2_400)
    assert math.isnan(said("own operator", slow, Call(fast.cell, fast.kernels, fast.us, facts)).rule_factor)


def test_a_profile_that_failed_has_no_figures_and_says_nothing() -> None:
    nothing = dict.fromkeys(("plain_ns", "watched_ns", "timed_ns", "outside_ns", "framework_share"), math.nan)
    call = Call(cell(CONV1), [], 1, {**nothing, "problem": "no answer for 60 s"})
    assert frame(call).empty


def test_the_time_of_the_run_counts_and_else_that_of_the_profile() -> None:
    parts = [Kernel(0.3, "jit:avx512_core"), framework(0.6)]
    assert said("dispatch", Call(cell(EXAMPLE), parts, 300, {"timed_ns": 1.2e6})) is None
    assert "300 µs" in said("dispatch", Call(cell(EXAMPLE), parts, 300, {"timed_ns": math.nan})).sentence


def test_the_frame_has_the_columns_of_the_schema_and_the_cells_that_rules_speak_of() -> None:
    calls = [depthwise("fprop", "NCHW", 633, 0.37), in_onednn("wgrad", 2_400), in_eigen("wgrad", 14_100)]
    found = frame(*calls)
    assert tuple(found.columns) == EXPLANATION_COLUMNS
    assert list(zip(found["cell"], found["rule"], strict=True)) == [
        (str(calls[0].cell), "layout"), (str(calls[2].cell), "own operator"),
    ]  # fmt: skip
    assert list(found["kernel"]) == ["jit_dw:avx512_core", "Eigen"]
    assert tuple(frame(calls[1]).columns) == EXPLANATION_COLUMNS


def test_of_a_transposed_convolution_rules_speak_by_its_batch_and_groups() -> None:
    of = TransposedSpec.of(
        n=1, c=64, k=32, spatial=(14, 14), kernel=(4, 4), stride=(2, 2), dilation=(1, 1), padding=((1, 1), (1, 1)), groups=32
    )  # fmt: skip
    call = Call(cell(GROUPED, precision="fp64"), [own(0.9, "aten::_slow_conv_transpose2d", 32)], 9_000)
    call = dataclasses.replace(call, cell=dataclasses.replace(call.cell, spec=of))
    assert said("group by group", call).sentence.endswith("for the 32 groups of the convolution.")


def test_ceilings_are_left_out() -> None:
    product = builders.cell(workload="gemm", spec=GemmSpec(8, 8, 8), direction=Direction.NONE)
    assert frame(Call(product, [Kernel(0.1, "ref:any")], 500), depthwise("fprop", "NCHW", 633, 0.37))["rule"].to_list() == [
        "layout"
    ]


def test_the_kernel_that_computes_joins_the_summary() -> None:
    calls = [in_eigen("wgrad", 14_100), in_onednn("wgrad", 2_400)]
    cells = [*(str(call.cell) for call in calls), "not profiled"]
    summary = pd.DataFrame({"cell": cells}, index=[5, 6, 7])
    found = with_kernel(summary, kernels(*calls))
    assert found["kernel"].to_list() == ["Eigen", "jit:avx512_core", ""]
    assert list(with_kernel(summary, kernels(*calls).iloc[:0]).columns) == ["cell"]


# Thresholds --------------------------------------------------------------------------------------------------------------


def at_once(share: float) -> Call:
    """The filter gradient of `example` in TensorFlow, with so much of it in the framework."""
    return Call(cell(EXAMPLE, "wgrad", "tensorflow"), [Kernel(0.97 - share, "jit:avx512_core"), framework(share)], 277)


def with_aside(*names: str) -> Call:
    told = [Kernel(0.02, name=name, kind=Kind.BOOKKEEPING, level=Level.OPERATOR) for name in names]
    of = cell(spec(512, 512, 14, 3, groups=512), backend="tensorflow")
    return Call(of, [Kernel(0.14, "brgdmm_dw:avx512_core"), framework(0.3), *told], 268)


def in_fp32(share: float) -> Call:
    converts = thunk(share, kind=Kind.CONVERT)
    return Call(cell(CONV1, backend="jax", precision="bf16"), [thunk(0.7, "ynn", "f32 1x112x112x64"), converts], 1_900)


REPACKED = Call(cell(RES5_3X3, "dgrad", "jax"), [thunk(0.5, "ynn"), moves(0.45, "filter", Kind.TRANSPOSE)], 600)
REFERENCE = Call(cell(CONV1, "wgrad", precision="fp16"), [Kernel(0.99, "ref:any")], 3_600_000)
ONE_BY_ONE = Call(cell(GROUPED, precision="fp64"), [own(0.9, "aten::_slow_conv2d_forward", 32)], 9_000)
OF_DENSE = Call(
    cell(spec(64, 64, 14, 3, groups=64), "wgrad", "jax", "compiled"), [thunk(0.95, "ynn")], 177, {"flop_ratio": 58.0}
)
IDLE = Call(cell(CONV1, backend="jax", threads=2), [thunk(0.9, "ynn")], 2_000, {"effective_cores": 1.01})
# Of each threshold a value just past the example of its rule, the rule, and the example with what it is held against.
PAST: dict[str, tuple[float, str, tuple[Call, ...]]] = {
    "LAYOUT_SHARE": (0.38, "layout", (depthwise("fprop", "NCHW", 633, 0.37),)),
    "FILTER_SHARE": (0.46, "repacked filter", (REPACKED,)),
    "DISPATCH_SHARE": (0.76, "dispatch", (at_once(0.72),)),
    "DISPATCH_BELOW_NS": (276e3, "dispatch", (at_once(0.72),)),
    "MORE_OPERATORS": (3, "more operators", (with_aside("Shape", "_EagerConst"),)),
    "REFERENCE_SHARE": (0.995, "reference code", (REFERENCE,)),
    "OWN_OPERATOR_SHARE": (0.80, "own operator", (in_eigen("wgrad", 14_100),)),
    "CALLS_PER_GROUP": (1.01, "group by group", (ONE_BY_ONE,)),
    "DENSE_RATIO": (59.0, "computed as dense", (OF_DENSE,)),
    "LEAST_DILATION": (33, "generic convolution", (of_xla("1x1x32", 32, 1_160_000),)),
    "CONVERT_SHARE": (0.18, "computed in fp32", (in_fp32(0.17),)),
    "BUSY_SHARE": (0.50, "idle threads", (IDLE,)),
    "IDLE_FROM_NS": (2.1e6, "idle threads", (IDLE,)),
    "LIBRARY_FACTOR": (2.4, "other library", (in_ynn(2_840), in_jit())),
    "CONVOLUTION_SHARE": (0.70, "other library", (in_ynn(2_840), in_jit())),
}


@pytest.mark.parametrize("threshold", PAST)
def test_a_threshold_past_the_example_of_its_rule_silences_it(threshold: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, rule, calls = PAST[threshold]
    assert said(rule, *calls) is not None
    monkeypatch.setattr(explain, threshold, value)
    assert said(rule, *calls) is None


def test_what_a_call_is_called_slow_beside_has_a_threshold_too(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = in_eigen("wgrad", 14_100), in_onednn("wgrad", 2_400)
    assert said("own operator", *calls).rule_factor == pytest.approx(5.875)
    monkeypatch.setattr(explain, "FASTER_BY", 5.9)
    assert math.isnan(said("own operator", *calls).rule_factor)


def test_every_rule_and_every_threshold_is_among_them() -> None:
    numbers = {name for name, value in vars(explain).items() if name.isupper() and isinstance(value, int | float)}
    assert numbers - set(PAST) == {"FASTER_BY", "FEW_IMAGES"}  # that above, and a batch for which there is a remedy
    assert {rule for _, rule, _ in PAST.values()} == {explain.name_of(rule) for rule in explain.RULES}
