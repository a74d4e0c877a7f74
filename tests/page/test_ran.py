"""What ran inside the calls, on the page: the bars, what is said under them, and the kernels of a case."""

import base64
import dataclasses
import gzip
import re

import pytest

from harness.axes import Layout
from harness.page import html, ran
from harness.page.sections import Given
from harness.page.view import prepare
from harness.profile import Kind
from tests.page import synthetic
from tests.page.soundness import HOSTILE, SECTIONS, TRACE, rows_of, sound
from tests.profiled import Call, Kernel

ASKED = [cell for cell in synthetic.cells() if cell.workload in ("example", "rn50_conv1")]


@pytest.fixture(scope="module")
def small() -> synthetic.Made:
    return synthetic.make(ASKED, {})


def given(made: synthetic.Made, calls: list[Call], traces: dict[str, bytes] | None = None) -> Given:
    summary, found = synthetic.ran(made, calls, traces)
    return Given(summary, made.samples, made.run, ran=found)


@pytest.fixture(scope="module")
def text(small: synthetic.Made) -> str:
    return html.build(given(small, synthetic.calls(small, ASKED))).text


def section_of(made: synthetic.Made, calls: list[Call], traces: dict[str, bytes] | None = None) -> ran.Section:
    known = given(made, calls, traces)
    assert known.ran
    return ran.section(prepare(known.summary), known.ran)


def test_a_run_without_a_profile_has_no_such_section_and_one_line_on_how_to_get_it(small, undrawn) -> None:
    text = html.build(Given(small.summary, small.samples, small.run)).text
    assert [attributes["id"] for tag, attributes in sound(text).tags if tag == "section"] == SECTIONS
    assert "<template" not in text
    assert text.count("convbench profile SUITE") == 1
    assert "kernel" not in rows_of(text)[0]


def test_the_section_stands_after_the_workloads_and_every_case_has_its_own(text) -> None:
    page = sound(text)
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert ids[3:6] == ["workloads", "what-ran", "roofline"]
    assert list(re.findall(r"<h2[^>]*>(\d+) ", text)) == [str(place) for place in range(1, 16)]
    assert re.search(r'a verdict on it \(<a href="#stability">7</a>\)', text)
    cases = [attributes["id"] for tag, attributes in page.tags if tag == "template"]
    assert cases == [f"ran-{place}" for place in range(len(ASKED))]
    assert "convbench profile SUITE" not in text


def test_frameworks_stand_above_one_another_with_bars_as_long_as_their_times(small) -> None:
    calls = synthetic.calls(small, ASKED)
    found = section_of(small, calls)
    assert (found.profiled, found.cells, found.total) == (len(calls), len(ASKED), len(found.groups))
    times = small.summary.set_index("cell")["median_ns"]
    for group in found.groups:
        bars = {line.backend.text: line for line in group.lines if not line.missing}
        assert list(bars) == ["TensorFlow eager", "PyTorch eager"]
        assert [line.missing for line in group.lines if line.backend.text == "JAX eager"] == ["not profiled"]
        of = {call.cell.backend: times[str(call.cell)] for call in calls if call.cell.workload in group.name
              and call.cell.direction.words in group.words}  # fmt: skip
        longest = max(of.values())
        for name, backend in (("TensorFlow eager", "tensorflow"), ("PyTorch eager", "torch")):
            widths = [float(width) for width in re.findall(r'<rect x="[\d.]+" y="1" width="([\d.]+)"', bars[name].bar)]
            assert sum(widths) == pytest.approx(130 * of[backend] / longest, abs=1.2)
        assert bars["PyTorch eager"].parts == "70 / 9 / 15 / 6"
        assert (bars["PyTorch eager"].kernel, bars["PyTorch eager"].share) == ("jit:avx512_core", "70 %")
        assert (bars["TensorFlow eager"].kernel, bars["TensorFlow eager"].share) == ("Eigen", "79 %")


def test_parts_are_told_apart_by_more_than_a_colour(text) -> None:
    drawn = ran.bar((0.25, 0.25, 0.25, 0.25), 200)
    assert re.findall(r'height="12" (.*?)/>', drawn) == list(ran.PARTS.values())
    assert len(set(ran.PARTS.values())) == 4
    assert 'aria-hidden="true"' in drawn
    assert text.count('<pattern id="ran-moving"') == 1
    for words in ran.PARTS:
        assert re.search(rf"<li><svg [^>]*><rect [^>]*{re.escape(ran.PARTS[words])}/></svg> {words}</li>", text)
    assert ran.bar((1.0, 0.001, 0.0, float("nan")), 200).count("<rect") == 1


def test_what_rules_say_stands_under_the_group_with_its_remedy(small, text) -> None:
    groups = len(section_of(small, synthetic.calls(small, ASKED)).groups)
    assert text.count(f"<li>{synthetic.SLOW} In an example it was small or gone with <b>padding SAME</b>.</li>") == groups


@pytest.mark.parametrize(
    ("facts", "in_line", "under"),
    [
        ({"problem": "no answer for 60 s"}, "no answer for 60 s", ""),
        ({"incomplete": "a watched call takes 1.41× the time of a plain one"}, "", "a watched call takes 1.41×"),
    ],
)
def test_a_cell_without_a_whole_profile_says_why(small, facts, in_line: str, under: str) -> None:
    first, *rest = [call for call in synthetic.calls(small, ASKED) if call.cell.backend == "torch"]
    found = section_of(small, [dataclasses.replace(first, facts=facts), *rest])
    (line,) = [line for line in found.groups[0].lines if line.backend.text == "PyTorch eager"]
    assert line.missing == in_line
    told = [sentence for sentence, _ in found.groups[0].told]
    assert [sentence for sentence in told if sentence.startswith("PyTorch eager: incomplete, no rule speaks of it")] == (
        [f"PyTorch eager: incomplete, no rule speaks of it: {facts['incomplete']}."] if under else []
    )
    (case,) = [case for case in found.cases if case.missing == in_line and case.facts] if in_line else found.cases[:1]
    assert case.missing == (in_line or "This case was not profiled.")


