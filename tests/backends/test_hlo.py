"""What the operations of a compiled program are, by the text of its HLO after optimisation."""

import pytest

from harness.backends.hlo import Operation, Program, kind_of
from harness.profile import Kind, Role
from harness.spec import ConvSpec
from tests.builders import cell

# Shortened from what JAX 0.10.2 compiles for CPUs: a library's fusion, XLA's own convolution, moves of the filter, conversions.
TEXT = """\
HloModule jit__lambda, is_scheduled=true, entry_computation_layout={(f32[1,4,4,1]{3,2,1,0})->f32[1,4,4,2]{3,2,1,0}}

FileNames
1 "/somewhere/jax.py"

%region_0.1 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%fused_computation (param_0: f32[1,4,4,1], param_1: f32[3,3,1,2]) -> f32[1,4,4,2] {
  %param_0 = f32[1,4,4,1]{3,2,1,0} parameter(0)
  %param_1 = f32[3,3,1,2]{3,2,1,0} parameter(1)
  ROOT %conv_general_dilated.1 = f32[1,4,4,2]{3,2,1,0} convolution(%param_0, %param_1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, operand_precision={highest,highest}, metadata={op_name="jit(f)/conv_general_dilated"}
}

%fused_computation.1 (param_0.1: f32[1,4,4,2]) -> bf16[1,4,4,2] {
  %param_0.1 = f32[1,4,4,2]{3,2,1,0} parameter(0)
  ROOT %convert.3 = bf16[1,4,4,2]{3,2,1,0} convert(%param_0.1)
}

%fused_computation.2 (param_0.2: f32[1,4,4,2]) -> f32[] {
  %param_0.2 = f32[1,4,4,2]{3,2,1,0} parameter(0)
  %constant.1 = f32[] constant(0)
  %multiply.1 = f32[1,4,4,2]{3,2,1,0} multiply(%param_0.2, %param_0.2)
  ROOT %reduce_sum.0 = f32[] reduce(%multiply.1, %constant.1), dimensions={0,1,2,3}, to_apply=%region_0.1
}

ENTRY %main.2 (x.1: f32[1,4,4,1], w.1: f32[3,3,1,2]) -> (f32[1,4,4,2], f32[]) {
  %x.1 = f32[1,4,4,1]{3,2,1,0} parameter(0), metadata={op_name="x"}
  %w.1 = f32[3,3,1,2]{3,2,1,0} parameter(1), metadata={op_name="w"}
  %copy.1 = f32[3,3,1,2]{0,1,2,3} copy(%w.1)
  %copy.2 = f32[1,4,4,1]{3,2,1,0} copy(%x.1)
  %transpose.1 = f32[2,1,3,3]{3,2,1,0} transpose(%w.1), dimensions={3,2,0,1}
  %reverse.1 = f32[3,3,1,2]{3,2,1,0} reverse(%w.1), dimensions={0,1}
  %ynn_fusion = f32[1,4,4,2]{3,2,1,0} fusion(%x.1, %w.1), kind=kCustom, calls=%fused_computation, metadata={op_name="jit(f)/conv_general_dilated" stack_frame_id=1}, backend_config={"fusion_config":{"kind":"__ynn_fusion"},"outer_dimension_partitions":[]}
  %convolution.7 = f32[1,4,4,2]{3,2,1,0} convolution(%x.1, %copy.1), window={size=3x3 pad=1_1x1_1 lhs_dilate=1x32}, dim_labels=b01f_01io->b01f, feature_group_count=32, batch_group_count=1
  %wrapped_convert = bf16[1,4,4,2]{3,2,1,0} fusion(%ynn_fusion), kind=kLoop, calls=%fused_computation.1
  %multiply_reduce_fusion = f32[] fusion(%ynn_fusion), kind=kLoop, calls=%fused_computation.2
  %dot.1 = f32[4,2]{1,0} dot(%a.1, %b.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %broadcast.5 = f32[1,4,4,2]{3,2,1,0} broadcast(%multiply_reduce_fusion), dimensions={}
  %while.1 = (s32[], /*index=1*/f32[8]{0}) while(%tuple.1), condition=%cond, body=%body
  ROOT %tuple.2 = (f32[1,4,4,2]{3,2,1,0}, f32[]) tuple(%ynn_fusion, %multiply_reduce_fusion)
}
"""  # noqa: E501
SPEC = ConvSpec.parse("n1 c1 k2 4x4 f3x3 p1x1")
PROGRAM = Program(TEXT, cell(spec=SPEC))
WINDOW = "size=3x3 pad=1_1x1_1"


