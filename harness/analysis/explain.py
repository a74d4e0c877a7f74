"""Why a call takes as long as it does: rules over what ran in it, each with a threshold and an example that it was made from.

A rule says what is seen, and names a remedy only where a changed setting was seen to remove it; where none is known, it gives
no advice. Of a call whose profile is disturbed, incomplete or broken no rule speaks. docs/profiling.md has every example.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import pandas as pd

from harness import units
from harness.analysis.called import CONVOLVING, Call, calls, kernel_name
from harness.analysis.rows import dicts_of, framed
from harness.axes import CPU, Direction, Layout, Precision
from harness.columns import EXPLANATION_COLUMNS, of_convolutions
from harness.profile import Kind, Level, Role

LAYOUT_SHARE = 0.10  # of the call, in reorders of activations
FILTER_SHARE = 0.10  # of the call, in reorders of the filter or of its gradient
DISPATCH_SHARE = 0.50  # of the call, outside of what computes and moves ...
DISPATCH_BELOW_NS = 1e6  # ... in a call that takes less than this
MORE_OPERATORS = 2  # operators that give no part of the result
REFERENCE_SHARE = 0.10  # of the call, in reference code
OWN_OPERATOR_SHARE = 0.50  # of the call, in an operator that computes by itself though a library is there
FASTER_BY = 1.25  # a call is called slow only beside another whose time is that much less: as far as a profile is sure of it
CALLS_PER_GROUP = 0.5  # convolutions or matrix products in a pass, per group of the convolution
DENSE_RATIO = 2.0  # FLOP of the compiled program over those of the convolution
LEAST_DILATION = 8  # product of the steps by which a generic convolution's input is spread
CONVERT_SHARE = 0.05  # of the call, in conversions between formats of numbers
BUSY_SHARE = 0.60  # of the threads, that are busy ...
IDLE_FROM_NS = 1e6  # ... in a call that takes at least this
LIBRARY_FACTOR = 2.0  # time over that of another library's kernel ...
CONVOLUTION_SHARE = 0.50  # ... where at least this share of both calls is in the convolution

FEW_IMAGES = 8  # a batch of fewer has a remedy in a larger one

REORDERING = frozenset({Kind.REORDER, Kind.TRANSPOSE})
LIBRARY = "oneDNN"
_HIDDEN_LAYOUT = "ncsp_convolution"  # in the name of a kernel of oneDNN that reorders inside of itself
_ASIDE = frozenset({"Shape", "_EagerConst"})  # operators that only tell a shape or make a constant
_REFERENCE = re.compile(r"(?:^|\+)ref:")  # alone, or in what another one wraps: conv:any+ref:any
_DILATED = re.compile(r"lhs_dilate=(\d+(?:x\d+)*)")
_FP32 = re.compile(r"(?<![a-z0-9])f32")
_HALVES = frozenset({Precision.BF16, Precision.FP16})
_EXPLICIT = re.compile(r"^(?:Conv\dD|DepthwiseConv2d)")  # operators whose padding has a name, or is given number by number
_YNN = "ynn"
_BY_XLA = frozenset({"", "Eigen"})  # who computes a convolution that XLA gave to no library


@dataclass(frozen=True)
class Explanation:
    """What a rule says of a call: a sentence with the share of the call or the factor that it is about.

    `remedy` is a setting with which it was small or gone in an example; empty where none is known.
    """

    sentence: str
    rule_share: float = math.nan
    rule_factor: float = math.nan
    remedy: str = ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


# The rules ---------------------------------------------------------------------------------------------------------------


def layout(call: Call) -> Explanation | None:
    """Activations are reordered.

    Seen: 54 to 57 % of torch's depthwise convolutions in NCHW, none in NHWC. A kernel may do it inside of itself, too: then how
    long it takes is not known.
    """
    last = Layout.CHANNELS_LAST.text(call.spec.ndim)
    remedy = "" if call.of.layout == last else f"layout {last}"
    if (share := call.share(REORDERING, Role.ACTIVATION)) >= LAYOUT_SHARE:
        told = f"{call.who} moves activations into another order of their dimensions: {_percent(share)} of the call."
        return Explanation(told, rule_share=share, remedy=remedy)
    for each in call.kernels:
        if _HIDDEN_LAYOUT in each.implementation and each.share >= LAYOUT_SHARE:
            told = f"{call.who} runs {each.implementation}, which reorders activations inside; how long that takes is not told."
            return Explanation(told, remedy=remedy)
    return None


def repacked_filter(call: Call) -> Explanation | None:
    """The filter, or its gradient, is repacked at each call.

    Seen: 39 to 56 % of the dgrad of rn50_res5_3x3 in three frameworks at batch 1, 11 to 21 % at batch 8, 4 to 6 % at batch 32.
    """
    share = call.share(REORDERING, Role.FILTER)
    if share < FILTER_SHARE:
        return None
    what = "the gradient of the filter" if call.of.direction == str(Direction.WGRAD) else "the filter"
    told = f"{call.who} repacks {what} in each call: {_percent(share)} of it."
    remedy = "a batch of 32" if call.spec.n < FEW_IMAGES else ""
    return Explanation(told, rule_share=share, remedy=remedy)


def dispatch(call: Call) -> Explanation | None:
    """Most of a short call is outside of the kernels.

    Seen: the wgrad of `example` takes 195 us in TensorFlow and 108 us in torch, of which the same primitive has 61 us.
    """
    share = call.of.framework_share + call.of.outside_ns / call.of.watched_ns
    if not (share >= DISPATCH_SHARE and call.ns < DISPATCH_BELOW_NS):
        return None
    time = units.duration(call.ns, 3)
    told = f"{call.who} spends {_percent(share)} of its {time} in the framework and in waiting, not in what computes or moves."
    return Explanation(told, rule_share=share, remedy="a batch of 16" if call.spec.n < FEW_IMAGES else "")


def more_operators(call: Call) -> Explanation | None:
    """The framework runs operators that were not asked for.

    Seen: `tf.nn.depthwise_conv2d` runs Shape, _EagerConst and DepthwiseConv2dNative, 244 us; the last alone takes 77 us.
    """
    aside = [each for each in call.kernels if each.level == Level.OPERATOR and each.name in _ASIDE]
    names = sorted({each.name for each in aside})
    if len(names) < MORE_OPERATORS:
        return None
    told = f"{call.who} runs {' and '.join(names)} beside the convolution, which give no part of the result."
    share = sum(each.share for each in aside)
    return Explanation(told, rule_share=share, remedy="the raw operator alone")


def reference_code(call: Call) -> Explanation | None:
    """The library runs its reference code.

    Seen: the wgrad of fp16 in torch, `ref:any` for 3.6 s; 0.4 to 0.8 ms in bf16 by `brgconv_bwd_w` with AMX. And the dgrad of a
    volume in bf16 whose padding is wider than its filter, 37 ms in NDHWC; 1.05 ms in NCDHW by `x64:gemm:jit`.
    """
    found = [each for each in call.kernels if _REFERENCE.search(each.implementation)]
    share = sum(each.share for each in found)
    if share < REFERENCE_SHARE:
        return None
    told = f"{call.who} runs the library's reference code, {found[0].implementation}: {_percent(share)} of the call."
    remedy = str(Precision.BF16) if call.of.precision == str(Precision.FP16) else ""
    if not remedy and call.spec.ndim == 3 and call.of.layout == Layout.CHANNELS_LAST.text(3):
        remedy = f"layout {Layout.CHANNELS_FIRST.text(3)}"
    return Explanation(told, rule_share=share, remedy=remedy)


def own_operator(call: Call) -> Explanation | None:
    """The framework computes in its own operator, though a library is there. It is called slow only beside a faster one.

    Seen: TensorFlow with explicit padding, 5.1 ms by Eigen in the wgrad of rn50_conv1, 2.5 ms with SAME by oneDNN; torch, one
    image by 1x1 on one thread, by `_slow_conv2d`, on two by `brgconv_1x1`. And 10.9 ms in Eigen for the dgrad of
    rn50_conv1, which takes 17.7 ms in oneDNN.
    """
    own = [each for each in call.kernels if each.level == Level.OPERATOR and each.kind == Kind.CONVOLUTION]
    share = sum(each.share for each in own)
    if LIBRARY not in call.of.sources or call.in_library or not own or share < OWN_OPERATOR_SHARE:
        return None
    main = max(own, key=lambda each: each.share)
    by = f" by {main.implementation}" if main.implementation not in main.name else ""
    told = f"{call.who} computes in its own operator {main.name}{by}, not in {LIBRARY}: {_percent(share)} of the call"
    factor = math.nan
    if faster := call.fastest_beside(lambda other: other.in_library, FASTER_BY):
        factor = call.ns / faster.ns
        beside = f" with {kernel_name(faster.main)}" if faster.main else ""
        told += f". It takes {units.ratio(factor)} the time of {faster.who}{beside}"
    return Explanation(f"{told}.", rule_share=share, rule_factor=factor, remedy=_own_remedy(call, main.name))


def _own_remedy(call: Call, name: str) -> str:
    """The setting that gave the library its convolution back, for the operators with which that was seen."""
    spec = call.spec
    explicit = any(map(any, spec.padding)) and spec.padding != spec.same_padding()
    if _EXPLICIT.match(name) and explicit:
        return "padding SAME"
    alone = spec.n == 1 and set(spec.kernel) == {1} and (call.of.threads or call.cores) == 1
    if "_slow_conv2d" in name and alone and call.of.precision == str(Precision.FP32):
        return "2 threads"
    return ""


def group_by_group(call: Call) -> Explanation | None:
    """The groups of a convolution are computed one by one.

    Seen: fp64 in torch, 32 groups by 32 `_slow_conv2d_forward`, in fp32 by one primitive; 512 depthwise channels by
    TensorFlow's XLA in 512 matrix products. Of one gradient by another `api` than the default it does not speak: the forward
    pass and the other gradient may be in the call, as its framework and mode have it.
    """
    groups, direction = call.spec.groups, Direction(call.of.direction)
    if call.of.api and direction in (Direction.DGRAD, Direction.WGRAD):
        return None
    products = [each for each in call.kernels if each.kind in CONVOLVING]
    # An operator and the primitives inside of it are the same work, so those of one level are counted.
    by_level = [sum(each.calls_per_launch for each in products if each.level == level) for level in Level]
    calls = max(by_level) / direction.passes
    if groups == 1 or calls < max(2.0, CALLS_PER_GROUP * groups):
        return None
    told = f"{call.who} runs {calls:.0f} convolutions or matrix products for the {groups} groups of the convolution."
    remedy = str(Precision.FP32) if call.of.precision == str(Precision.FP64) else ""
    return Explanation(told, rule_share=call.share(CONVOLVING), rule_factor=calls, remedy=remedy)


def computed_as_dense(call: Call) -> Explanation | None:
    """The compiled program has far more FLOP than the convolution.

    Seen: the wgrad of depthwise convolutions in XLA, 64 times for 64 channels, 128 times for 128; one group takes as long.
    """
    ratio, groups = call.of.flop_ratio, call.spec.groups
    if groups == 1 or not ratio >= DENSE_RATIO:
        return None
    told = f"{call.who} runs a program of {units.ratio(ratio)} the FLOP of the convolution, which has {groups} groups."
    return Explanation(told, rule_factor=ratio)


def generic_convolution(call: Call) -> Explanation | None:
    """XLA runs its own generic convolution over an input that is spread far.

    Seen: the wgrad of 32 groups in JAX, 483 ms with `lhs_dilate=1x1x32`; with one group 2.2 ms, by a kernel of YNN.
    """
    own = [each for each in call.kernels if each.level == Level.COMPILED and each.kind == Kind.CONVOLUTION]
    spread = max((_dilation(each.detail) for each in own), default=1)
    if spread < LEAST_DILATION or any(each.implementation not in _BY_XLA for each in own):
        return None
    share = sum(each.share for each in own)
    told = f"{call.who} runs XLA's generic convolution over an input spread {spread} times: {_percent(share)} of the call."
    remedy = "groups = 1 (more FLOP)" if call.spec.groups > 1 else ""
    return Explanation(told, rule_share=share, rule_factor=float(spread), remedy=remedy)


def _dilation(detail: str) -> int:
    found = _DILATED.search(detail)
    return math.prod(map(int, found[1].split("x"))) if found else 1


def computed_in_fp32(call: Call) -> Explanation | None:
    """Numbers of two bytes are converted, and the convolution is of fp32.

    Seen: a filter of 1x1 in bf16 by XLA, 20 to 22 % in conversions, and 1.3 times the time of fp32. No setting is known that
    changes it.
    """
    share = call.share({Kind.CONVERT})
    in_fp32 = any(each.kind in CONVOLVING and _FP32.search(each.detail) for each in call.kernels)
    if call.of.precision not in _HALVES or not in_fp32 or share < CONVERT_SHARE:
        return None
    told = f"{call.who} converts {call.of.precision} and computes in fp32: the conversions are {_percent(share)} of the call."
    return Explanation(told, rule_share=share)


def idle_threads(call: Call) -> Explanation | None:
    """Fewer threads are busy than there are. Why is not known.

    Seen: passes over 1 ms on 2 cores, of which JAX uses 1.01, TensorFlow 1.67 and torch 1.99; waiting in a loop counts as use.
    """
    threads = call.of.threads or call.cores or 1
    share = call.of.effective_cores / threads
    if threads == 1 or call.of.device != str(CPU) or not (share <= BUSY_SHARE and call.ns >= IDLE_FROM_NS):
        return None
    told = f"{call.who} keeps {call.of.effective_cores:.2f} of {threads} threads busy."
    return Explanation(told, rule_factor=share)


def other_library(call: Call) -> Explanation | None:
    """The kernel of one library takes far longer than that of another.

    Seen: the wgrad of rn50_res4_1x1 at batch 8 in JAX, 22.3 ms by YNN, and 9.5 ms with the flag that has XLA compute it itself.
    With that a filter of 3x3 takes as long as before, and a depthwise one 4.6 times as long.
    """
    main = call.main
    if not main or not _in_its_library(call):
        return None
    other = call.fastest_beside(_in_its_library, LIBRARY_FACTOR)
    if not other or not other.main or other.main.implementation == main.implementation:
        return None
    factor, share = call.ns / other.ns, call.share(CONVOLVING)
    told = (
        f"{call.who} spends {_percent(share)} in {main.implementation}, and takes {units.ratio(factor)} the time of "
        f"{other.who} with {other.main.implementation}."
    )
    if call.of.device != str(CPU):
        told += " Whether kernels were tried before one was chosen, the setting “autotuned” of each says."
    product = set(call.spec.kernel) == {1} and call.of.direction == str(Direction.WGRAD)
    remedy = "switch ynn_off" if _YNN in main.implementation and product else ""
    return Explanation(told, rule_share=share, rule_factor=factor, remedy=remedy)


def _in_its_library(call: Call) -> bool:
    """Whether most of a call is a convolution by a kernel that is named, and is no operator of the framework."""
    main = call.main
    return bool(main and main.implementation and main.level > Level.OPERATOR) and call.share(CONVOLVING) >= CONVOLUTION_SHARE


RULES: tuple[Callable[[Call], Explanation | None], ...] = (
    layout, repacked_filter, dispatch, more_operators, reference_code, own_operator, group_by_group, computed_as_dense,
    generic_convolution, computed_in_fp32, idle_threads, other_library,
)  # fmt: skip


# Frames ------------------------------------------------------------------------------------------------------------------


def explanations(kernels: pd.DataFrame, profiles: pd.DataFrame, cores: Mapping[str, int]) -> pd.DataFrame:
    """What the rules say of the calls of these frames, KERNEL_COLUMNS and PROFILE_COLUMNS: a row per cell and rule that speaks.

    `cores` has how many a process of each backend may use. The result has EXPLANATION_COLUMNS, in the order of the profiles.
    """
    found = profiles[of_convolutions(profiles)]
    rows = []
    for axes, call in zip(dicts_of(found), calls(kernels, found, cores), strict=True):
        known = {name: axes[name] for name in EXPLANATION_COLUMNS if name in axes}
        known["kernel"] = kernel_name(call.main) if call.main else ""
        rows += [{**known, "rule": rule, **asdict(told)} for rule, told in explained(call)]
    return framed(rows, EXPLANATION_COLUMNS)


def explained(call: Call) -> list[tuple[str, Explanation]]:
    """What each rule says that has something to say of a call, by the rule's name."""
    return [(name_of(rule), told) for rule in RULES if (told := rule(call))] if call.sure else []


def name_of(rule: Callable[[Call], Explanation | None]) -> str:
    """The name of a rule, as frames have it: `repacked filter`."""
    return rule.__name__.replace("_", " ")
