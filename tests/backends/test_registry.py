import sys
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

from harness.backends import packages, registry
from harness.backends.numpy import NumpyBackend
from harness.errors import BackendError


class Absent:
    """A backend of a framework that nobody has."""

    distributions: ClassVar[tuple[str, ...]] = ("no_such_framework",)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages that register backends: `late` twice, as a package does that is installed in two places."""
    points = [EntryPoint("late", f"{__name__}:Absent", registry.GROUP)] * 2
    points.append(EntryPoint("early", "harness.backends.numpy:NumpyBackend", registry.GROUP))
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: points if group == registry.GROUP else [])


def test_our_own_backends_are_registered():
    assert {"jax", "numpy", "tensorflow", "torch"} <= set(registry.names())


@pytest.mark.parametrize("name", ["jax", "numpy", "tensorflow", "torch"])
def test_the_adapter_of_a_name_says_the_same_name_and_needs_no_framework(name: str):
    before = name in sys.modules
    assert registry.resolve(registry.find(name)).name == name
    assert (name in sys.modules) == before


@pytest.mark.usefixtures("planted")
def test_names_are_sorted_and_stand_there_once():
    assert registry.names() == ("early", "late")


@pytest.mark.usefixtures("planted")
def test_a_name_leads_to_its_class():
    assert registry.find("early") == "harness.backends.numpy:NumpyBackend"
    assert registry.resolve("harness.backends.numpy:NumpyBackend") is NumpyBackend


@pytest.mark.usefixtures("planted")
def test_an_unknown_name_is_told_with_those_that_are_known():
    with pytest.raises(BackendError, match=r"^backend 'torhc' is not registered; found: early, late$"):
        registry.find("torhc")


@pytest.mark.usefixtures("planted")
def test_a_backend_is_installed_where_its_package_is():
    assert registry.installed("early")
    assert not registry.installed("late")


def test_what_is_missing_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    assert registry.missing("numpy", registry.find("numpy")) is None
    assert registry.missing("late", f"{__name__}:Absent") == "late is not installed: pip install no_such_framework"
    monkeypatch.setattr(packages, "present", lambda name: False)
    assert registry.missing("torch", registry.find("torch")) == "torch is not installed: pip install 'convbench[torch]'"
