"""The name of the processor as /proc and /sys tell it: that of its model, or what identifies a processor without such a name.

Two different processors must not get the same name, since the figures of machines with the same name become one series.
"""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from harness.measure import machine

ROOT = machine.ROOT
_ARM = 0x41
# Sources: arch/arm64/include/asm/cputype.h of Linux, sys-utils/lscpu-arm.c of util-linux.
_IMPLEMENTERS = {
    _ARM: "Arm", 0x42: "Broadcom", 0x43: "Cavium", 0x46: "Fujitsu", 0x48: "HiSilicon", 0x4E: "NVIDIA", 0x50: "APM",
    0x51: "Qualcomm", 0x53: "Samsung", 0x56: "Marvell", 0x61: "Apple", 0x69: "Intel", 0x6D: "Microsoft", 0x70: "Phytium",
    0xC0: "Ampere",
}  # fmt: skip
_PARTS = {
    (_ARM, 0xC07): "Cortex-A7", (_ARM, 0xC09): "Cortex-A9", (_ARM, 0xC0F): "Cortex-A15", (_ARM, 0xD03): "Cortex-A53",
    (_ARM, 0xD04): "Cortex-A35", (_ARM, 0xD05): "Cortex-A55", (_ARM, 0xD07): "Cortex-A57", (_ARM, 0xD08): "Cortex-A72",
    (_ARM, 0xD09): "Cortex-A73", (_ARM, 0xD0A): "Cortex-A75", (_ARM, 0xD0B): "Cortex-A76", (_ARM, 0xD0C): "Neoverse-N1",
    (_ARM, 0xD0D): "Cortex-A77", (_ARM, 0xD0E): "Cortex-A76AE", (_ARM, 0xD40): "Neoverse-V1", (_ARM, 0xD41): "Cortex-A78",
    (_ARM, 0xD42): "Cortex-A78AE", (_ARM, 0xD44): "Cortex-X1", (_ARM, 0xD46): "Cortex-A510", (_ARM, 0xD47): "Cortex-A710",
    (_ARM, 0xD48): "Cortex-X2", (_ARM, 0xD49): "Neoverse-N2", (_ARM, 0xD4A): "Neoverse-E1", (_ARM, 0xD4B): "Cortex-A78C",
    (_ARM, 0xD4D): "Cortex-A715", (_ARM, 0xD4E): "Cortex-X3", (_ARM, 0xD4F): "Neoverse-V2", (_ARM, 0xD80): "Cortex-A520",
    (_ARM, 0xD81): "Cortex-A720", (_ARM, 0xD82): "Cortex-X4", (_ARM, 0xD84): "Neoverse-V3", (_ARM, 0xD8E): "Neoverse-N3",
    (0x43, 0x0A1): "ThunderX", (0x43, 0x0AF): "ThunderX2", (0x46, 0x001): "A64FX", (0x48, 0xD01): "Kunpeng-920",
    (0x4E, 0x003): "Denver 2", (0x4E, 0x004): "Carmel", (0x6D, 0xD49): "Azure-Cobalt-100",
    (0x61, 0x022): "Icestorm-M1", (0x61, 0x023): "Firestorm-M1",
    (0x61, 0x024): "Icestorm-M1-Pro", (0x61, 0x025): "Firestorm-M1-Pro", (0x61, 0x028): "Icestorm-M1-Max",
    (0x61, 0x029): "Firestorm-M1-Max", (0x61, 0x032): "Blizzard-M2", (0x61, 0x033): "Avalanche-M2", (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1a",
}  # fmt: skip
# What a kernel or a sandbox writes where it does not know the name.
_NO_NAMES = ("", "unknown")


def processor(root: Path = ROOT) -> tuple[str, int]:
    """(the name of the processor, the number of physical cores) of all CPUs that the kernel shows.

    Where the CPUs have several names, as cores of two sizes do, each name stands once and they are joined by ` + `.
    """
    blocks = _blocks(root)
    named = [block["model name"] for block in blocks if _has_name(block)]
    names = named or [name for name in map(_identified, blocks) if name] or _of_all(blocks)
    name = " + ".join(sorted(set(names))) or platform.processor() or platform.machine()
    where = "" if named else _system(root)
    return f"{name} ({where})" if where else name, _cores(blocks, root)


def _blocks(root: Path) -> list[dict[str, str]]:
    """What /proc/cpuinfo says of each CPU, by its keys in small letters. The last block may be about all CPUs."""
    parts = machine.text(root / "proc/cpuinfo").split("\n\n")
    pairs = [[line.partition(":") for line in part.splitlines()] for part in parts]
    return [{key.strip().lower(): value.strip() for key, _, value in block} for block in pairs if block]


def _has_name(block: dict[str, str]) -> bool:
    # What 32-bit ARM calls the name of the model is the name of the architecture.
    return block.get("model name", "") not in _NO_NAMES and "cpu implementer" not in block


def _identified(block: dict[str, str]) -> str:
    """What identifies a CPU whose model has no name; empty for a block that is not about a CPU."""
    if "cpu implementer" in block:
        return _arm(block)
    if "vendor_id" in block and "cpu family" in block:  # x86 in a sandbox
        return " ".join([block["vendor_id"], *(f"{key} {block.get(key, '?')}" for key in ("cpu family", "model", "stepping"))])
    if "isa" in block:  # RISC-V
        ids = [block[key] for key in ("mvendorid", "marchid", "mimpid") if key in block]
        return " ".join([block.get("uarch", "RISC-V"), *ids, block["isa"]])
    if "processor" in block:
        return block.get("cpu model") or block.get("cpu", "")  # MIPS; POWER and SPARC
    return ""


def _arm(block: dict[str, str]) -> str:
    """The name of an ARM core, `Arm Neoverse-N1 r3`. Maker or part are given as numbers where they have no name here."""
    implementer, part, variant = (_hex(block.get(f"cpu {key}", "")) for key in ("implementer", "part", "variant"))
    maker = _IMPLEMENTERS.get(implementer, f"implementer 0x{implementer:02x}")
    return f"{maker} {_PARTS.get((implementer, part), f'part 0x{part:03x}')} r{variant}"


def _hex(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0


def _of_all(blocks: Sequence[dict[str, str]]) -> list[str]:
    """The names in a block about all CPUs, as on s390: `processor 0: version = 00,  identification = .,  machine = 3906`."""
    lines = [value for block in blocks for key, value in block.items() if key.startswith("processor ")]
    machines = [value.partition("machine = ")[2] for value in lines]
    maker = next((block["vendor_id"] for block in blocks if "vendor_id" in block), "")
    return [f"{maker} {each}".strip() for each in machines if each]


def _system(root: Path) -> str:
    """The maker of the system, which tells processors apart whose cores are of one design that several makers use."""
    files = ("sys/class/dmi/id/sys_vendor", "sys/devices/soc0/machine", "sys/devices/soc0/soc_id")
    return next(filter(None, (machine.text(root / file) for file in files)), "")


def _cores(blocks: Sequence[dict[str, str]], root: Path) -> int:
    """The number of physical cores."""
    told = {(block.get("physical id", ""), block.get("core id", "")) for block in blocks} - {("", "")}
    return len(told) or len(set(machine.cores(machine.online(root), root).values())) or os.cpu_count() or 1
