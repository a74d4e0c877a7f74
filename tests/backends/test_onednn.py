"""oneDNN's verbose lines: what they tell of a primitive, which of them are left out, and which are refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.backends.onednn import Header, Printed, complete, events, header
from harness.profile import Event, Kind, Level, Role
from harness.spec import ConvSpec
from tests.builders import cell

# As printed by oneDNN 3.12.0 in PyTorch 2.13, and the product by 3.7.3 in TensorFlow 2.21; the template of both is the same.
FIELDS = "operation,engine,primitive,implementation,prop_kind,memory_descriptors,attributes,auxiliary,problem_desc,exec_time"
HEADER = Header("3.12.0", tuple(FIELDS.split(",")))
BEGIN = f"""\
onednn_verbose,v1,info,oneDNN v3.12.0 (commit 80afa71049cd69a3df32adcccb623b12cd7baa22)
onednn_verbose,v1,info,cpu,runtime:OpenMP,nthr:1
onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with Intel DL Boost and bfloat16 support
onednn_verbose,v1,info,gpu,runtime:none
onednn_verbose,v1,info,graph,backend,0:dnnl_backend
onednn_verbose,v1,primitive,info,template:timestamp,{FIELDS}
onednn_verbose,v1,graph,info,template:timestamp,operation,engine,partition_id,partition_kind,op_names,exec_time
"""
TIME = "1796023676024.048096"
CONVOLUTION = (
    f"onednn_verbose,v1,{TIME},primitive,exec,cpu,convolution,brg_conv_fwd:avx512_core,forward_training,"
    "src:f32::blocked:acdb::f0 wei:f32:a:blocked:Acdb16a::f0 bia:undef::undef::: dst:f32::blocked:acdb::f0,"
    "attr-scratchpad:user,alg:convolution_direct,mb1_ic3oc16_ih14oh14kh5sh1dh0ph2_iw14ow14kw5sw1dw0pw2,0.0187988"
)
REORDER = (
    f"onednn_verbose,v1,{TIME},primitive,exec,cpu,reorder,jit:blk,undef,src:f32::blocked:acdb::f0 "
    "dst:f32::blocked:Acdb16a::f0,attr-scratchpad:user,,16x3x5x5,0.00610352"
)
PRODUCT = (
    f"onednn_verbose,v1,{TIME},primitive,exec,cpu,gemm_api,,undef,src_f32::blocked:ab:f0 wei_f32::blocked:ab:f0 "
    "dst_f32::blocked:ab:f0,,,24x196:196x16,0.00292969"
)
EXAMPLE = ConvSpec.parse("n1 c3 k16 14x14 f5x5 p2x2")


def read(*lines: str, known: Header | None = HEADER) -> list[Event]:
    return events(lines, known, cell(spec=EXAMPLE))


def test_a_primitive_is_an_event_with_its_implementation_formats_and_problem():
    (event,) = read(CONVOLUTION)
    assert (event.start_ns, event.end_ns - event.start_ns) == (round(float(TIME) * 1e6), 18799)
    assert (event.level, event.kind, event.name) == (Level.PRIMITIVE, Kind.CONVOLUTION, "convolution")
    assert event.implementation == "brg_conv_fwd:avx512_core"
    assert (event.src_format, event.dst_format) == ("acdb", "acdb")
    assert event.detail == "f32 mb1_ic3oc16_ih14oh14kh5sh1dh0ph2_iw14ow14kw5sw1dw0pw2"
    assert (event.source, event.thread, event.role) == ("oneDNN", "oneDNN", Role.UNKNOWN)


def test_a_reorder_says_which_tensor_it_moves():
    (event,) = read(REORDER)
    assert (event.kind, event.src_format, event.dst_format, event.role) == (Kind.REORDER, "acdb", "Acdb16a", Role.FILTER)
    (event,) = read(REORDER.replace("16x3x5x5", "1x16x14x14"))
    assert event.role is Role.ACTIVATION


def test_a_reorder_into_another_type_alone_converts():
    half = REORDER.replace("dst:f32::blocked:Acdb16a", "dst:bf16::blocked:acdb")
    (event,) = read(half)
    assert (event.kind, event.detail) == (Kind.CONVERT, "f32->bf16 16x3x5x5")
    (event,) = read(REORDER.replace("dst:f32", "dst:bf16"))
    assert (event.kind, event.detail) == (Kind.REORDER, "f32->bf16 16x3x5x5")


def test_a_product_has_no_implementation_and_other_names_of_its_tensors():
    (event,) = read(PRODUCT)
    assert (event.kind, event.name, event.implementation) == (Kind.GEMM, "gemm_api", "")
    assert (event.detail, event.src_format, event.dst_format) == ("f32 24x196:196x16", "ab", "ab")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("matmul", Kind.GEMM), ("inner_product", Kind.GEMM), ("deconvolution", Kind.CONVOLUTION), ("binary", Kind.ELEMENTWISE),
        ("sum", Kind.ELEMENTWISE), ("reduction", Kind.REDUCTION), ("concat", Kind.COPY), ("softmax", Kind.OTHER),
    ],
)  # fmt: skip
def test_primitives_have_kinds(name: str, kind: Kind):
    assert [event.kind for event in read(CONVOLUTION.replace("convolution,brg", f"{name},brg"))] == [kind]


def test_an_operation_on_one_tensor_has_its_format():
    line = (
        f"onednn_verbose,v1,{TIME},primitive,exec,cpu,eltwise,jit:avx512_core,forward_training,data:bf16::blocked:acdb::f0,,"
        "alg:eltwise_square alpha:0 beta:0,1x64x28x28,0.0100098"
    )
    (event,) = read(line)
    assert (event.kind, event.src_format, event.dst_format) == (Kind.ELEMENTWISE, "acdb", "acdb")
    assert event.detail == "bf16 1x64x28x28"


def test_lines_about_anything_else_are_left_out():
    made = CONVOLUTION.replace("exec", "create:cache_miss", 1)
    graph = f"onednn_verbose,v1,{TIME},graph,exec,cpu,100002,conv,conv,,fpm:strict,sdp,dnnl_backend,0.1"
    assert read(made, graph, *BEGIN.splitlines()) == []


# The header --------------------------------------------------------------------------------------------------------------


def test_the_template_is_the_primitive_s_and_comes_with_the_version():
    assert header(["a line of somebody else", *BEGIN.splitlines(keepends=True), CONVOLUTION]) == HEADER
    assert header([CONVOLUTION]) is None


def test_fields_are_found_where_the_template_says():
    """Another version may print them in another order."""
    moved = Header("4.0.0", ("operation", "exec_time", *HEADER.fields[1:-1]))
    begin, _, time = CONVOLUTION.rpartition(",")
    assert read(begin.replace("exec,", f"exec,{time},", 1), known=moved) == read(CONVOLUTION)


# What is refused ---------------------------------------------------------------------------------------------------------


def test_a_line_that_was_cut_off_is_left_out():
    whole, cut = f"{CONVOLUTION}\n", CONVOLUTION[:-40]
    assert complete(f"{whole}of somebody else\n{cut}") == (CONVOLUTION,)
    assert complete(cut) == ()


@pytest.mark.parametrize(
    ("line", "known", "message"),
    [
        (CONVOLUTION, None, "no template"),
        (CONVOLUTION.replace(f"{TIME},", ""), HEADER, "ONEDNN_VERBOSE_TIMESTAMP was not set"),
        (f"{CONVOLUTION},1", HEADER, "template does not describe"),
        (CONVOLUTION.replace(",attr-scratchpad:user", ""), HEADER, "template does not describe"),
        (CONVOLUTION.replace("0.0187988", "soon"), HEADER, "cannot be read"),
        (CONVOLUTION.replace("src:f32::blocked:acdb::f0", "src acdb"), HEADER, "'src' describes no tensor"),
        (CONVOLUTION, Header("9", ("operation", *"abcdefghi")), "cannot be read"),
    ],
)
def test_what_nobody_understands_is_refused_with_the_line(line: str, known: Header | None, message: str):
    with pytest.raises(ValueError, match=message) as raised:
        read(line, known=known)
    assert line in str(raised.value) or repr(line) in str(raised.value)


# Reading it --------------------------------------------------------------------------------------------------------------

CHILD = """
import ctypes, fcntl, json, os, sys
from harness.backends import onednn
if sys.argv[4:]:
    output = os.memfd_create("stdout")
    fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)
    os.dup2(output, 1)
