import pytest

from harness import calls, codec
from harness.axes import Direction, Layout, Precision
from harness.calls import Call, LeftOut, Seen, Timing


def test_a_layer_by_the_shapes_of_its_tensors() -> None:
    spec = calls.layer((2, 6, 9, 8), (4, 3, 3, 2), [2], [(1, 0)], [1, 2], groups=2)
    assert str(spec) == "n2 c6 k4 9x8 f3x2 s2x2 p1-0x1-0 d1x2 g2"
    assert spec.shapes(1).w == (4, 3, 3, 2)


@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_transposed_layer_is_mirrored_with_its_output_padding(more: int) -> None:
    spec = calls.layer((2, 6, 5), (6, 2, 4), [3], [(1, 1)], [2], groups=2, transposed=True, output_padding=[more])
    y = (2, 4, 4 * 3 - 2 + 2 * 3 + more + 1)  # as torch.nn.ConvTranspose1d says
    assert spec.shapes(1) == ((2, 6, 5), (6, 2, 4), y)


def test_more_output_padding_than_a_stride_has_no_mirror() -> None:
    with pytest.raises(ValueError, match=r"output_padding is \[2\]; each entry must be at least 0 and below the stride"):
        calls.layer((1, 1, 5), (1, 1, 3), [2], [(0, 0)], [3], transposed=True, output_padding=[2])


def test_precisions_by_the_names_of_frameworks() -> None:
    names = {"float32": Precision.FP32, "half": Precision.FP16, "bf16": Precision.BF16, "double": Precision.FP64, "int8": None}
    assert {name: calls.precision(name) for name in names} == names


def test_what_was_seen_survives_the_way_between_processes() -> None:
    spec = calls.layer((2, 6, 5), (6, 2, 4), [3], [(1, 1)], [2], groups=2, transposed=True)
    call = Call(spec, Direction.DGRAD, Precision.BF16, Layout.CHANNELS_LAST, True, "a.b", 3, "remark")
    seen = Seen("x", (call, Call(spec, Direction.FPROP)), (LeftOut("a", "b"),), {"mm": 3}, ("note",), Timing(2, 1, 3))
    assert codec.loads(Seen, codec.dumps(seen)) == seen
    assert codec.loads(Seen, codec.dumps(Seen("x"))) == Seen("x")
