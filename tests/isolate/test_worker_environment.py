"""What a worker sets before its framework is imported, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.axes import Device
from harness.isolate import launcher, process
from harness.isolate.wire import Hello, Setup
from tests.isolate.conftest import TINY

LOADED = """
import os, sys
from harness.axes import Device
from harness.backends import registry
from harness.isolate import worker
from harness.backends.numpy import NumpyBackend

class Loaded(NumpyBackend):
    def __init__(self, device, threads):
        print(os.environ.get("CUDA_DEVICE_ORDER", "not set"))

registry.resolve = lambda target: Loaded
worker.load("x:Y", Device(*eval(sys.argv[1])), sorted(os.sched_getaffinity(0)), probe=eval(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("device", "probe", "set_by_user", "expected"),
    [
        (("gpu", 0), False, None, "PCI_BUS_ID"), (("cpu",), True, None, "PCI_BUS_ID"), (("cpu",), False, None, "not set"),
        (("gpu", 0), False, "FASTEST_FIRST", "FASTEST_FIRST"), (("cpu",), True, "FASTEST_FIRST", "FASTEST_FIRST"),
    ],
)  # fmt: skip
def test_cuda_counts_as_nvml_does_unless_the_user_has_set_it(
    device: tuple[str, ...], probe: bool, set_by_user: str | None, expected: str
) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "CUDA_DEVICE_ORDER"}
    environ |= {"CUDA_DEVICE_ORDER": set_by_user} if set_by_user else {}
    command = [sys.executable, "-c", LOADED, repr(device), repr(probe)]
    assert subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip() == expected


TUNED = """
import os, sys
from harness.axes import Device
from harness.backends import registry
from harness.isolate import worker
from harness.backends.numpy import NumpyBackend

class Loaded(NumpyBackend):
    switches = frozenset({"ynn_off"})

    @staticmethod
    def autotuning(choice):
        return {"XLA_FLAGS": f"level of {choice}"}

    @staticmethod
    def switching(choice):
        return {"XLA_FLAGS": f"flag of {choice}"}

    def __init__(self, device, threads):
        print(os.environ.get("XLA_FLAGS"))
        super().__init__(device, threads)

registry.resolve = lambda target: Loaded
options = dict([sys.argv[1].split(":")] if sys.argv[1] else [])
worker.load("x:Y", Device("gpu"), sorted(os.sched_getaffinity(0)), options=options)
from harness.measure import environment
told = environment.describe("numpy", ("numpy",)).environ
print(told.get("CONVBENCH_AUTOTUNE"), told.get("CONVBENCH_SWITCH"))
"""


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("", ["None", "None None"]),
        ("autotune:on", ["level of on", "on None"]),
        ("autotune:off", ["level of off", "off None"]),
        ("switch:ynn_off", ["flag of ynn_off", "None ynn_off"]),
    ],
)
def test_what_a_process_is_begun_with_is_settled_before_the_framework_is_there_and_said(
    choice: str, expected: list[str]
) -> None:
    """By the backend's own variables, and by one that its environment is told apart by, whatever was set outside."""
    environ = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {
        "CONVBENCH_AUTOTUNE": "on",
        "CONVBENCH_SWITCH": "isa_avx2",
    }
    found = subprocess.run([sys.executable, "-c", TUNED, choice], env=environ, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == expected


def test_a_worker_is_set_to_what_its_first_message_says(tmp_path: Path) -> None:
    cores = tuple(launcher.physical_cores_first()[:1])
    environments = []
    for options in ({}, {"autotune": "on"}, {"switch": "isa_avx2"}):
        setup = Setup(
            "tests.isolate.backends:Plain", "plain", Device("gpu"), cores, TINY, 1, "run", options=options
        )  # fmt: skip
        worker = process.Worker(setup, tmp_path / "worker.log")
        hello = worker.hello()
        worker.stop()
        assert isinstance(hello, Hello)
        environments.append(hello.environment)
    told = [[found.environ.get(f"CONVBENCH_{name}") for name in ("AUTOTUNE", "SWITCH")] for found in environments]
    assert told == [[None, None], ["on", None], [None, "isa_avx2"]]
    assert len({found.id for found in environments}) == 3
