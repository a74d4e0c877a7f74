import math
import re
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.axes import Cache, Device, Direction, Layout, Mode, Optimizer, Precision
from harness.plan import Budget, Plan, Step
from harness.spec import Cell, ConvSpec
from tests.builders import CONV, cell
from tests.convolutions import small_specs

LINE = ConvSpec(n=1, c=2, k=4, spatial=(8,), kernel=(3,), stride=(1,), dilation=(1,), padding=((1, 1),))


# Shapes ------------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(small_specs())
def test_an_output_position_is_a_place_where_the_filter_fits(spec):
    for size, out, r, s, d, (lo, hi) in zip(
        spec.spatial, spec.out_spatial, spec.kernel, spec.stride, spec.dilation, spec.padding, strict=True
    ):
        starts = range(-lo, size + hi)
        assert out == sum(start + d * (r - 1) < size + hi for start in starts[::s])


@settings(deadline=None)
@given(small_specs())
def test_the_arrays_have_canonical_shapes(spec):
    assert spec.x_shape == (spec.n, spec.c, *spec.spatial)
    assert spec.w_shape == (spec.k, spec.c / spec.groups, *spec.kernel)
    assert spec.y_shape == (spec.n, spec.k, *spec.out_spatial)


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_same_padding_is_tensorflow_s_rule(size, r, s, d):
    (pair,) = ConvSpec(1, 1, 1, (size,), (r,), (s,), (d,), ((d * r, d * r),)).same_padding()
    # As TensorFlow's documentation writes it, case by case, with the dilated filter for the filter.
    filter_size = (r - 1) * d + 1
    total = max(filter_size - s, 0) if size % s == 0 else max(filter_size - size % s, 0)
    assert pair == (total // 2, total - total // 2)
    same = ConvSpec(1, 1, 1, (size,), (r,), (s,), (d,), (pair,))
    assert same.out_spatial == (math.ceil(size / s),)


def test_same_padding_at_stride_2_is_not_what_others_call_half_padding():
    assert ConvSpec(1, 3, 8, (224, 224), (3, 3), (2, 2), (1, 1), ((1, 1), (1, 1))).same_padding() == ((0, 1), (0, 1))


def test_what_a_convolution_is_called():
    assert LINE.ndim == 1
    assert CONV.pads_evenly
    assert not replace(CONV, padding=((1, 1), (0, 1))).pads_evenly
    assert replace(LINE, groups=2).depthwise
    assert not LINE.depthwise
    assert not replace(LINE, c=1).depthwise  # one channel is no group of its own


# What is refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial": ()}, "spatial has 0 dimensions; 1, 2 or 3 are allowed"),
        ({"spatial": (4, 4, 4, 4)}, "spatial has 4 dimensions; 1, 2 or 3 are allowed"),
        ({"kernel": (3,)}, "kernel has 1 entries, spatial has 2"),
        ({"stride": (1, 1, 1)}, "stride has 3 entries, spatial has 2"),
        ({"dilation": ()}, "dilation has 0 entries, spatial has 2"),
        ({"padding": ((1, 1),)}, "padding has 1 entries, spatial has 2"),
        ({"n": 0}, "n is 0; at least 1 is needed"),
        ({"c": -1}, "c is -1; at least 1 is needed"),
        ({"k": 0}, "k is 0; at least 1 is needed"),
        ({"groups": 0}, "groups is 0; at least 1 is needed"),
        ({"spatial": (4, 0)}, "spatial is [4, 0]; every entry must be at least 1"),
        ({"kernel": (0, 3)}, "kernel is [0, 3]; every entry must be at least 1"),
        ({"stride": (1, 0)}, "stride is [1, 0]; every entry must be at least 1"),
        ({"dilation": (-1, 1)}, "dilation is [-1, 1]; every entry must be at least 1"),
        ({"padding": ((0, -1), (0, 0))}, "padding is [[0, -1], [0, 0]]; no entry may be negative"),
        ({"c": 3, "groups": 2}, "c is 3, which 2 groups do not divide"),
        ({"c": 2, "k": 3, "groups": 2}, "k is 3, which 2 groups do not divide"),
        (
            {"kernel": (3, 4), "dilation": (1, 2)},
            "kernel [3, 4] with dilation [1, 2] does not fit into spatial [4, 4] "
            "with padding [[1, 1], [1, 1]]: no output is left",
        ),
    ],
)
def test_numbers_that_describe_no_convolution_are_told(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace(CONV, **changes)


@pytest.mark.parametrize("name", ["trials", "prepared", "most_trials", "warmup_calls"])
def test_a_budget_counts_from_one(name):
    assert getattr(Budget(**{name: 1}), name) == 1
    with pytest.raises(ValueError, match=f"^{name} is 0; at least 1 is needed$"):
        Budget(**{name: 0})


@pytest.mark.parametrize("name", ["visit_s", "warmup_max_s", "block_s", "throughput_block_s", "timeout_s", "preparing_gpu_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_budget_of_no_time_is_none(name, value):
    with pytest.raises(ValueError, match=f"^{name} is {value}; it must be positive$"):
        Budget(**{name: value})


@pytest.mark.parametrize("name", ["until", "time_s", "warmup_cpu_s", "warmup_gpu_s", "throttled_s", "energy_window_s"])
def test_a_minimum_may_be_nothing_but_not_less(name):
    assert getattr(Budget(**{name: 0.0}), name) == 0
    with pytest.raises(ValueError, match=f"^{name} is -0.1; it must not be negative$"):
        Budget(**{name: -0.1})


def test_only_train_has_an_optimizer_and_it_must():
    with pytest.raises(ValueError, match=r"^train with optimizer None: train needs one, the others take none$"):
        cell(direction=Direction.TRAIN)
    with pytest.raises(ValueError, match=r"^fprop with optimizer sgd: train needs one, the others take none$"):
        cell(optimizer=Optimizer.SGD)


# Text --------------------------------------------------------------------------------------------------------------------


def test_values_of_the_axes_read_as_they_are_written():
    every = [str(value) for kind in (Direction, Mode, Precision, Cache, Optimizer) for value in kind]
    assert " ".join(every) == "fprop dgrad wgrad bprop train none eager compiled xla fp64 fp32 tf32 bf16 fp16 hot cold sgd adam"


@pytest.mark.parametrize(("ndim", "first", "last"), [(1, "NCW", "NWC"), (2, "NCHW", "NHWC"), (3, "NCDHW", "NDHWC")])
def test_a_layout_has_a_name_for_each_number_of_dimensions(ndim, first, last):
    assert (Layout.CHANNELS_FIRST.text(ndim), Layout.CHANNELS_LAST.text(ndim)) == (first, last)


def test_every_direction_has_words_of_its_own():
    assert len({direction.words for direction in Direction}) == len(Direction)


def test_precisions_know_their_size_and_their_rounding():
    # 1 + u rounds to 1 and 1 + 2u does not, for the significands of 53, 24, 11, 8 and 11 bits.
    bits = {Precision.FP64: 53, Precision.FP32: 24, Precision.TF32: 11, Precision.BF16: 8, Precision.FP16: 11}
    assert {precision: precision.unit_roundoff for precision in Precision} == {p: 2.0**-b for p, b in bits.items()}
    assert [precision.itemsize for precision in Precision] == [8, 4, 4, 2, 2]


@pytest.mark.parametrize(("text", "device"), [("cpu", Device("cpu")), ("gpu", Device("gpu", 0)), ("gpu:11", Device("gpu", 11))])
def test_a_device_is_read(text, device):
    assert Device.parse(text) == device
    assert Device.parse(str(device)) == device


@pytest.mark.parametrize("text", ["", "tpu", "cpu:0", "cpu:", "gpu:", "gpu:-1", "gpu:x", "gpu:1:2", "GPU", " gpu", "gpu:²"])
def test_no_device_is_read_from_anything_else(text):
    with pytest.raises(ValueError, match=f"^{text!r} is no device; write cpu, gpu or gpu:1$"):
        Device.parse(text)


def test_the_id_of_a_cell_is_stable():
    assert str(cell()) == "conv/fprop/torch/eager/cpu/fp32/nchw/hot/t0"
    full = Cell(
        "a", CONV, Direction.TRAIN, "jax", Mode.COMPILED, Device("gpu", 1), Precision.BF16, Layout.CHANNELS_LAST, Cache.COLD, 4,
        Optimizer.ADAM, 7,
    )  # fmt: skip
    assert str(full) == "a/train/jax/compiled/gpu:1/bf16/nhwc/cold/t4/adam"


def test_no_two_cells_share_an_id():
    axes = product(
        ("a", "b"), ("torch", "torch@old"), set(Direction) - {Direction.NONE}, (Mode.EAGER, Mode.XLA),
        (Device("cpu"), Device("gpu"), Device("gpu", 1)), Precision, Layout, Cache, (0, 1, 11),
    )  # fmt: skip
    every = [
        Cell(workload, CONV, direction, backend, mode, device, precision, layout, cache, threads, optimizer)
        for workload, backend, direction, mode, device, precision, layout, cache, threads in axes
        for optimizer in (Optimizer if direction is Direction.TRAIN else (None,))
    ]
    assert len({str(one) for one in every}) == len(set(every)) == len(every)


def test_a_plan_lists_each_cell_once_in_the_order_of_its_first_trial():
    first, second = cell(), cell(backend="jax")
    steps = tuple(
        Step(trial, order, one) for order, (trial, one) in enumerate([(0, second), (0, first), (1, first), (1, second)])
    )
    plan = Plan("s", steps, 0, Budget())
    assert plan.cells == (second, first)
    assert (len(plan), list(plan)) == (4, list(steps))
