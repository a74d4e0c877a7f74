"""What is known of operands, switches and padding, looked for: a run per effect, and the table of what was seen."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from scripts.certainty.place import HERE, Place

TRIALS = 5


class Effect(NamedTuple):
    """An effect: what is known of it, the run that shows it, and along which axis, against which value, it is read."""

    name: str
    known: str
    run: tuple[str, ...]  # a suite and its options
    axis: str
    base: str = "default"
    tried: str = ""  # an expression of -k for the cells of a try, beside that of the run


USUAL = "(torch/eager or tensorflow/eager or jax/compiled)"  # each framework as most programs run it
EFFECTS = (
    Effect(
        "operands", "denormal numbers: hundreds of times as long on processors that leave them to microcode; zeros: nothing",
        ("first", "-a", "operands=normal,denormal,zeros,sparse", "--direction", "fprop", "-k", f"rn50_res4_1x1 and {USUAL}"),
        "operands", "normal", "torch",
    ),
    Effect(
        "flush", "where denormal numbers cost time, they cost none once the processor takes them for 0",
        ("first", "-a", "operands=denormal", "-a", "switch=default,flush_denormals", "--direction", "fprop",
         "-k", "rn50_res4_1x1 and torch/eager"), "switch",
    ),
    Effect(
        "onednn", "TensorFlow's own kernels instead of oneDNN's: slower",
        ("first", "-a", "switch=default,onednn_off", "-k", "rn50_res2_3x3 and (fprop or wgrad) and tensorflow/eager"), "switch",
        tried="fprop",
    ),
    Effect(
        "isa", "PyTorch's own kernels instead of oneDNN's: slower; oneDNN without AVX-512: nothing is known",
        ("first", "-a", "switch=default,onednn_off,isa_avx2", "-k", "rn50_res2_3x3 and fprop and torch/eager"), "switch",
    ),
    Effect(
        "ynn", "XLA's own convolution instead of the library YNN's: 2.84 ms became 1.26 ms on another processor",
        ("first", "-a", "switch=default,ynn_off", "-k", "rn50_res4_1x1 and wgrad and jax/compiled"), "switch",
    ),
    Effect(
        "padding", "TensorFlow computes a filter gradient with padding in numbers by Eigen, with SAME by oneDNN: 2 to 6 times",
        (str(HERE / "padding.toml"),), "workload", "same",
    ),
)  # fmt: skip


def measured(place: Place, effect: Effect) -> dict[str, Any]:
    """The run of an effect, and the rows that `show --by` has of it."""
    suite, *options = effect.run
    if place.tries and effect.tried:
        options = tried(options, effect.tried)
    trials = "1" if place.tries else str(TRIALS)
    place.convbench("run", suite, *options, "--threads", "1", "--trials", trials)
    asked = ["show", "latest", "--out", "store", "--by", effect.axis, "--base", effect.base, "--format", "json"]
    said = place.started([sys.executable, "-P", "-m", "harness", *asked])
    return {"run": place.run(), "rows": json.loads(said[said.index("[") :])}


def tried(options: list[str], fewer: str) -> list[str]:
    """The options of a run, for those of its cells that fit another expression as well."""
    found = list(options)
    found[found.index("-k") + 1] = f"({found[found.index('-k') + 1]}) and ({fewer})"
    return found


def table(found: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[str]:
    """Lines of Markdown: a row per comparison. `found` are the rows of `show --by` by the name of their effect."""
    from harness import units

    lines = [
        "| cell | along | time over it, 95 % | difference | pairs of processes | what is known |",
        "|---|---|---|---|---|---|",
    ]
    for effect in (each for each in EFFECTS if each.name in found):
        for row in found[effect.name]:
            cell = f"{row['workload']} {row['direction']}, {row['backend']} {row['mode']}"
            cell += f", {row['operands']} operands" if effect.axis != "operands" and row["operands"] != "normal" else ""
            along = f"{row[effect.axis]} over {effect.base}" if effect.axis != "workload" else "padding in numbers over SAME"
            factor = units.ratio_interval(row["factor"], row["factor_low"], row["factor_high"])
            lines.append(f"| {cell} | {along} | {factor} | {row['difference']} | {row['process_pairs']} | {effect.known} |")
    return lines