libc = ctypes.CDLL(None)
libc.printf(sys.argv[1].encode())  # into C's buffer, as a library does
libc.printf((sys.argv[2] + "\\n").encode())
levels, found = [], []
for _ in range(2):
    with onednn.printed(levels.append) as printed:
        libc.printf((sys.argv[3] + "\\n").encode())
        found.append(printed.lines)
    found.append(printed.lines)
    libc.printf((sys.argv[2] + "\\n").encode())
libc.fflush(None)
left = open("/proc/self/fd/1").read().count("exec,")
print(json.dumps([printed.source, found, levels, left]), file=sys.stderr)
"""


def child(*arguments: str, output: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, BEGIN, CONVOLUTION, REORDER, *arguments]
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize(("arguments", "left"), [([], 5), (["apart"], 2)])
def test_what_is_printed_meanwhile_is_read_from_the_file_that_output_goes_to(tmp_path: Path, arguments: list[str], left: int):
    """One that is the process's alone lies in memory: what was printed before is let go of, the template is not."""
    with (tmp_path / "log").open("w") as log:
        done = child(*arguments, output=log.fileno())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr) == ["oneDNN 3.12.0 verbose", [[], [REORDER]] * 2, [1, 0, 1, 0], left]


def test_output_that_is_no_file_is_refused():
    reading, writing = os.pipe()
    done = child(output=writing)
    os.close(writing)
    os.close(reading)
    assert done.returncode == 1
    assert "standard output of this process is no file" in done.stderr


def test_a_process_in_which_it_printed_nothing_has_no_version():
    assert Printed().source == "oneDNN verbose"
    assert Printed().events(cell()) == []
