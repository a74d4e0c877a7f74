from typing import Any

import pytest

from harness import codec
from harness.errors import MachineError
from harness.measure import environment
from harness.record import Environment


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU and no variable that happens to be set here."""
    monkeypatch.setattr(environment, "_gpus", lambda: ("", ""))
    monkeypatch.setattr(environment.os, "environ", {"HOME": "/somewhere"})


def with_versions(monkeypatch: pytest.MonkeyPatch, **versions: str) -> Environment:
    found = lambda names: {name: versions[name] for name in names if name in versions}  # noqa: E731
    monkeypatch.setattr(environment, "versions", found)
    return environment.describe("some", ["framework", "helper"])


def test_the_id_changes_with_a_package_and_the_machine_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    old = with_versions(monkeypatch, framework="1.0", numpy="2.0")
    new = with_versions(monkeypatch, framework="1.1", numpy="2.0")
    assert old.packages == {"framework": "1.0", "numpy": "2.0"}  # helper is not there, and says nothing
    assert new.packages == {"framework": "1.1", "numpy": "2.0"}
    assert old.id != new.id
    assert old.machine_id == new.machine_id


def test_the_same_environment_has_the_same_id() -> None:
    assert environment.describe("some", ["numpy"]) == environment.describe("some", ["numpy"])


def test_the_id_covers_every_other_field(monkeypatch: pytest.MonkeyPatch) -> None:
    first = environment.describe("some", ["numpy"])
    assert environment.describe("other", ["numpy"]).id != first.id
    monkeypatch.setattr(environment.os, "environ", {"OMP_NUM_THREADS": "1"})
    assert environment.describe("some", ["numpy"]).id != first.id


def test_a_quota_is_told_and_makes_another_environment_of_the_same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for quota in (None, 1.5):
        monkeypatch.setattr(environment.machine, "cpu_quota", lambda quota=quota: quota)
        found.append(environment.describe("some", []))
    free, limited = found
    assert (free.cpu_quota, limited.cpu_quota) == (None, 1.5)
    assert free.id != limited.id
    assert free.machine_id == limited.machine_id


@pytest.mark.parametrize(
    ("part", "value"),
    [("processor", lambda: ("Other CPU", 64)), ("_gpus", lambda: ("1 x Some GPU", "1.0")), ("_memory_bytes", lambda: 2**45)],
)
def test_the_machine_changes_with_its_parts(monkeypatch: pytest.MonkeyPatch, part: str, value: Any) -> None:
    before = environment.describe("some", [])
    monkeypatch.setattr(environment, part, value)
    after = environment.describe("some", [])
    assert after.machine_id != before.machine_id
    assert after.id != before.id


def test_the_machine_stays_the_same_when_the_kernel_keeps_a_little_more_memory_or_the_driver_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "_memory_bytes", lambda: 64 * 2**30)
    before = environment.describe("some", [])
    monkeypatch.setattr(environment, "_memory_bytes", lambda: 64 * 2**30 - 300 * 2**20)
    monkeypatch.setattr(environment, "_gpus", lambda: ("", "570.1"))
    assert environment.describe("some", []).machine_id == before.machine_id


def test_only_variables_that_bear_on_speed_or_precision_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    telling = {"OMP_NUM_THREADS": "2", "TF_ENABLE_ONEDNN_OPTS": "1", "XLA_FLAGS": "--x", "NVIDIA_TF32_OVERRIDE": "0"}
    private = {"API_TOKEN": "secret", "HOME": "/home/me", "TF_VAR_password": "secret", "TF_TOKEN_example_org": "secret"}
    private |= {"TORCHINDUCTOR_CACHE_DIR": "/run/1", "JAX_COMPILATION_CACHE_DIR": "/run/1"}
    monkeypatch.setattr(environment.os, "environ", {**private, **telling})
    assert environment.describe("some", []).environ == telling


def test_what_each_adapter_sets_is_stored() -> None:
    from harness.axes import Device
    from harness.backends import registry

    for name in registry.names():
        kind = registry.resolve(registry.find(name))
        for device in (Device("cpu"), Device("gpu")):
            for variable in kind.environ(device, 2, "/a/folder"):
                assert variable.startswith(environment._PREFIXES), variable


def test_it_survives_the_journal() -> None:
    found = environment.describe("some", ["numpy"])
    assert codec.loads(Environment, codec.dumps(found)) == found


# The machine's name -------------------------------------------------------------------------------------------------------


@pytest.mark.fault("two equal hosts write into one store", "a name tells them apart, and old ids stay")
def test_a_name_tells_equal_hosts_apart_and_without_one_the_id_is_as_before() -> None:
    plain, first, second = (environment.describe("some", [], name) for name in ("", "alpha", "beta"))
    assert len({plain.machine_id, first.machine_id, second.machine_id}) == 3
    assert (plain.machine, first.machine) == ("", "alpha")
    assert first.hardware == f"alpha: {plain.hardware}"


def test_the_option_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.machine_name() == ""
    monkeypatch.setattr(environment.os, "environ", {environment.MACHINE: "of-variable.1"})
    assert environment.machine_name() == "of-variable.1"
    assert environment.machine_name("of_option") == "of_option"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", "\x1b[31mred", "a" * 65, "\u00e4", "a\n"])
def test_a_name_that_is_none_is_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match=r"^--machine: found ") as refused:
        environment.machine_name(name)
    assert str(refused.value).isprintable()
    monkeypatch.setattr(environment.os, "environ", {environment.MACHINE: name})
    if name:
        with pytest.raises(MachineError, match=rf"^{environment.MACHINE}: found "):
            environment.machine_name()


def test_nodes_and_what_cannot_be_seen_are_told_and_leave_the_machine_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.describe("some", [])
    monkeypatch.setattr(environment.machine, "node_lists", lambda: {"0": "0-15", "1": "16-31"})
    monkeypatch.setattr(environment.machine, "unseen", lambda: "/proc hides them")
    after = environment.describe("some", [])
    assert (after.nodes, after.unseen) == ({"0": "0-15", "1": "16-31"}, "/proc hides them")
    assert after.machine_id == before.machine_id
    assert codec.loads(Environment, codec.dumps(after)) == after


def test_an_environment_of_an_older_version_loads() -> None:
    data = codec.encode(environment.describe("some", []))
    for name in ("machine", "nodes", "unseen"):
        del data[name]
    found = codec.decode(Environment, data)
    assert (found.machine, found.nodes, found.unseen) == ("", {}, "")