def test_a_library_s_fusion_is_the_convolution_in_it():
    detail = f"f32 1x4x4x1 * 3x3x1x2 -> 1x4x4x2 {WINDOW}"
    assert PROGRAM.operation("ynn_fusion") == Operation(Kind.CONVOLUTION, "ynn_fusion", detail)


def test_xla_s_own_convolution_tells_its_dilation_and_groups():
    detail = f"f32 1x4x4x1 * 3x3x1x2 -> 1x4x4x2 {WINDOW} lhs_dilate=1x32 feature_group_count=32"
    assert PROGRAM.operation("convolution.7") == Operation(Kind.CONVOLUTION, "Eigen", detail)


@pytest.mark.parametrize(
    ("name", "kind", "role", "formats"),
    [
        ("copy.1", Kind.REORDER, Role.FILTER, ("3,2,1,0", "0,1,2,3")),
        ("copy.2", Kind.COPY, Role.ACTIVATION, ("3,2,1,0", "3,2,1,0")),
        ("transpose.1", Kind.TRANSPOSE, Role.FILTER, ("3,2,1,0", "3,2,1,0")),
        ("reverse.1", Kind.TRANSPOSE, Role.FILTER, ("3,2,1,0", "3,2,1,0")),
        ("wrapped_convert", Kind.CONVERT, Role.ACTIVATION, ("3,2,1,0", "3,2,1,0")),
    ],
)
def test_what_moves_an_array_says_which(name: str, kind: Kind, role: Role, formats: tuple[str, str]):
    found = PROGRAM.operation(name)
    assert (found.kind, found.role, found.src_format, found.dst_format) == (kind, role, *formats)


def test_a_conversion_tells_both_types():
    assert PROGRAM.operation("wrapped_convert").detail == "f32->bf16 1x4x4x2"
    assert PROGRAM.operation("wrapped_convert").implementation == "loop fusion"


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("multiply_reduce_fusion", Kind.REDUCTION, "f32 multiply reduce"), ("dot.1", Kind.GEMM, "f32 4x2 dot"),
        ("broadcast.5", Kind.BOOKKEEPING, "f32 1x4x4x2 broadcast"), ("while.1", Kind.FRAMEWORK, "s32 while"),
    ],
)  # fmt: skip
def test_everything_else_tells_its_work(name: str, kind: Kind, detail: str):
    found = PROGRAM.operation(name)
    assert (found.kind, found.detail) == (kind, detail)


@pytest.mark.parametrize(
    ("opcodes", "kind"),
    [
        (["parameter", "convert", "convolution"], Kind.CONVOLUTION), (["convert", "multiply"], Kind.ELEMENTWISE),
        (["transpose", "convert"], Kind.CONVERT), (["copy", "bitcast"], Kind.COPY), (["bitcast", "slice"], Kind.BOOKKEEPING),
        (["all-reduce"], Kind.OTHER), ([], Kind.OTHER),
    ],
)  # fmt: skip
def test_a_fusion_is_named_for_its_heaviest_work(opcodes: list[str], kind: Kind):
    assert kind_of(opcodes) is kind


