"""The scripts that have no ending, as modules."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / "scripts"


def load(name: str) -> ModuleType:
    """The script of that name, its main not called."""
    loader = SourceFileLoader(f"{name}_script", str(FOLDER / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = sys.modules[loader.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    loader.exec_module(module)
    return module
