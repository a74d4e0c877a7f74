"""What a processor is called, by cpuinfo files of many kinds."""

import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.measure import environment
from harness.measure.processors import processor
from tests import machines
from tests.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("made", "name", "cores"),
    [
        (machines.graviton, "Arm Neoverse-N1 r3 (Amazon EC2)", 64),
        (machines.grace, "Arm Neoverse-V2 r0 (NVIDIA)", 72),
        (machines.xeon, "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz", 32),
        (machines.epyc, "AMD EPYC 7763 64-Core Processor", 64),
    ],
)
def test_real_machines(tree: Tree, made: Callable[[Tree], None], name: str, cores: int) -> None:
    made(tree)
    assert processor(tree.root) == (name, cores)


@pytest.mark.fault("a processor has no model name", "different ones never share a name")
def test_processors_of_other_parts_makers_variants_and_systems_never_share_a_name(tree: Tree) -> None:
    kinds = [
        {}, {"part": 0xD40}, {"part": 0xD49}, {"implementer": 0xC0, "part": 0xAC3}, {"implementer": 0x6D, "part": 0xD49},
        {"implementer": 0x77}, {"part": 0x123}, {"part": 0x124}, {"variant": 4}, {"implementer": 0x61, "part": 0x22},
    ]  # fmt: skip
    names = []
    for kind in kinds:
        machines.arm(tree, 4, **kind)
        names.append(processor(tree.root)[0])
    assert len(set(names)) == len(kinds)
    assert {"Arm Neoverse-V1 r3", "Ampere Ampere-1 r3", "implementer 0x77 part 0xd0c r3", "Arm part 0x123 r3"} <= set(names)
    machines.arm(tree, 4)  # the cores of Ampere's Altra are those of a Graviton 2
    for maker in ("Amazon EC2", "HPE"):
        tree.say("sys/class/dmi/id/sys_vendor", maker)
        names.append(processor(tree.root)[0])
    assert len(set(names)) == len(kinds) + 2


def test_cores_of_two_sizes_are_both_named_whichever_comes_first(tree: Tree) -> None:
    little, big = (0x41, 0xD05, 2), (0x41, 0xD0B, 4)
    names = []
    for order in ([little] * 4 + [big] * 2, [big] * 2 + [little] * 4):
        tree.say("proc/cpuinfo", "\n".join(machines.arm_cpu(cpu, *kind) for cpu, kind in enumerate(order)))
        names.append(processor(tree.root)[0])
    assert names == ["Arm Cortex-A55 r2 + Arm Cortex-A76 r4"] * 2
    tree.say("sys/devices/soc0/machine", "Radxa ROCK 5B")
    assert processor(tree.root)[0].endswith(" (Radxa ROCK 5B)")


def test_what_32_bit_arm_calls_a_model_is_the_architecture(tree: Tree) -> None:
    block = machines.arm_cpu(0, 0x41, 0xD08, 0).replace("BogoMIPS", "model name\t: ARMv7 Processor rev 3 (v7l)\nBogoMIPS")
    tree.say("proc/cpuinfo", f"{block}\nHardware\t: BCM2711\nRevision\t: c03112\nModel\t\t: Raspberry Pi 4 Model B Rev 1.2")
    assert processor(tree.root)[0] == "Arm Cortex-A72 r0"


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc\nmmu\t\t: sv39\nuarch\t\t: sifive,u74-mc\nmvendorid\t: 0x489\n",
            "sifive,u74-mc 0x489 rv64imafdc",
        ),
        ("processor\t: 0\nhart\t: 0\nisa\t: rv64imafdcv\nmvendorid\t: 0x710\nmarchid\t: 0x8\n", "RISC-V 0x710 0x8 rv64imafdcv"),
        (
            "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 3800.000000MHz\nrevision\t: 2.2 (pvr 004e 1202)\n\n"
            "timebase\t: 512000000\nplatform\t: PowerNV\nmodel\t\t: 8335-GTH\nmachine\t\t: PowerNV 8335-GTH\n",
            "POWER9, altivec supported",
        ),
        (
            "vendor_id       : IBM/S390\n# processors    : 2\nbogomips per cpu: 3033.00\n"
            "processor 0: version = 00,  identification = 0C1234,  machine = 3906\n"
            "processor 1: version = 00,  identification = 0C1234,  machine = 3906\n\ncpu number      : 0\n",
            "IBM/S390 3906",
        ),
        ("processor\t\t: 0\nCPU Family\t\t: Loongson-64bit\nModel Name\t\t: Loongson-3A5000\n", "Loongson-3A5000"),
        (
            "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t: 143\nmodel name\t: unknown\nstepping\t: 8\n",
            "GenuineIntel cpu family 6 model 143 stepping 8",
        ),
    ],
    ids=["risc-v", "risc-v without a name", "power", "s390", "loongarch", "gvisor"],
)  # fmt: skip
def test_other_architectures(tree: Tree, cpuinfo: str, name: str) -> None:
    tree.say("proc/cpuinfo", cpuinfo)
    assert processor(tree.root)[0] == name


def test_cores_are_physical_cores_of_every_socket(tree: Tree) -> None:
    machines.x86(tree, "Some CPU @ 2.00GHz", {0: (0, 0), 1: (0, 0), 2: (1, 0)})
    assert processor(tree.root) == ("Some CPU @ 2.00GHz", 2)


@pytest.mark.parametrize("text", ["", "\n\n", "nonsense", "model name\t:\n", "CPU part\t: 0xd0c\n"])
def test_a_kernel_that_names_nothing_gives_what_python_knows(tree: Tree, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "mips")
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    tree.say("proc/cpuinfo", text)
    assert processor(tree.root) == processor(tree.root / "nowhere") == ("mips", 12)


@pytest.mark.fault("a processor has a model name", "its machine keeps its id")
def test_a_processor_that_has_a_name_keeps_the_id_that_its_machine_had(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    machines.xeon(tree)
    monkeypatch.setattr(environment, "processor", lambda: processor(tree.root))
    monkeypatch.setattr(environment, "_gpus", lambda: ("2 x NVIDIA H200", "570.1"))
    monkeypatch.setattr(environment, "_memory_bytes", lambda: 64 * 2**30)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert environment.describe("some", []).machine_id == "7285cd44be3c"  # by the code before machines had names
