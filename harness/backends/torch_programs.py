"""The programs of torch.compile, one cell's apart from another's: made, counted, forgotten, and kept in a folder.

torch.compile keeps its programs with the code object of the function that it was given: at most 8
(`torch._dynamo.config.recompile_limit`), of which a call takes the first whose guards hold. The calls of all cells come from
the same few lines of the adapter. So each gets a code object of its own.
"""

import itertools
import os
import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

_numbers = itertools.count()


def own(function: Callable[..., Any]) -> FunctionType:
    """The same function with a code object that no other has, under a new name, by which dynamo counts its compilations."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace(co_name=f"call_{next(_numbers)}")
    return FunctionType(code, function.__globals__, code.co_name, function.__defaults__, function.__closure__)


def forget(code: CodeType) -> None:
    """Let go of what was compiled for a code object, and of no other's.

    A code object and the programs that are kept with it hold on to each other, so that they do not go by themselves.
    """
    from torch._dynamo.eval_frame import remove_from_cache

    remove_from_cache(code)


def count() -> int:
    """Graphs that torch.compile has made in this process; nothing has loaded it where there are none."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo else 0


def caches(folder: str) -> dict[str, str]:
    """The environment variables by which inductor uses a folder, or, where that is empty, caches nothing.

    It traces and generates every program anew either way. What it finds in the folder is only what the C++ compiler made of
    the same source by the same command, which is nine tenths of a first call. Its caches of graphs would save half of the
    rest, but rebuild the functions around a program from what they stored. A folder with a space in its name is as good as
    none, since inductor writes its commands unquoted.
    """
    if not folder or any(map(str.isspace, folder)):
        return {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    graphs = dict.fromkeys(("TORCHINDUCTOR_FX_GRAPH_CACHE", "TORCHINDUCTOR_AUTOGRAD_CACHE"), "0")
    place = os.path.join(folder, "inductor")
    return {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "0", "TORCHINDUCTOR_CACHE_DIR": place, **graphs}
