"""`convbench show --explain`: what ran and why, in the terminal and as data."""

from harness.analysis import explain
from harness.analysis.ranking import rank
from harness.cli import explained, tables
from harness.profile import Kind, Level
from tests.analysis.test_compare import side
from tests.builders import record
from tests.cli.test_tables import shown
from tests.profiled import Call, Kernel, cell, kernels, profiles, spec

CONV1 = spec(3, 64, 224, 7, stride=2)
EIGEN = [
    Kernel(0.79, "Eigen", name="Conv2DBackpropFilter", level=Level.OPERATOR),
    Kernel(0.19, "x64:gemm:jit", name="gemm", kind=Kind.GEMM, calls=21),
]
TORCH = [Kernel(0.89, "jit:avx512_core"), Kernel(0.01, "jit:uni", name="reorder", kind=Kind.REORDER, role="filter")]


def wgrad(backend: str, ran: list[Kernel], us: float, **facts: object) -> Call:
    return Call(cell(CONV1, "wgrad", backend, workload="rn50_conv1"), ran, us, dict(facts))


def lines(*calls: Call, width: int = 80) -> list[str]:
    ran, of = kernels(*calls), profiles(*calls)
    return list(explained.lines(of, ran, explain.explanations(ran, of, {}), width))


def test_frameworks_stand_above_one_another_and_the_sentences_under_them() -> None:
    fprop = Call(cell(CONV1, "fprop", workload="rn50_conv1"), TORCH, 800)
    text = lines(wgrad("tensorflow", EIGEN, 14_100), wgrad("torch", TORCH, 2_400), fprop)
    assert text[:8] == [
        "rn50_conv1 wgrad  n1 c3 k64 224x224 f7x7 s2x2 p3x3",
        "  tensorflow eager  14.1 ms  98/0/0/2     79 % Eigen",
        "  torch eager       2.40 ms  89/1/0/10    89 % jit:avx512_core",
        "  why  tensorflow computes in its own operator Conv2DBackpropFilter by Eigen,",
        "       not in oneDNN: 79 % of the call. It takes 5.88× the time of torch with",
        "       jit:avx512_core. In an example it was small or gone with padding SAME.",
        "",
        "rn50_conv1 fprop  n1 c3 k64 224x224 f7x7 s2x2 p3x3",
    ]
    assert max(map(len, text)) <= 80
    assert sum(line.startswith("  why") for line in text) == 1


def test_a_name_that_is_too_long_is_cut_and_whole_where_there_is_room() -> None:
    name = "jit_uni_ncsp_convolution:conv+brg_conv_fwd:avx10_1_512_amx"
    call = wgrad("torch", [Kernel(0.95, name)], 900)
    (short,) = [line for line in lines(call) if "jit_uni" in line and "why" not in line and "runs" not in line]
    assert (len(short), short[-1]) == (80, "…")
    assert name in lines(call, width=200)[1]


def test_what_was_not_profiled_or_not_all_says_so() -> None:
    failed = wgrad("jax", [], 1, problem="no answer for 60 s", plain_ns=float("nan"))
    dear = wgrad("torch", TORCH, 2_400, incomplete="a watched call takes 1.41× the time of a plain one")
    text = lines(failed, dear)
    assert text[1] == "  jax eager    no answer for 60 s"
    assert text[3] == "    incomplete: a watched call takes 1.41× the time of a plain one"
    assert "  why" not in "".join(text)


def test_which_call_was_timed_and_why_stands_under_its_figures() -> None:
    call = wgrad("torch", TORCH, 2_400)
    assert not [line for line in lines(call) if "call:" in line]
    told = {"op": "an op", "op_reason": "the usual one is wrong here, so this one is called, which is right"}
    text = lines(wgrad("torch", TORCH, 2_400, **told))
    assert text[2:4] == ["    call: an op: the usual one is wrong here, so this one is called, which is", "    right"]


def test_settings_that_differ_are_named() -> None:
    moved = [Kernel(0.6, "jit:avx512_core"), Kernel(0.3, "jit:uni", name="reorder", kind=Kind.REORDER, role="activation")]
    calls = [Call(cell(CONV1, layout=layout, threads=threads), moved, 900) for layout, threads in (("NCHW", 1), ("NHWC", 2))]
    text = lines(*calls)
    assert [line.split("  ")[1] for line in text[1:3]] == ["torch eager NCHW 1 thread", "torch eager NHWC 2 threads"]
    assert text[3].startswith("  why  NCHW 1 thread: torch moves activations")


def test_the_table_of_cells_names_the_kernel_where_there_is_room() -> None:
    summary = rank(side(record()).summary)
    assert "kernel" not in shown(tables.cells_table(summary))
    profiled = summary.assign(kernel="jit:avx512_core")
    assert "jit:avx512_core" in shown(tables.cells_table(profiled))
    assert "jit:avx512_core" not in shown(tables.cells_table(profiled, wide=False), 80)
