"""From calls to suites that the strict reader takes, and to what is said of them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.ask import planning, suite
from harness.ask.captured import Captured, collect, told_left_out
from harness.axes import Device, Layout, Precision
from harness.calls import Call, Seen, layer
from harness.errors import CaptureError
from harness.spec import ConvSpec, TransposedSpec
from tests.captures.seen import DGRAD, FPROP, NEXT, SEEN, STEM, UP, WGRAD


def captured(**more: object) -> Captured:
    return collect("my net", replace(SEEN, **more), target="net.py:build")  # type: ignore[arg-type]


def test_equal_convolutions_are_one_layer_with_its_counts() -> None:
    found = captured()
    assert found.name == "my-net"
    assert [(one.name, one.count, dict(one.counts)) for one in found.layers] == [
        ("stem.conv.1", 1, {FPROP: 1, WGRAD: 1}), ("b.0.conv", 3, {FPROP: 3, DGRAD: 3, WGRAD: 1}),
        ("up", 1, {FPROP: 1, WGRAD: 1}),
    ]  # fmt: skip
    assert found.layers[1].names == ("b.0.conv", "b.1.conv")
    assert found.layers[1].remarks == ("2 with bias, which -a bias=none,channel measures, too",)
    assert {one.layout for one in found.layers} == {Layout.CHANNELS_LAST}  # what fits both is as most others are
    assert found.calls == 11
    assert found.flop(DGRAD) == 3 * 2 * 2 * 4 * 4 * 5 * 9
    assert told_left_out(found.left_out) == [
        "4 x aten::deform: deformable (d1, d2)",
    ]


def test_the_suite_passes_the_strict_reader_and_measures_what_a_step_has(tmp_path: Path) -> None:
    paths = captured().write(tmp_path / "net.toml")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["net.toml", "shapes/net.csv"]
    loaded = suite.load(tmp_path / "net.toml")
    assert [work.spec for work in loaded.workloads] == [UP, STEM, NEXT]
    assert {work.network for work in loaded.workloads} == {"my-net (without 4 calls left out)"}
    cells = planning.cells(loaded, {"numpy": (Device("cpu"),), "torch": (Device("cpu"),)})
    assert {(cell.workload, cell.direction): cell.count for cell in cells} == {
        ("stem.conv.1", FPROP): 1, ("stem.conv.1", WGRAD): 1,
        ("b.0.conv", FPROP): 3, ("b.0.conv", DGRAD): 3, ("b.0.conv", WGRAD): 1, ("up", FPROP): 1, ("up", WGRAD): 1,
    }  # fmt: skip
    assert {cell.layout for cell in cells} == {Layout.CHANNELS_LAST}
    table = (tmp_path / "shapes" / "net.csv").read_text().splitlines()
    assert table[0].endswith("source,count_dgrad,count_wgrad")
    assert table[1].endswith("net.py:build; Stem.Conv 1; x was padded,0,")
    assert table[2].endswith(",1")


def test_a_suite_says_where_its_counts_are_not_those_of_a_step(tmp_path: Path) -> None:
    counts_of = "the whole log, whose steps are not marked"
    captured(counts_of=counts_of).write(tmp_path / "net.toml")
    text, loaded = (tmp_path / "net.toml").read_text(), suite.load(tmp_path / "net.toml")
    assert f"\n# Its counts are those of {counts_of}.\n" in text
    assert loaded.description == f"The convolutions of my-net: 11 calls in {counts_of}, of 3 shapes."
    assert {work.network for work in loaded.workloads} == {"my-net (counts of the whole log, without 4 calls left out)"}
    captured().write(tmp_path / "net.toml")
    text, loaded = (tmp_path / "net.toml").read_text(), suite.load(tmp_path / "net.toml")
    assert loaded.description == "The convolutions of my-net: 11 calls in a step, of 3 shapes."
    assert "ounts" not in text.partition("[suite]")[0]


def too_large(size: int) -> ConvSpec | TransposedSpec:
    return layer((1, 3, size, size), (4, 3, 3, 3), [1], [(1, 1)], [1])


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (too_large(2_000_000), "n1 c3 k4 2000000x2000000 f3x3 p1x1 has a tensor of 1.6e+13 elements (padded); allowed: 2^40"),
        (too_large(500_000), None),
        (
            layer((1, 1, 10**9), (1, 1, 1), [1], [(0, 0)], [1]),
            "n1 c1 k1 1000000000 f1 has a size of 1000000000; allowed: below 10^9",
        ),
        (layer((1, 1, 10**9 - 1), (1, 1, 1), [1], [(0, 0)], [1]), None),
    ],
)
def test_a_layer_that_no_suite_may_have_is_left_out(tmp_path: Path, spec: ConvSpec | TransposedSpec, why: str | None) -> None:
    calls = (*SEEN.calls, Call(spec, FPROP, name="big", times=2), Call(spec, WGRAD, name="big"))
    found = captured(calls=calls, left_out=())
    found.write(tmp_path / "net.toml")
    assert len(suite.load(tmp_path / "net.toml").workloads) == (4 if why is None else 3)
    assert told_left_out(found.left_out) == ([] if why is None else [f"3 x convolution: {why} (big)"])
    if why is not None:
        with pytest.raises(
            CaptureError, match=f"^{re.escape(f'no convolution that a suite can have; left out: convolution x 1: {why}')}$"
        ):
            captured(calls=calls[-1:], left_out=())


def test_a_table_that_no_suite_may_have_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    specs = [layer((1, 1, size), (1, 1, 1), [1], [(0, 0)], [1]) for size in range(1, 10_002)]
    calls = [Call(spec, FPROP, remark="x" * 90) for spec in specs]
    with pytest.raises(CaptureError, match=r"^net: found 10001 shapes; allowed in a suite: 10000$"):
        captured(calls=tuple(calls)).write(tmp_path / "net.toml")
    with pytest.raises(CaptureError, match=r"shapes/net\.csv: would have 1\.\d+ MiB; allowed: 1(\.\d+)? MiB$"):
        captured(calls=tuple(calls[1:])).write(tmp_path / "net.toml")
    assert list(tmp_path.iterdir()) == []


def test_without_gradients_no_other_pass_is_asked_for(tmp_path: Path) -> None:
    forward = [call for call in SEEN.calls if call.direction is FPROP and not call.spec.transposed]
    captured(calls=tuple(forward), left_out=()).write(tmp_path / "net.toml")
    loaded = suite.load(tmp_path / "net.toml")
    assert loaded.axes.direction == (FPROP,)
    assert [dict(work.counts) for work in loaded.workloads] == [{}, {}]
    assert (tmp_path / "shapes" / "net.csv").read_text().splitlines()[0].endswith(",count,source")
    assert loaded.workloads[0].network == "my-net"


def test_each_precision_and_layout_has_a_suite(tmp_path: Path) -> None:
    mixed = [replace(call, precision=Precision.BF16) if call.spec == NEXT else call for call in SEEN.calls]
    paths = captured(calls=tuple(mixed)).write(tmp_path / "net.toml")
    suites = [suite.load(path) for path in paths if path.suffix == ".toml"]
    assert [(one.name, one.axes.precision, len(one.workloads)) for one in suites] == [
        ("net", (Precision.FP32,), 2), ("net-bf16-nhwc", (Precision.BF16,), 1),
    ]  # fmt: skip
    assert suites[1].workloads[0].network.startswith("my-net (its layers in bf16 and NHWC, without 4 calls")


def test_anonymous_suites_tell_no_name() -> None:
    found = collect("net", SEEN, target="secret/net.py:build", anonymous=True)
    text = "".join(found.texts().values()).lower()
    assert [one.name for one in found.layers] == ["conv1", "conv2", "conv3"]
    for secret in ("stem", "b.0", "build", "secret", "d1", "up)"):
        assert secret not in text


def test_names_are_unique_and_harmless(tmp_path: Path) -> None:
    specs = [layer((1, 2, size, size), (2, 2, 1, 1), [1], [(0, 0)], [1]) for size in range(1, 6)]
    names = ["a", "A", "a.2", "\x1b[31m\n#]", "x" * 500]
    seen = Seen("x\ny", tuple(Call(spec, FPROP, name=name) for spec, name in zip(specs, names, strict=True)))
    found = collect('"]\n[suite]\nname = "evil', seen, target="a\nb")
    assert [one.name for one in found.layers] == ["a", "a.2", "a.2.2", "31m", "x" * 80]
    found.write(tmp_path / "net.toml")
    assert suite.load(tmp_path / "net.toml").name == "net"


@pytest.mark.fault("`capture` would write over a suite that it has not written", "it says so and writes nothing, code 2")
def test_what_somebody_wrote_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    captured().write(path)
    captured().write(path)
    path.write_text("# mine\n")
    with pytest.raises(CaptureError, match="was not written by convbench capture"):
        captured().write(path)
    assert path.read_text() == "# mine\n"


def test_a_network_that_a_suite_has_nothing_of() -> None:
    with pytest.raises(CaptureError, match="no convolution that a suite can have; left out: aten::deform x 4: deformable"):
        captured(calls=())


def test_a_network_of_transposed_layers_alone_needs_no_table(tmp_path: Path) -> None:
    transposed = tuple(call for call in SEEN.calls if call.spec.transposed)
    assert captured(calls=transposed, left_out=()).write(tmp_path / "net.toml") == [tmp_path / "net.toml"]
    (work,) = suite.load(tmp_path / "net.toml").workloads
    assert (work.spec, work.count, dict(work.counts), work.network) == (UP, 1, {}, "my-net")
