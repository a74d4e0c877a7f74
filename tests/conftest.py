"""For every test: a lock of its own session, so that neither a run on this host nor another session of tests is in the way."""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.execution import host


def pytest_collection() -> None:
    """No collection of garbage looks through what is imported while tests are collected: all of it stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on garbage is collected, which does not look through what `quick_collections` sets aside."""
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def own_lock() -> Iterator[None]:
    """Each worker of pytest-xdist is a session; the commands that a test starts inherit it."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)  # no session that a test starts is a worker
        patch.setenv(host.VARIABLE, os.fspath(Path(folder) / "convbench.lock"))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_work_for_nothing() -> Iterator[None]:
    """Two things that frameworks do not do in any test: each would take seconds of a process, and changes no result.

    Threads of OpenMP would keep a core busy while they wait, which other processes need. And inductor would compile a program
    for each instruction set of the processor, to see whether g++ knows it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "passive")
        patch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "1")
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> None:
    """The engine collects garbage before each cell, for half a second if it looks through all that a session has imported."""
    gc.collect()
    gc.freeze()
