"""The process that has a user's model: a Request comes in by an inherited socket, an Answer goes out; the rest is their code.

Naming a callable runs its file, as `python file.py` would.
"""

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import re
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import codec
from harness.calls import Seen
from harness.captures.base import CAPTURES, Capture, Request, known
from harness.errors import CaptureError
from harness.plain import plain

_FETCHES = re.compile(r"(?:tensorflow\.|tf_)?keras\.applications(?:\..*)?")  # its models fetch weights unless told not to


@dataclass(frozen=True)
class Answer:
    """What came of a request: what was seen, or why nothing was."""

    seen: Seen | None = None
    error: str = ""


def main(descriptor: int) -> None:
    """Answer the request on an inherited socket. The process ends with whoever asked."""
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    with connection, connection.makefile("rb") as lines:
        request = codec.loads(Request, lines.readline())
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        sys.path.append(os.getcwd())  # last, so that no file of a user's folder shadows a package
        connection.sendall(codec.dumps(answer(request)).encode() + b"\n")


def _end_with(connection: socket.socket) -> None:
    """Nothing more is asked: what comes next is the end of whoever asked."""
    connection.recv(1)
    os._exit(1)


def answer(request: Request) -> Answer:
    """What was seen of what was asked for."""
    try:
        return Answer(seen(request))
    except CaptureError as error:
        return Answer(error=f"{error}{_where(error.__cause__)}")
    except SystemExit as error:
        return Answer(error=f"{request.target}: its code ended the process: {told(error)}")
    except Exception as error:
        return Answer(error=told(error))


def told(error: BaseException) -> str:
    """An error of the user's code on one line: what, and where in a file of the user's."""
    lines = str(error).strip().splitlines() or [""]
    return plain(f"{type(error).__name__}: {lines[0]}"[:400] + _where(error))


def _where(error: BaseException | None) -> str:
    """The last place in a file of the user's that an error went through; empty where it went through none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__ if error else None) if _is_users(frame.filename)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _is_users(file: str) -> bool:
    """Whether a file is neither Python's nor an installed package's nor of this one."""
    ours = Path(__file__).parents[1]
    return Path(file).is_file() and "site-packages" not in file and not any(
        Path(file).is_relative_to(folder) for folder in (ours, Path(os.__file__).parent)
    )  # fmt: skip


def seen(request: Request) -> Seen:
    """What is seen of a model that has yet to be made. Raises CaptureError, and whatever the user's code raises."""
    kinds = _kinds(request)
    reads = [kind for kind in kinds.values() if request.target.endswith(kind.suffixes or ("\0",))]
    if reads:
        if request.arguments:
            raise CaptureError("--arg: found with a file; allowed: with a callable")
        return of_model(request.target, request.inputs, request, reads[0])
    notes: tuple[str, ...] = ()
    named = _callable(request.target)
    if _FETCHES.fullmatch(request.target.rpartition(":")[0]) and "weights" not in request.arguments:
        request = replace(request, arguments={**request.arguments, "weights": "None"})
        notes = ("weights=None: nothing is fetched; --arg weights=... says otherwise",)
    kind = _kind(kinds, request, named)
    if kind is not None and kind.takes(named):
        if request.arguments:
            raise CaptureError(f"--arg: {request.target} is a model already; allowed: with a callable that makes one")
        made = named
    elif kind is not None and kind.functions and _wants_more(named, request):
        made = functools.partial(named, **_literals(request)) if request.arguments else named
    else:
        made = _built(named, kind, request)
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, ())
    given = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    found = of_model(model, given or request.inputs, request, kind)
    return replace(found, notes=(*notes, *found.notes))


def of_model(model: Any, inputs: Sequence[Any], request: Request, kind: type[Capture] | None = None) -> Seen:
    """What is seen of a model, by this capture, or by that of the framework that it is of. Raises CaptureError."""
    kinds = _kinds(request)
    kind = kind or kinds.get(request.framework)
    kind = kind or next((each for each in kinds.values() if each.takes(model)), None)
    function = callable(model) and not isinstance(model, type)
    kind = kind or (_loaded(kinds) if function else None)
    file = isinstance(model, str) and kind is not None and model.endswith(kind.suffixes or ("\0",))
    if kind is None or not (function or file or kind.takes(model)):
        where = f"{request.target} gives" if request.target else "model: found"
        found = "None" if model is None else f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        if function:
            option = request.option("--framework")
            raise CaptureError(f"{where} {found}, of which the framework is not clear; {option} says it: {', '.join(kinds)}")
        raise CaptureError(f"{where} {found}; allowed: a model of {kind.name if kind else ', '.join(kinds)}")
    return _made(kind, request).capture(model, inputs, _checked(kinds, kind, request))


def _kinds(request: Request) -> dict[str, type[Capture]]:
    """The captures by name, the one that is asked for among them; another package's that is broken is passed over otherwise."""
    found, framework, option = dict[str, type[Capture]](), request.framework, request.option("--framework")
    for name, target in known().items():
        try:
            found[name] = _resolve(target)
        except Exception as error:
            if name in CAPTURES:
                raise
            if name == framework:
                raise CaptureError(f"{option} {name}: its capture {target} cannot be had: {told(error)}") from None
    if framework and framework not in found:
        raise CaptureError(f"{option}: found {framework!r}; allowed: {', '.join(found)}")
    return found


