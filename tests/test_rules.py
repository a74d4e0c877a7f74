"""Each rule of a profile speaks of a call of the installed frameworks, and is silent where a setting or the backend is another.

Which kernel runs depends on the processor, and these examples were found on x86 with AVX-512. What ran is asserted; whether a
profile is complete depends on who else is busy on the machine, so that an incomplete one is made again, and told in the end.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from harness.analysis import explain
from harness.analysis.called import ENOUGH_CALLS
from harness.ask import suite as suites
from harness.ask.selection import Selection
from harness.backends import registry
from harness.execution import afterwards
from harness.isolate.launcher import physical_cores_first
from harness.review.reading import Reading

FRAMEWORKS = ("torch", "tensorflow", "jax")
AXES = {
    "backend": FRAMEWORKS, "direction": ("fprop", "dgrad", "wgrad"), "mode": ("eager", "compiled", "xla"),
    "layout": ("NCHW", "NHWC"), "precision": ("fp64", "fp32", "bf16"), "threads": ("1", "2"),
}  # fmt: skip
TIMES = 3  # that a profile is made at the most


class Asked(NamedTuple):
    """A cell: the line that `--conv` takes, and its axes."""

    line: str
    direction: str
    backend: str
    mode: str = "eager"
    precision: str = "fp32"
    layout: str = "nhwc"
    threads: int = 1

    @property
    def cell(self) -> str:
        """Its id."""
        (workload,) = suites.of_lines([self.line]).workloads
        axes = (self.direction, self.backend, self.mode, "cpu", self.precision, self.layout, "hot", f"t{self.threads}")
        return "/".join((workload.name, *axes))


DENSE, DEPTHWISE, GROUPS = "n1 c64 k64 56x56 f3 p1", "n1 c64 k64 56x56 f3 p1 g64", "n1 c128 k128 28x28 f3 p1 g32"
FIRST, SAME = "n1 c3 k64 224x224 f7 s2 p3", "n1 c3 k64 224x224 f7 s2 p2-3x2-3"
DEEP, POINT, WIDE = "n1 c512 k512 7x7 f3 p1", "n8 c1024 k256 14x14 f1", "n1 c24 k8 8x12x12 f3 p3"
# Of the first cell the rule speaks, of the others it does not.
EXAMPLES: dict[str, tuple[Asked, ...]] = {
    "layout": (
        Asked("n8 c32 k32 112x112 f3 p1 g32", "fprop", "torch", layout="nchw"),
        Asked("n8 c32 k32 112x112 f3 p1 g32", "fprop", "torch"),
    ),
    "repacked filter": (
        Asked(DEEP, "dgrad", "tensorflow"), Asked("n32 c512 k512 7x7 f3 p1", "dgrad", "tensorflow"),
    ),
    "dispatch": (
        Asked("n1 c3 k64 28x28 f5 p2", "wgrad", "tensorflow"), Asked("n16 c3 k64 28x28 f5 p2", "wgrad", "tensorflow"),
    ),
    "more operators": (
        Asked("n1 c512 k512 56x56 f3 p1 g512", "fprop", "tensorflow"), Asked(DENSE, "fprop", "tensorflow"),
    ),
    "reference code": (
        Asked(WIDE, "dgrad", "torch", precision="bf16"), Asked(WIDE, "dgrad", "torch", precision="bf16", layout="nchw"),
    ),
    "own operator": (Asked(FIRST, "wgrad", "tensorflow"), Asked(SAME, "wgrad", "tensorflow")),
    "group by group": (
        Asked("n1 c128 k128 56x56 f3 p1 g32", "fprop", "torch", precision="fp64"),
        Asked("n1 c128 k128 56x56 f3 p1 g32", "fprop", "torch"),
    ),
    "computed as dense": (Asked(DEPTHWISE, "wgrad", "jax", "compiled"), Asked(DENSE, "wgrad", "jax", "compiled")),
    "generic convolution": (
        Asked(GROUPS, "wgrad", "jax", "compiled"), Asked("n1 c128 k128 28x28 f3 p1", "wgrad", "jax", "compiled"),
    ),
    "computed in fp32": (
        Asked("n8 c64 k64 56x56 f1", "fprop", "tensorflow", "xla", "bf16"),
        Asked("n8 c64 k64 56x56 f1", "fprop", "tensorflow", "xla", "fp32"),
    ),
    "idle threads": (
        Asked(DENSE, "fprop", "jax", "compiled", threads=2), Asked(DENSE, "fprop", "jax", "compiled", threads=1),
    ),
    "other library": (Asked(POINT, "wgrad", "jax", "compiled"), Asked(POINT, "wgrad", "tensorflow")),
}  # fmt: skip


class Heard(NamedTuple):
    """What is told of an example: the sentence; why no rule may speak of one of its cells; what is not as it should be."""

    sentence: str = ""
    unsure: str = ""
    wrong: str = ""


def profiled(asked: list[Asked], out: Path) -> Reading:
    """The profiles of these cells, in one run."""
    suite = suites.of_lines([each.line for each in asked])
    keyword = " or ".join(each.cell for each in asked)
    return Reading(afterwards.profile(suite, Selection(axes=AXES, keyword=keyword), out=out).folder)


def heard(reading: Reading, rule: str) -> Heard:
    """What a profile tells of the example of a rule."""
    first, *others = [each.cell for each in EXAMPLES[rule]]
    of = reading.profiles.set_index("cell").loc[[first, *others]]
    for cell, problem in of["problem"][of["problem"] != ""].items():
        told = f"{cell}: {problem}"
        return Heard(unsure=told) if problem.startswith("contended: ") else Heard(wrong=told)
    cores = {each.backend: len(each.affinity) for each in reading.run.environments}
    as_complete = reading.profiles.assign(incomplete="", clean_calls=ENOUGH_CALLS)
    by_what_ran = explain.explanations(reading.kernels, as_complete, cores)
    spoken_of = set(by_what_ran["cell"][by_what_ran["rule"] == rule])
    if first not in spoken_of:
        return Heard(wrong=f"silent of {first}")
    if unlike := spoken_of.intersection(others):
        return Heard(wrong=f"speaks of {', '.join(unlike)}")
    told = reading.explanations
    sentences = list(told["sentence"][(told["rule"] == rule) & (told["cell"] == first)])
    if not sentences:
        return Heard(unsure="; ".join(f"{cell}: {why}" for cell, why in of["incomplete"].items() if why))
    return Heard(sentence=sentences[0])


def test_each_rule_has_an_example() -> None:
    assert list(EXAMPLES) == [explain.name_of(rule) for rule in explain.RULES]


@pytest.mark.long
def test_each_rule_speaks_of_a_call_of_the_installed_frameworks(tmp_path: Path) -> None:
    if lacking := [name for name in FRAMEWORKS if not registry.installed(name)]:
        pytest.skip(f"needs {', '.join(lacking)}")
    if "avx512bw" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("needs a processor with AVX-512, on which the examples were found")
    if len(physical_cores_first()) < 2:
        pytest.skip("needs two cores, of which one can be idle")
    found: dict[str, Heard] = {}
    for number in range(TIMES):
        left = [rule for rule in EXAMPLES if rule not in found or not found[rule].sentence]
        if not left:
            break
        reading = profiled([each for rule in left for each in EXAMPLES[rule]], tmp_path / str(number))
        now = {rule: heard(reading, rule) for rule in left}
        found |= now
        if sum(bool(what.sentence) for what in now.values()) < len(left) / 2:  # it will not be quiet soon
            break
    for rule, what in found.items():
        print(f"{rule}: {what.sentence or what.wrong or what.unsure}")
    assert {rule: what.wrong for rule, what in found.items() if what.wrong} == {}
    if unsure := {rule: what.unsure for rule, what in found.items() if what.unsure}:
        pytest.skip(
            f"needs a quiet machine: {len(unsure)} of {len(found)} rules may not speak of incomplete profiles: {unsure}"
        )