def test_a_case_has_its_kernels_the_largest_first_and_says_what_is_left_out(small) -> None:
    (call, *_) = [call for call in synthetic.calls(small, ASKED) if call.cell.backend == "torch"]
    (case,) = [case for case in section_of(small, [call]).cases if case.rows]
    assert [row.name for row in case.rows] == ["jit:avx512_core", "aten::convolution", "jit:uni", "outside"]
    first = case.rows[0]
    assert (first.kind, first.calls, first.share) == ("convolution", "1", "70 %")
    assert first.under == "convolution · acdb → Acdb64a · f32 mb1_ic3oc64 · oneDNN"
    assert case.rest == "1 kernel more: 0 % of the call."
    facts = dict(case.facts)
    assert facts["Watched ÷ plain call"] == "1.00×"
    assert facts["Undisturbed calls"] == "24 of 30"
    assert "Incomplete" not in facts


def test_a_trace_is_carried_along_as_long_as_it_fits_and_else_its_place_is_told(small, monkeypatch) -> None:
    calls = synthetic.calls(small, ASKED)
    link = re.compile(rf'<a download="([\w.-]+)" href="{TRACE}([A-Za-z0-9+/=]+)">Trace of three calls</a>')
    carried = link.findall(html.build(given(small, calls)).text)
    assert len(carried) == len(calls)
    assert {gzip.decompress(base64.b64decode(content)) for _, content in carried} == {b'{"traceEvents": []}'}
    assert "example-fprop-torch-cpu-eager.json.gz" in {name for name, _ in carried}
    one = len(base64.b64encode(synthetic.TRACE)) + len(TRACE)
    monkeypatch.setattr(ran, "TRACE_BYTES", 2 * one)
    text = html.build(given(small, calls)).text
    assert len(link.findall(text)) == 2
    assert text.count("Trace of three calls: ") == len(calls) - 2
    assert f"runs/{small.run.id}/traces/" in text


def test_no_page_names_a_trace_that_is_not_in_the_store(small) -> None:
    calls = synthetic.calls(small, ASKED)
    whole = given(small, calls)
    lost = dataclasses.replace(whole, ran=dataclasses.replace(whole.ran, traces={}))
    assert "Trace of three calls" in html.build(whole).text
    assert "Trace of three calls" not in html.build(lost).text


def test_of_many_groups_those_are_shown_of_which_something_is_said(small, monkeypatch) -> None:
    calls = synthetic.calls(small, ASKED)
    summary, found = synthetic.ran(small, calls)
    told = found.explanations.iloc[-1:]
    monkeypatch.setattr(ran, "MOST_GROUPS", 1)
    shown = ran.section(prepare(summary), dataclasses.replace(found, explanations=told))
    assert shown.total > len(shown.groups) == 1
    assert [sentence for sentence, _ in shown.groups[0].told] == [synthetic.SLOW]


def test_settings_of_a_workload_stand_in_one_group_and_are_named() -> None:
    """So that a bar shows what a setting is worth; a sentence says of which it speaks."""
    asked = [dataclasses.replace(cell, layout=layout) for cell in ASKED if cell.workload == "rn50_conv1" for layout in Layout]
    made = synthetic.make(asked, {})
    groups = section_of(made, synthetic.calls(made, asked)).groups
    assert [group.words for group in groups] == ["forward", "backward input", "backward filter"]
    found = [(line.backend.text, line.setting) for line in groups[0].lines]
    assert found[:2] == [("TensorFlow", "NCHW"), ("PyTorch", "NCHW")]
    assert found[3:5] == [("TensorFlow", "NHWC"), ("PyTorch", "NHWC")]
    assert [sentence for sentence, _ in groups[0].told] == [f"NCHW: {synthetic.SLOW}", f"NHWC: {synthetic.SLOW}"]


@pytest.mark.parametrize("nasty", [each.replace("\ud800", "") for each in HOSTILE])
def test_hostile_names_stay_text(small, nasty: str, undrawn) -> None:
    (call, *_) = synthetic.calls(small, ASKED)
    kernels = [
        Kernel(0.9, nasty, name=nasty, detail=nasty, role=nasty, src_format=nasty),
        Kernel(0.05, name=nasty, kind=Kind.COPY),
    ]
    facts = dict.fromkeys(("sources", "trace", "problem", "incomplete"), nasty)
    other = dataclasses.replace(call, cell=dataclasses.replace(call.cell, backend="torch"), kernels=kernels)
    known = given(small, [dataclasses.replace(call, kernels=kernels, facts=facts), other], {})
    known = dataclasses.replace(known, ran=dataclasses.replace(known.ran, explanations=known.ran.explanations.assign(
        sentence=nasty, remedy=nasty,
    )))  # fmt: skip
    made = html.build(known)
    sound(made.text)
    assert made.broken == ()
    assert "<img" not in made.text
    assert made.text.count("<template") == made.text.count("</template>") == len(ASKED)


def test_the_kernel_is_a_column_of_the_results(text) -> None:
    kernels = {(row["backend"], row["kernel"]) for row in rows_of(text) if row["kernel"]}
    assert kernels == {("tensorflow", "Eigen"), ("torch", "jit:avx512_core")}
