"""/proc and /sys of real kinds of machines, as their kernels tell of processor, cores and memory nodes."""

from collections.abc import Iterable, Mapping, Sequence

from tests.tree import CPUS, Tree

NODES = "sys/devices/system/node"


def topology(tree: Tree, cores: Iterable[Sequence[int]], nodes: Mapping[int, str]) -> None:
    """The CPUs of each core, and the list of each memory node; a list that is empty is of memory alone."""
    cpus = []
    for core in cores:
        cpus += core
        for cpu in core:
            tree.say(f"{CPUS}/cpu{cpu}/topology/thread_siblings_list", ",".join(map(str, core)))
    tree.say(f"{CPUS}/online", ",".join(map(str, sorted(cpus))))
    for node, listed in nodes.items():
        tree.say(f"{NODES}/node{node}/cpulist", listed)
    tree.say(f"{NODES}/online", ",".join(map(str, nodes)))


def arm(tree: Tree, cpus: int, *, implementer: int = 0x41, part: int = 0xD0C, variant: int = 3, revision: int = 1) -> None:
    """A cpuinfo of arm64, which names no model."""
    tree.say("proc/cpuinfo", "\n".join(arm_cpu(cpu, implementer, part, variant, revision) for cpu in range(cpus)))


def arm_cpu(cpu: int, implementer: int, part: int, variant: int, revision: int = 1) -> str:
    """One CPU of it."""
    return (
        f"processor\t: {cpu}\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm aes\nCPU implementer\t: 0x{implementer:02x}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x{variant:x}\nCPU part\t: 0x{part:03x}\nCPU revision\t: {revision}\n"
    )


def graviton(tree: Tree) -> None:
    """AWS m6g.16xlarge: 64 cores Neoverse-N1 on one node."""
    arm(tree, 64)
    topology(tree, [(cpu,) for cpu in range(64)], {0: "0-63"})
    tree.say("sys/class/dmi/id/sys_vendor", "Amazon EC2")


def grace(tree: Tree) -> None:
    """NVIDIA GH200: 72 cores Neoverse-V2 on node 0; the GPU's memory is node 1, further numbers are for its slices."""
    arm(tree, 72, part=0xD4F, variant=0, revision=0)
    topology(tree, [(cpu,) for cpu in range(72)], {0: "0-71", **dict.fromkeys(range(1, 9), "")})
    tree.say("sys/class/dmi/id/sys_vendor", "NVIDIA")


def x86(tree: Tree, model: str, places: Mapping[int, tuple[int, int]]) -> None:
    """A cpuinfo that names the model; `places` are socket and core by CPU."""
    blocks = (
        f"processor\t: {cpu}\nvendor_id\t: Some\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: {model}\n"
        f"physical id\t: {socket}\ncore id\t\t: {core}\nflags\t\t: fpu sse avx2\n"
        for cpu, (socket, core) in sorted(places.items())
    )
    tree.say("proc/cpuinfo", "\n".join(blocks))


def xeon(tree: Tree) -> None:
    """Two sockets of 16 cores with hyperthreads, numbered n and n + 32; a node a socket."""
    x86(tree, "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz", {cpu: (cpu % 32 // 16, cpu % 16) for cpu in range(64)})
    topology(tree, [(cpu, cpu + 32) for cpu in range(32)], {0: "0-15,32-47", 1: "16-31,48-63"})


def alternating(tree: Tree) -> None:
    """Two sockets of 4 cores with hyperthreads whose numbers take turns: even ones on node 0, odd ones on node 1."""
    x86(tree, "Intel(R) Xeon(R) E5", {cpu: (cpu % 2, cpu % 8 // 2) for cpu in range(16)})
    topology(tree, [(cpu, cpu + 8) for cpu in range(8)], {0: "0,2,4,6,8,10,12,14", 1: "1,3,5,7,9,11,13,15"})


def epyc(tree: Tree) -> None:
    """One socket of 64 cores with SMT as four nodes (NPS4)."""
    x86(tree, "AMD EPYC 7763 64-Core Processor", {cpu: (0, cpu % 64) for cpu in range(128)})
    lists = {node: f"{16 * node}-{16 * node + 15},{16 * node + 64}-{16 * node + 79}" for node in range(4)}
    topology(tree, [(cpu, cpu + 64) for cpu in range(64)], lists)
