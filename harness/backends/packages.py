"""Which Python packages are there and in which version, by the name of module or distribution: nothing is imported."""

import sys
from collections.abc import Iterable
from importlib import metadata, util

from harness.plain import plain

_CUDA_LIBRARIES = ("nvidia-", "jax-cuda")
NVML = "nvidia-ml-py"  # the distribution; its module is pynvml
UNKNOWN = "unknown"  # the version of a package that is there and does not tell it


def present(name: str) -> bool:
    """Whether a package is there."""
    try:
        if util.find_spec(_module(name)) is not None:
            return True
    except (ImportError, ValueError):  # part of a package that is not there; a module that was made without a spec
        pass
    return _of_distribution(name) is not None


def versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those of these packages that are there.

    Of one that this process has imported it is what the module says: the same module comes from several distributions
    (tensorflow, tensorflow-cpu, tf-nightly), or from a source tree, which is none.
    """
    found = {name: _of_module(name) or _of_distribution(name) or _of_provider(name) for name in names}
    return {name: plain(version) for name, version in found.items() if version}


def cuda_libraries() -> tuple[str, ...]:
    """The distributions here that bring CUDA, cuDNN, cuBLAS, NCCL and what else of NVIDIA's a framework loads, in order."""
    try:
        names = {str(found.metadata["Name"] or "").lower().replace("_", "-") for found in metadata.distributions()}
    except Exception:  # it reads what every installed package says, damaged ones too
        return ()
    return tuple(sorted(name for name in names if name.startswith(_CUDA_LIBRARIES) and name != NVML))


def of_gpus() -> tuple[str, ...]:
    """The distributions here that concern a GPU: those of CUDA's libraries, and NVML's where it can be imported."""
    return (*cuda_libraries(), *([NVML] if present("pynvml") else []))


def _module(name: str) -> str:
    return name.replace("-", "_")


def _of_module(name: str) -> str | None:
    """What the imported module says; None where it is not imported or says nothing."""
    version = getattr(sys.modules.get(_module(name)), "__version__", None)
    return version if isinstance(version, str) and version else None


def _of_distribution(name: str) -> str | None:
    """The version of the distribution of this name; None where there is none."""
    try:
        return metadata.version(name) or UNKNOWN
    except metadata.PackageNotFoundError:
        return None
    except Exception:  # half removed or half written: each kind of damage raises its own
        return UNKNOWN


def _of_provider(name: str) -> str | None:
    """The version of whatever distribution brings the module; None where the module is not there."""
    if not present(name):
        return None
    try:
        providers = metadata.packages_distributions().get(_module(name), [])
    except Exception:  # it reads what every installed package says, damaged ones too
        return UNKNOWN
    return next(filter(None, map(_of_distribution, providers)), UNKNOWN)
