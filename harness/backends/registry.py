"""Which backends there are: entry points of the group `harness.backends`, ours and other packages'. Imports none of them.

What must know more of an adapter than its name imports the adapter's file. Ours are safe to import anywhere; another package's
may fail, exit, crash or hang, and is imported only by a process that may be lost (`execution.discovery`, `isolate.worker`).
"""

from importlib import metadata
from typing import Any

from harness.backends import packages
from harness.errors import BackendError

GROUP = "harness.backends"


def names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted({point.name for point in metadata.entry_points(group=GROUP)}))


def find(name: str) -> str:
    """`module:Class` for a name. Raises BackendError for an unknown one."""
    for point in metadata.entry_points(group=GROUP):
        if point.name == name:
            return point.value
    raise BackendError(f"backend {name!r} is not registered; found: {', '.join(names())}")


def ours(target: str) -> bool:
    """Whether an adapter is part of this package."""
    return target.startswith("harness.backends.")


def resolve(target: str) -> Any:
    """The class behind `module:Class`. Its framework is imported only when it is instantiated."""
    module, _, attribute = target.partition(":")
    return getattr(__import__(module, fromlist=[attribute]), attribute)


def installed(name: str) -> bool:
    """Whether the package that the backend stands for is there: looked for, not imported; only the adapter's file is."""
    return packages.present(resolve(find(name)).distributions[0])


def missing(name: str, target: str, *, foreign: bool = False) -> str | None:
    """Why a backend cannot take part at all, with the command that helps; None where its package is there.

    `foreign` says whether this interpreter is one that was named for this backend.
    """
    package = resolve(target).distributions[0]
    if packages.present(package):
        return None
    return f"{name} is not installed: {remedy(name, target, foreign=foreign)}"


def remedy(name: str, target: str, *, foreign: bool = False) -> str:
    """The command that installs the package of a backend."""
    if foreign:
        return f"pip install {resolve(target).distributions[0]} for its interpreter"
    return f"pip install 'convbench[{name}]'" if ours(target) else f"pip install {resolve(target).distributions[0]}"
