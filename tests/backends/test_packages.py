from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from harness.backends import packages


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which packages are found."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def distribution(site: Path, name: str, version: str, *modules: str) -> Path:
    """Install a distribution that brings these modules."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text("\n".join(modules))
    for module in modules:
        (site / f"{module}.py").write_text("raise AssertionError('must not be imported')")
    return info


def imported(monkeypatch: pytest.MonkeyPatch, name: str, **said: object) -> None:
    """Have a module of that name imported already."""
    module = ModuleType(name)
    vars(module).update(said)
    monkeypatch.setitem(packages.sys.modules, name, module)


def test_what_is_not_there_has_no_version() -> None:
    assert packages.versions(["no_such_package_anywhere", "no-such.one"]) == {}
    assert not packages.present("no_such_package_anywhere")
    assert not packages.present("no.such.one")


def test_a_distribution_tells_its_version_without_being_imported(site: Path) -> None:
    distribution(site, "planted", "1.2", "planted")
    assert packages.present("planted")
    assert packages.versions(["planted"]) == {"planted": "1.2"}


def test_what_was_imported_tells_its_own_version_whatever_the_distribution_says(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(site, "planted-thing", "1.2", "planted_thing")
    imported(monkeypatch, "planted_thing", __version__="1.2+cu130")
    assert packages.versions(["planted-thing"]) == {"planted-thing": "1.2+cu130"}


@pytest.mark.fault("a framework is a source tree", "the version of the imported module stands in the row")
def test_a_source_tree_tells_the_version_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    imported(monkeypatch, "planted", __version__="2.0.dev\n1")
    assert packages.versions(["planted"]) == {"planted": "2.0.dev 1"}


def test_a_module_that_tells_no_version_is_there_all_the_same(site: Path) -> None:
    (site / "planted.py").write_text("")
    assert packages.present("planted")
    assert packages.versions(["planted"]) == {"planted": "unknown"}


@pytest.mark.fault("a framework comes from tensorflow-cpu or a nightly build", "its version stands in the row")
def test_a_module_that_another_distribution_brings_has_its_version(site: Path) -> None:
    distribution(site, "planted-cpu", "3.1", "planted")
    assert packages.present("planted")
    assert packages.versions(["planted"]) == {"planted": "3.1"}


def test_a_distribution_is_there_under_its_own_name_too(site: Path) -> None:
    distribution(site, "planted.cpu", "3.1", "quite_another")
    assert packages.present("planted.cpu")


@pytest.mark.fault("the metadata of an installation are damaged", 'its version is "unknown", and nothing ends')
def test_a_damaged_installation_is_there_in_an_unknown_version(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (distribution(site, "planted", "1.2", "planted") / "METADATA").unlink()
    assert packages.versions(["planted"]) == {"planted": "unknown"}

    def raises(name: str) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(metadata, "version", raises)
    assert packages.versions(["planted"]) == {"planted": "unknown"}
