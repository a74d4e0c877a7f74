import sys
from types import SimpleNamespace
from typing import Any

import pytest

from harness import codec
from harness.backends import packages
from harness.errors import MachineError
from harness.measure import environment
from harness.measure.gpu import Gpu
from harness.record import Environment
from tests.nvml import Nvml, card


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


# The GPU that was measured on ---------------------------------------------------------------------------------------------


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        packages.metadata, "distributions", lambda: [SimpleNamespace(metadata={"Name": name}) for name in names]
    )
    monkeypatch.setattr(environment, "versions", lambda names: dict.fromkeys(names, "1"))


def test_cudas_libraries_are_told_of_a_gpu_and_make_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "nvidia-cudnn-cu13", "nvidia_cublas", "jax-cuda13-pjrt", "nvidia-ml-py", "torch")
    on_cpu, on_gpu = (environment.describe("some", ["torch"], board=board) for board in ({}, {"name": "Some GPU"}))
    assert list(on_cpu.packages) == ["torch", "numpy"]
    assert list(on_gpu.packages) == ["torch", "numpy", "jax-cuda13-pjrt", "nvidia-cublas", "nvidia-cudnn-cu13"]
    assert on_cpu.id != on_gpu.id
    assert on_cpu.machine_id == on_gpu.machine_id
    assert environment.describe("some", ["torch"], board={"name": "Some GPU", "power limit mW": "300000"}).id != on_gpu.id


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"name": "Some GPU", "uuid": "0a0b-cdef"}, ""), ({"name": "Some GPU"}, ""), ({}, ""),
        ({"name": "Some GPU", "uuid": "1a1b-cdef"}, "NVML tells of Some GPU GPU-0a0b-cdef, and the framework measures on Some"),
        ({"name": "Other GPU"}, "NVML tells of Some GPU GPU-0a0b-cdef, and the framework measures on Other GPU"),
    ],
)  # fmt: skip
def test_the_board_is_told_by_both_and_nvml_is_not_asked_about_another(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], reason: str
) -> None:
    """Its clock, its heat and its energy would be another board's."""
    answers = {
        "nvmlDeviceGetPowerManagementLimit": 300_000, "nvmlDeviceGetEccMode": [1, 1], "nvmlDeviceGetPersistenceMode": 1,
        "nvmlDeviceGetApplicationsClock": 1200,
    }  # fmt: skip
    library = Nvml(card(0, **answers))
    monkeypatch.setattr(library, "nvmlSystemGetCudaDriverVersion", lambda: 13010, raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    mine = Gpu(0, {})
    found = environment.board(mine, told)
    assert {f"{name} by framework": value for name, value in told.items()}.items() <= found.items()
    if reason:
        assert found["NVML"].startswith(reason)
        assert (mine.energy_mj().value, mine.read().clock_mhz, library.open) == (None, None, 0)
        return
    assert {name: found[name] for name in found if not name.endswith("by framework")} == {
        "name": "Some GPU", "uuid": "GPU-0a0b-cdef", "MIG": "0", "power limit mW": "300000", "ECC": "1",
        "persistence mode": "1",
        "application clock MHz": "1200", "default clock MHz": "1980", "CUDA of the driver": "13.1",
    }  # fmt: skip


def test_a_slice_may_have_a_uuid_and_a_longer_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(card(1), mig={"MIG-77": 0}))
    mine = Gpu(0, {"CUDA_VISIBLE_DEVICES": "MIG-77"})
    assert environment.board(mine, {"name": "Some GPU MIG 1g.5gb", "uuid": "77"})["MIG"] == "1"