def _built(named: Callable[..., Any], kind: type[Capture] | None, request: Request) -> Any:
    """What the callable gives."""
    arguments = _literals(request)
    try:
        inspect.signature(named).bind(**arguments)
    except TypeError as error:
        wanted = [each.name for each in inspect.signature(named).parameters.values() if each.default is each.empty]
        more = f"; it takes {', '.join(wanted)}: give --arg {wanted[0]}=VALUE" if wanted else ""
        raise CaptureError(f"{request.target}: {error}{more}") from None
    except ValueError:  # it does not say what it takes
        pass
    with _made(kind, request).building(request) if kind is not None else contextlib.nullcontext():
        return named(**arguments)


def _wants_more(named: Any, request: Request) -> bool:
    """Whether a function wants more than it is given by name: then it is the model, and gets the inputs."""
    if inspect.isclass(named):
        return False
    try:
        inspect.signature(named).bind(**dict.fromkeys(request.arguments))
    except TypeError:
        return bool(request.inputs)
    except ValueError:
        return True
    return False


def _kind(kinds: dict[str, type[Capture]], request: Request, named: Any) -> type[Capture] | None:
    """The capture that the request names, or that is clear before anything is made; None where the model will tell."""
    if request.framework:
        return kinds[request.framework]
    if not request.weights:
        return next(kind for kind in kinds.values() if "weights" in kind.options)
    kind = next((kind for kind in kinds.values() if kind.takes(named)), None)
    return kind or (_loaded(kinds) if _wants_more(named, request) else None)


def _loaded(kinds: dict[str, type[Capture]]) -> type[Capture] | None:
    """The capture of the only framework that the user's code has imported, where plain functions are its models."""
    found = [kind for name, kind in kinds.items() if name in sys.modules]
    return found[0] if len(found) == 1 and found[0].functions else None


def _checked(kinds: dict[str, type[Capture]], kind: type[Capture], request: Request) -> Request:
    """The request, where this capture heeds all of it. Raises CaptureError."""
    asked = {
        "--no-weights": ("weights", not request.weights), "--real": ("real", request.real), "--time": ("timed", request.timed),
        "--precision": ("precision", request.precision), "--layout": ("layout", request.layout),
        "--input NAME=SIZE": ("sizes", request.sizes),
    }  # fmt: skip
    for option, (field, given) in asked.items():
        if given and field not in kind.options:
            able = [name for name, other in kinds.items() if field in other.options]
            parsed = ", whose file is parsed and not run" if request.target.endswith(kind.suffixes or ("\0",)) else ""
            raise CaptureError(f"{option}: found with {kind.name}{parsed}; allowed: with {', '.join(able)}")
    return request


def _resolve(target: str) -> type[Capture]:
    """The class behind `module:Class`. Raises TypeError for what is none of Capture's."""
    module, _, name = target.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, Capture)):
        raise TypeError(f"{target} is no class that inherits from harness.captures.base.Capture")
    return found


def _made(kind: type[Capture], request: Request) -> Capture:
    """The capture, with its framework imported. Raises CaptureError where that is not there."""
    try:
        return kind()
    except ImportError as error:
        why = f"{kind.name} cannot be imported by this Python: {told(error)}"
        raise CaptureError(f"{why}; {request.option('--python')} names another one") from None


def _literals(request: Request) -> dict[str, Any]:
    """The arguments that the callable is called with."""
    return {name: _literal(name, text) for name, text in request.arguments.items()}


def _literal(name: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        allowed = "a number, a text in quotes, True, None, a list of these"
        raise CaptureError(f"--arg {name}: found {text!r}; allowed: {allowed}") from None


def _callable(target: str) -> Any:
    """What `module:callable` or `file.py:callable` names. Runs the module."""
    place, colon, attribute = target.rpartition(":")
    if not colon or not place or not attribute:
        raise CaptureError(f"found {target!r}; allowed: module:callable, file.py:callable, or a file of ONNX or a log")
    found: Any = _file(Path(place)) if place.endswith(".py") else _module(place)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CaptureError(f"{place} has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise CaptureError(f"{target}: found {type(found).__name__}; allowed: a callable that gives the model")
    return found


def _module(name: str) -> Any:
    no_module = (
        f"{name}: no module and no Python file; allowed: module:callable, file.py:callable, or an .onnx file or a log alone"
    )
    if "/" in name or name.startswith("."):
        raise CaptureError(no_module)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            if Path(name).is_file():
                raise CaptureError(no_module) from None
            raise CaptureError(f"no module {error.name} for this Python; --python names another one") from None
        raise


def _file(path: Path) -> Any:
    if not path.is_file():
        raise CaptureError(f"{path}: a folder; allowed: a file" if path.is_dir() else f"no file {path}")
    sys.path.insert(0, str(path.parent.absolute()))  # as for `python file.py`
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(int(sys.argv[1]))
