"""With what a run was measured, as facts by name, and which of them differ from those of another run."""

from harness import outcome, units
from harness.axes import VARIABLES
from harness.outcome import Difference
from harness.record import Environment, Run


def facts(run: Run) -> dict[str, str]:
    """What is known of where and with what a run was measured, by name. A fact of one backend alone bears its name (`kind`)."""
    found: dict[str, str] = {
        "commit": run.commit, "convbench": run.harness_version, "method version": str(run.method_version),
        "suite's hash": run.suite_sha256,
    }  # fmt: skip
    values: dict[str, dict[str, str]] = {}
    for one in run.environments:
        for name, value in _of_environment(one).items():
            values.setdefault(name, {})[kind(one)] = value
    for name, by_backend in values.items():
        if len(set(by_backend.values())) == 1:
            found[name] = next(iter(by_backend.values()))
        else:
            found |= {f"{name} ({backend})": value for backend, value in by_backend.items()}
    return found


def kind(one: Environment) -> str:
    """The backend of an environment, and what its process was begun with that is not the default: a run may have several."""
    chosen = (f"{name} {value}" for name, variable in VARIABLES.items() if (value := one.environ.get(variable)))
    return ", ".join((one.backend, *chosen))


def _of_environment(one: Environment) -> dict[str, str]:
    return {
        "machine": one.machine_id, "host": one.host, "operating system": one.os, "CPU": one.cpu, "cores": str(one.cores),
        "affinity": ",".join(map(str, one.affinity)), "CPU quota": "" if one.cpu_quota is None else f"{one.cpu_quota:.3g}",
        "memory nodes": "; ".join(f"{node}: CPU {cpus}" for node, cpus in one.nodes.items()),
        "memory": units.size(one.memory_bytes), "GPU": one.gpu, "driver": one.driver, "Python": one.python,
        **{f"GPU: {name}": value for name, value in one.board.items()}, **one.packages, **one.environ,
    }  # fmt: skip


def differences(base: Run, new: Run) -> tuple[Difference, ...]:
    """The facts that differ between two runs."""
    return outcome.differences(facts(base), facts(new))


def versions(environment: Environment) -> dict[str, str]:
    """The facts whose change starts a new segment: packages, Python, operating system, driver, variables."""
    return {
        **dict(sorted(environment.packages.items())),
        "Python": environment.python.removeprefix("CPython "),
        "operating system": environment.os,
        "driver": environment.driver,
        **{f"GPU: {name}": value for name, value in environment.board.items()},
        **dict(sorted(environment.environ.items())),
    }


def version_changes(before: tuple[Run, str] | None, after: tuple[Run, str] | None) -> tuple[Difference, ...]:
    """Which versions differ between two figures, each given as its run and the id of its environment.

    convbench's own version comes last, as its commit where the version is the same; empty where none differs or one figure is
    not known.
    """
    if before is None or after is None:
        return ()
    old, new = ({each.id: each for each in run.environments}.get(id) for run, id in (before, after))
    found = outcome.differences(versions(old), versions(new)) if old and new else ()
    (one, _), (other, _) = before, after
    if one.harness_version != other.harness_version:
        return (*found, Difference("convbench", one.harness_version, other.harness_version))
    return (*found, *outcome.differences({"convbench": one.commit[:10]}, {"convbench": other.commit[:10]}))
