"""What a worker sets before its framework is imported, in a process of its own."""

import os
import subprocess
import sys

import pytest

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
