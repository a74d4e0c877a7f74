"""Switches of a process, with the real frameworks: what they were set to is read back, and what a framework lacks it says."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from harness.axes import Direction, Layout, Mode, Switch
from harness.backends import registry
from harness.isolate.launcher import Launcher
from harness.plan import Plan, Step
from harness.record import Environment, Record, Status
from harness.spec import Cell, ConvSpec
from tests.backends.test_contract import BUDGET

SPEC = ConvSpec.parse("n1 c16 k16 12x12 f3x3 p1x1")
Measured = dict[Switch, tuple[Record, Environment | None]]
MODES = {"torch": Mode.EAGER, "tensorflow": Mode.EAGER, "jax": Mode.COMPILED, "numpy": Mode.EAGER}


def measured(backend: str, tmp_path: Path, choices: tuple[Switch, ...]) -> Measured:
    """What came of one convolution under each switch, and the environment that it was measured in."""
    if not registry.installed(backend):
        pytest.skip(f"{backend} is not installed")
    axes = {"mode": MODES[backend], "layout": Layout.CHANNELS_LAST}
    cells = [Cell("one", SPEC, Direction.FPROP, backend, switch=choice, **axes) for choice in choices]
    steps = tuple(Step(0, order, cell) for order, cell in enumerate(cells))
    answers = list(Launcher("switches", tmp_path).execute(Plan("switches", steps, 7, BUDGET)))
    found = {answer.id: answer for answer in answers if isinstance(answer, Environment)}
    records = [answer for answer in answers if isinstance(answer, Record)]
    return {record.cell.switch: (record, found.get(record.environment_id)) for record in records}


SWITCHED = [
    ("torch", Switch.ONEDNN_OFF, "settings", "mkldnn", "False"),
    ("torch", Switch.FLUSH_DENORMALS, "settings", "flush_denormal", "True"),
    ("torch", Switch.ISA_AVX2, "environ", "ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("tensorflow", Switch.ONEDNN_OFF, "settings", "TF_ENABLE_ONEDNN_OPTS", "0"),
    ("jax", Switch.YNN_OFF, "environ", "XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type="),
    ("jax", Switch.ISA_AVX512, "environ", "XLA_FLAGS", "--xla_cpu_max_isa=AVX512"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Measured]:
    """What `measured` finds of a backend under the default and all of its switches here, each in a process of its own."""

    @cache
    def of(backend: str) -> Measured:
        choices = tuple(choice for name, choice, *_ in SWITCHED if name == backend)
        return measured(backend, tmp_path_factory.mktemp("switches"), (Switch.DEFAULT, *choices))

    return of


@pytest.mark.parametrize(("backend", "choice", "where", "name", "value"), SWITCHED)
def test_a_switch_is_set_in_a_process_of_its_own_and_read_back(
    found: Callable[[str], Measured], backend: str, choice: Switch, where: str, name: str, value: str
):
    (plain, beside), (switched, environment) = found(backend)[Switch.DEFAULT], found(backend)[choice]
    assert (plain.status, switched.status) == (Status.OK, Status.OK), switched.reason
    assert beside is not None
    assert environment is not None
    assert environment.environ["CONVBENCH_SWITCH"] == choice
    assert beside.id != environment.id
    told = {"settings": (switched.settings, plain.settings), "environ": (environment.environ, beside.environ)}[where]
    assert told[0][name].endswith(value)
    assert told[1].get(name) != told[0][name]


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_a_switch_that_a_framework_has_not_is_unsupported(backend: str, tmp_path: Path):
    (record, _) = measured(backend, tmp_path, (Switch.FLUSH_DENORMALS,))[Switch.FLUSH_DENORMALS]
    assert record.status is Status.UNSUPPORTED
    assert f"{backend} has no switch flush_denormals here" in record.reason
