"""The rules of the house: which room may import which, and what must not be loaded where."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).parents[1]
# Each may import those before it.
GROUND = (
    "errors", "plain", "rows", "drafts", "units", "stats", "codec", "axes", "counting", "descriptor", "workload", "spec",
    "plan", "flops", "calls", "flags", "record", "profile", "columns", "outcome", "digest",
)  # fmt: skip
WINGS = {
    "ground": set(),  # by the order above
    "backends": {"ground", "backends"},
    "measure": {"ground", "backends", "measure"},
    "isolate": {"ground", "backends", "measure", "isolate"},
    "captures": {"ground", "backends", "measure", "captures"},
    "ask": {"ground", "ask"},
    "store": {"ground", "store"},
    "analysis": {"ground", "analysis"},
    "page": {"ground", "page"},
}  # whatever else stands at the top is a face, which may import anything
HEAVY = {
    "torch", "tensorflow", "keras", "jax", "jaxlib", "pandas", "pydantic", "scipy", "seaborn", "matplotlib", "pyarrow",
    "jinja2",
}  # fmt: skip
FRAMEWORKS = {"torch", "tensorflow", "jax"}


# The wing rule -----------------------------------------------------------------------------------------------------------


def rooms(root: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((root / "harness").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def wing(room: str) -> str:
    top = [*room.split("."), ""][1]
    return "ground" if top in GROUND else top if top in WINGS else "face"


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The rooms that a file imports anywhere in it: at the top, in functions, and for type checking."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in known)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import"
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if name in known else str(node.module) for name in names if node.module in known or name in known)


def allowed(room: str, target: str) -> bool:
    if wing(room) == wing(target) == "ground":
        return GROUND.index(target.split(".")[1]) < GROUND.index(room.split(".")[1])
    return wing(room) == "face" or wing(target) in WINGS[wing(room)]


def breaches(root: Path) -> list[str]:
    """Every import that the rule forbids, and a circle of imports if there is one."""
    known = rooms(root)
    graph = {room: set(imported(path, known)) for room, path in known.items()}
    found = [f"{room} imports {target}" for room in graph for target in sorted(graph[room]) if not allowed(room, target)]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"circle: {', '.join(sorted(set(error.args[1])))}")
    return found


def test_the_wing_rule_holds():
    known = rooms(ROOT)
    assert {"harness", "harness.cli", "harness.spec", "harness.backends.torch", "harness.measure.engine"} <= set(known)
    assert {wing(room) for room in known} == {*WINGS, "face"}
    assert breaches(ROOT) == []


@pytest.mark.parametrize(
    ("room", "text", "breach"),
    [
        ("spec", "from harness.record import Record", "harness.spec imports harness.record"),
        ("flops", "from harness import record", "harness.flops imports harness.record"),
        ("flops", "import harness.cli", "harness.flops imports harness.cli"),
        (
            "backends/jax",
            "def f():\n    from harness.measure import oracle",
            "harness.backends.jax imports harness.measure.oracle",
        ),
        ("measure/oracle", "from harness.isolate import wire", "harness.measure.oracle imports harness.isolate.wire"),
        ("store/table", "if TYPE_CHECKING:\n    import harness.page.html", "harness.store.table imports harness.page.html"),
        ("analysis/gate", "from harness.store.table import load", "harness.analysis.gate imports harness.store.table"),
        ("ask/suite", "from harness.backends.registry import names", "harness.ask.suite imports harness.backends.registry"),
        ("page/html", "from harness.execution import execute", "harness.page.html imports harness.execution.execute"),
        ("isolate/wire", "from harness import run", "harness.isolate.wire imports harness"),
        ("ask/suite", "from .axes import NAMES", "harness.ask.suite imports a relative import"),
        ("cli", "from harness.execution import execute", "circle: harness.cli, harness.execution.execute"),
    ],
)
def test_a_breach_is_found_wherever_the_import_stands(tmp_path: Path, room: str, text: str, breach: str):
    planted = {
        "__init__": "", "spec": "", "record": "from harness.spec import Cell", "flops": "from harness.spec import Cell",
        "execution/execute": "from harness import cli", "cli": "", "backends/registry": "", "backends/jax": "import jax",
        "measure/oracle": "from harness.backends import jax", "isolate/wire": "from harness.measure import oracle",
        "ask/axes": "", "ask/suite": "from harness.ask import axes", "store/table": "", "analysis/gate": "", "page/html": "",
    }  # fmt: skip
    for name, content in {**planted, room: text}.items():
        path = tmp_path / "harness" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert breach in breaches(tmp_path)
    (tmp_path / "harness" / f"{room}.py").write_text(planted[room])
    assert breaches(tmp_path) == []


# What is loaded where ----------------------------------------------------------------------------------------------------


def loaded(statement: str) -> set[str]:
    """The packages outside the standard library that a statement loads in a fresh interpreter."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    text = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in text.split()} - set(sys.stdlib_module_names) - {"harness"}