CUDNN = """\
ENTRY %main.2 (a: f32[1,32,32,1], b: f32[8,3,3,1]) -> f32[1,32,32,8] {
  %a = f32[1,32,32,1]{3,2,1,0} parameter(0)
  %b = f32[8,3,3,1]{3,2,1,0} parameter(1)
  %cudnn-conv.1 = (f32[1,32,32,8]{3,2,1,0}, u8[0]{0}) custom-call(%a, %b), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", backend_config={"cudnn_conv_backend_config":{"activation_mode":"kNone","algorithm":{"algo_id":"28","math_type":"DEFAULT_MATH","tuning_knobs":{"3":"0","2":"3"},"is_cudnn_frontend":false,"workspace_size":"0"},"leakyrelu_alpha":0}}
}
"""  # noqa: E501


def test_a_call_of_cudnn_has_its_algorithm():
    """As openxla/xla prints it in its own tests; not run on a GPU."""
    found = Program(CUDNN, cell()).operation("cudnn-conv.1")
    assert (found.kind, found.implementation) == (Kind.CONVOLUTION, "__cudnn$convForward")
    assert found.detail.startswith(f"f32 1x32x32x1 * 8x3x3x1 -> 1x32x32x8 {WINDOW} ")
    assert '"algo_id":"28"' in found.detail
    assert '"workspace_size":"0"' in found.detail
    assert "leakyrelu" not in found.detail


@pytest.mark.parametrize(
    ("name", "module", "expected"),
    [
        ("ynn_fusion.1", "jit_conv_general_dilated", Operation(Kind.CONVOLUTION, "ynn_fusion")),
        ("ynn_fusion", "jit_dot_general", Operation(Kind.GEMM, "ynn_fusion")),
        ("convolution.2", "jit_f", Operation(Kind.CONVOLUTION, "Eigen")),
        ("copy_bitcast_fusion", "jit_f", Operation(Kind.COPY)),
        ("wrapped_transpose", "jit_transpose", Operation(Kind.TRANSPOSE)),
        ("multiply_subtract_fusion.12", "jit_f", Operation(Kind.ELEMENTWISE)), ("fusion.3", "jit_f", Operation(Kind.OTHER)),
    ],
)  # fmt: skip
def test_without_a_text_the_names_must_do(name: str, module: str, expected: Operation):
    assert Program("", cell()).operation(name, module) == expected


def test_the_same_name_in_two_programs_is_two_operations():
    program = Program("", cell())
    assert program.operation("ynn_fusion", "jit_conv_general_dilated") != program.operation("ynn_fusion", "jit_dot_general")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ynn_fusion", ((Kind.CONVOLUTION, "conv_general_dilated"),)), ("convolution.7", ((Kind.CONVOLUTION, ""),)),
        ("multiply_reduce_fusion", ((Kind.ELEMENTWISE, ""), (Kind.REDUCTION, ""))), ("broadcast.5", ()), ("nothing", ()),
    ],
)  # fmt: skip
def test_what_an_operation_was_made_of_is_what_works_in_it(name: str, parts: tuple[tuple[Kind, str], ...]):
    assert Program(TEXT).made_of(name) == parts


@pytest.mark.parametrize(
    ("named", "part"),
    [
        ('op_name="jit(f)/transpose(jvp(g))/conv_general_dilated" stack_frame_id=1', "conv_general_dilated"),
        ('op_name="jit(f)/jit(main)/conv_general_dilated[window_strides=(1, 1)]" source_file="a/b.py"', "conv_general_dilated"),
        ('op_name="dot_general"', "dot_general"), ('source_file="a/b.py"', ""),
    ],
)  # fmt: skip
def test_what_it_was_made_of_is_the_last_part_of_its_name(named: str, part: str):
    text = f"ENTRY %main (a: f32[4,4]) -> f32[4,4] {{\n  ROOT %dot.1 = f32[4,4]{{1,0}} dot(%a, %a), metadata={{{named}}}\n}}\n"
    assert Program(text).made_of("dot.1") == ((Kind.GEMM, part),)


def test_a_program_of_no_cell_tells_no_tensors():
    assert Program(TEXT).operation("copy.1").role is Role.UNKNOWN
