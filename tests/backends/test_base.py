"""The base classes of an adapter: their defaults, and that no adapter has a public name which they do not know."""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator

import pytest

from harness.axes import Api, Autotune, Bias, Device, Direction, Epilogue, Precision, Switch, Values
from harness.backends import base, registry
from harness.backends.numpy import NumpyBackend
from tests.builders import cell


def known(kind: type) -> set[str]:
    """The public names of a base class: what it defines and what it only declares."""
    return {name for name in {*vars(kind), *inspect.get_annotations(kind)} if not name.startswith("_")}


def given(kind: type) -> set[str]:
    """The public names that the methods of a class give to an instance."""
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind))))
    stored = (node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    return {node.attr for node in stored if ast.unparse(node.value) == "self" and not node.attr.startswith("_")}


def unknown(kind: type) -> set[str]:
    """The public names of an adapter's class and of its instances that its base does not know."""
    seam = base.Backend if issubclass(kind, base.Backend) else base.Prepared
    return {name for each in kind.mro() if issubclass(each, seam) for name in known(each) | given(each)} - known(seam)


def classes(name: str) -> Iterator[type]:
    """The classes in the file of a registered backend that take part in the seam."""
    module = importlib.import_module(registry.find(name).partition(":")[0])
    for _, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, base.Backend | base.Prepared) and kind.__module__ == module.__name__:
            yield kind


@pytest.mark.parametrize("name", registry.names())
def test_an_adapter_has_no_public_name_that_its_base_does_not_know(name: str):
    """A mistyped optional member would never be asked for, and its column would stay empty for ever."""
    assert {issubclass(kind, base.Backend) for kind in classes(name)} == {True, False}
    assert {kind.__name__: found for kind in classes(name) if (found := unknown(kind))} == {}


def test_such_a_name_is_found():
    class Mistyped(base.Prepared):
        def device_memoy(self) -> None: ...

    class Inheriting(Mistyped):
        def device_memory(self) -> None: ...

    class Padding(NumpyBackend):
        pads_before = True

    class Clocked(base.Prepared):
        def __init__(self) -> None:
            self.op, self.device_clok = "a call", "a clock"

    assert unknown(Mistyped) == unknown(Inheriting) == {"device_memoy"}
    assert unknown(Padding) == {"pads_before"}
    assert unknown(Clocked) == {"device_clok"}


def test_what_is_optional_has_a_default():
    """The least that an adapter can be: it answers everything that is asked of it."""

    class Least(base.Backend):
        def __init__(self) -> None: ...
        def devices(self): ...
        def supports(self, cell): ...
        def prepare(self, cell, operands): ...

    class Call(base.Prepared):
        def load(self, operands): ...
        def fetch(self, handle): ...
        def close(self): ...

    backend, call = Least(), Call()
    assert (backend.environ(None, 1), backend.threads_used(), backend.pads_beforehand(cell())) == ({}, None, False)
    assert (backend.board(), backend.build(), backend.op_reason(cell())) == ({}, None, "")
    assert backend.environ(None, 1, "/a/folder") == {}
    assert (backend.idle_bytes(), backend.autotunes, backend.autotuning(Autotune.ON)) == (0, False, {})
    assert (backend.biases, backend.epilogues) == (False, frozenset())
    assert [backend.process_wide(cell(precision=precision)) for precision in Precision] == list(Precision)
    call.settings = {"a switch": "on"}
    assert call.read_settings() == call.settings
    assert (call.composite, call.device_clock, call.evict, call.reset()) == (False, "", None, None)
    assert (call.device_memory(), call.device_time(1), call.flops(), call.compilations()) == (None, None, None, 0)
    assert call.on_own_stack(max, 2, 3) == 3
    with call.watched() as read:
        pass
    assert (backend.profile_environ(None, 1), call.sources, list(read()), call.compiled_flops()) == ({}, (), [], None)


@pytest.mark.fault(
    "an adapter of another package knows nothing of a bias or an epilogue",
    "cells that have one are unsupported, and no convolution without is measured in their place",
)
@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({}, None),
        (
            {"bias": Bias.CHANNEL, "direction": Direction.WGRAD},
            "older has no convolution with a bias here: only bias=none can be measured",
        ),
        ({"epilogue": Epilogue.RELU}, "older has no epilogue relu here, only: none"),
    ],
)
def test_an_adapter_that_does_not_say_that_it_has_a_bias_or_an_epilogue_has_none(axes, reason):
    class Older(NumpyBackend):
        name, biases, epilogues = "older", base.Backend.biases, base.Backend.epilogues

    backend = Older(None, 1)
    assert backend.supports(cell(**axes)) is None
    assert base.unsupported(backend, cell(**axes)) == reason
    assert base.unsupported(NumpyBackend(None, 1), cell(**axes)) is None


@pytest.mark.fault(
    "an adapter of another package takes every cell for one that it can measure",
    "what no framework can measure is unsupported, and no other call is measured in its place",
)
@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({"precision": Precision.TF32}, "TF32 is a format of NVIDIA GPUs"),
        ({"autotune": Autotune.ON}, "cuDNN and XLA try kernels on GPUs only"),
        ({"device": Device("gpu"), "switch": Switch.ONEDNN_OFF}, "onednn_off is a switch of libraries for the CPU"),
        ({"operands": Values.DENORMAL, "direction": Direction.BPROP}, "denormal operands are for the single passes"),
        ({"bias": Bias.CHANNEL, "direction": Direction.DGRAD}, "a bias changes nothing in the input gradient"),
        ({"epilogue": Epilogue.RELU, "direction": Direction.WGRAD}, "an epilogue belongs to the forward pass"),
        ({"epilogue": Epilogue.RELU, "api": Api.LAYER}, "api=layer can be measured with epilogue=none only"),
    ],
)
def test_what_no_framework_can_measure_is_refused_whatever_an_adapter_says(axes, reason):
    class Willing(NumpyBackend):
        autotunes, switches, biases = True, frozenset(Switch), True
        epilogues, apis = frozenset(Epilogue), frozenset(Api)

        def supports(self, cell):
            return None

    backend = Willing(None, 1)
    assert base.unsupported(backend, cell()) is None
    assert base.unsupported(backend, cell(**axes)).startswith(reason)


@pytest.mark.parametrize("missing", ["load", "fetch", "close"])
def test_what_is_not_must_be_there(missing: str):
    kind = type("Call", (base.Prepared,), {name: lambda *_: None for name in {"load", "fetch", "close"} - {missing}})
    with pytest.raises(TypeError, match=missing):
        kind()