def test_a_package_that_is_loaded_is_seen():
    assert "numpy" in loaded("from harness import stats")


def test_importing_the_package_costs_nothing():
    assert loaded("import harness") == set()


def test_a_worker_starts_without_numpy_so_that_its_environment_can_still_be_set():
    assert loaded("import harness.isolate.worker") == set()


def test_the_child_side_needs_numpy_and_nothing_else():
    child = [room for room in rooms(ROOT) if wing(room) in ("ground", "backends", "measure", "captures")]
    child += ["harness.isolate.wire", "harness.isolate.worker"]
    parts_of_numpy = loaded("import numpy.random")
    assert loaded(f"import {', '.join(child)}") == parts_of_numpy


def test_the_help_of_the_command_line_loads_no_framework_and_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "harness", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert "convolution" in result.stdout
    assert "typer" in names
    assert names & {*HEAVY, "numpy"} == set()


# No framework outside its adapter ----------------------------------------------------------------------------------------


def at_import(path: Path) -> Iterator[str]:
    """What a file imports when it is itself imported: not in functions, not for type checking."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


ADAPTERS = sorted(path for wing in ("backends", "captures") for path in (ROOT / "harness" / wing).glob("*.py"))


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_adapter_imports_nothing_foreign_until_it_is_made(path: Path):
    foreign = {name.partition(".")[0] for name in at_import(path)} - set(sys.stdlib_module_names) - {"harness"}
    assert foreign == set()


def comparisons(path: Path) -> Iterator[str]:
    """Comparisons and cases with the name of a framework in them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare | ast.MatchValue):
            words = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}
            if words & FRAMEWORKS:
                yield ast.unparse(node)


def test_nothing_outside_the_adapters_asks_which_framework_it_has():
    paths = [path for path in rooms(ROOT).values() if path not in ADAPTERS]
    assert {path.name: found for path in paths if (found := list(comparisons(path)))} == {}


@pytest.mark.parametrize(
    "text",
    ["backend == 'torch'", "'jax' != name", "name in ('numpy', 'tensorflow')", "match name:\n    case 'jax':\n        pass"],
)
def test_such_a_question_is_found(tmp_path: Path, text: str):
    path = tmp_path / "room.py"
    path.write_text(text)
    assert len(list(comparisons(path))) == 1


# Sizes -------------------------------------------------------------------------------------------------------------------

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 450, 60


def too_long(root: Path) -> dict[str, int]:
    """Lines of every file and of every function that has more than it may; a function's decorators are not counted."""
    found = {}
    for path in rooms(root).values():
        text, name = path.read_text(), path.relative_to(root).as_posix()
        if (lines := len(text.splitlines())) > MOST_LINES:
            found[name] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    found[f"{name}: {node.name}"] = lines
    return found


def test_no_file_and_no_function_is_too_long():
    table = "".join(f"\n{lines:5} lines  {name}" for name, lines in too_long(ROOT).items())
    assert not table, table


def test_what_is_too_long_is_found(tmp_path: Path):
    room = tmp_path / "harness" / "room.py"
    room.parent.mkdir()
    body = "    pass\n" * 60
    room.write_text(f"@decorated\ndef allowed():\n{body[9:]}" + "#\n" * 389)
    assert too_long(tmp_path) == {}
    room.write_text(f"class A:\n  def long(self):\n{body}" + "#\n" * 389)
    assert too_long(tmp_path) == {"harness/room.py": 451, "harness/room.py: long": 61}


# The Python interface ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", harness.__all__)
def test_a_public_name_is_there_and_no_room_is_called_like_it(name: str):
    assert callable(getattr(harness, name))
    assert not (ROOT / "harness" / f"{name}.py").exists()
    assert not (ROOT / "harness" / name).exists()


def test_any_other_name_is_not():
    with pytest.raises(AttributeError, match="has no attribute 'runs'"):
        _ = harness.runs
