"""Schedules, each held against the program that reads it, where that program is there."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.deploy import manifests
from harness.deploy.manifests import Job, Kind, render
from harness.errors import ScheduleError


def job(**overrides: Any) -> Job:
    plain = {
        "suite": "nightly", "at": "02:30", "folder": Path("/srv/conv bench"), "program": ("/opt/venv/bin/convbench",),
        "secrets": Path("/home/me/.config/convbench/nightly.env"), "options": ("--threads", "2", "--tag", "100 % \"x\" $HOME"),
    }  # fmt: skip
    return Job(**{**plain, **overrides})


def tool(name: str) -> str:
    found = shutil.which(name)
    return found or pytest.skip(f"{name} is not installed: its files are not held against it")


def only(kind: Kind, **overrides: Any) -> str:
    (text,) = render(job(**overrides), kind).values()
    return text


# systemd ------------------------------------------------------------------------------------------------------------------


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    program = tmp_path / "convbench"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    paths = []
    for name, text in render(job(program=(str(program),)), Kind.SYSTEMD).items():
        paths.append(tmp_path / name)
        paths[-1].write_text(text)
    assert [path.suffix for path in paths] == [".service", ".timer"]
    places = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}

    def verify() -> "subprocess.CompletedProcess[str]":
        return subprocess.run([analyze, "--user", "verify", *paths], env=places, capture_output=True, text=True, check=False)

    done = verify()
    said = [line for line in done.stderr.splitlines() if "convbench" in line]
    assert (done.returncode, said) == (0, []), done.stderr
    paths[0].write_text(paths[0].read_text().replace("Type=oneshot", "Type=twoshot"))
    assert "twoshot" in verify().stderr


def test_systemd_understands_the_time() -> None:
    timer = render(job(at="2:05"), Kind.SYSTEMD)["convbench-nightly.timer"]
    (calendar,) = [line.partition("=")[2] for line in timer.splitlines() if line.startswith("OnCalendar=")]
    assert calendar == "*-*-* 02:05:00"
    done = subprocess.run([tool("systemd-analyze"), "calendar", calendar], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Normalized form: *-*-* 02:05:00" in done.stdout


def test_the_service_says_exactly_the_command_and_where() -> None:
    service = render(job(), Kind.SYSTEMD)["convbench-nightly.service"]
    lines = dict(line.partition("=")[::2] for line in service.splitlines() if "=" in line and not line.startswith("#"))
    assert lines["ExecStart"] == '/opt/venv/bin/convbench nightly nightly --threads 2 --tag "100 %% \\"x\\" $$HOME"'
    assert lines["WorkingDirectory"] == "/srv/conv bench"
    assert lines["EnvironmentFile"] == "-/home/me/.config/convbench/nightly.env"
    assert lines["SuccessExitStatus"] == "4"
    assert lines["KillMode"] == "mixed"  # the workers hear nothing of it: a cell that was stopped did not crash


# cron ---------------------------------------------------------------------------------------------------------------------


def test_the_line_of_cron_runs_the_command_in_its_folder_with_the_secrets(tmp_path: Path) -> None:
    """What cron hands to sh: up to the first bare %, with \\% as %."""
    folder = tmp_path / "conv 100%"
    folder.mkdir()
    program, secrets = tmp_path / "convbench", tmp_path / "it's.env"
    program.write_text('#!/bin/sh\npwd; echo "$CONVBENCH_WEBHOOK_URL"; for word; do echo "<$word>"; done\nexit 3\n')
    program.chmod(0o755)
    secrets.write_text("CONVBENCH_WEBHOOK_URL=https://hooks.example/x\n")
    text = only(Kind.CRON, folder=folder, program=(str(program),), secrets=secrets)
    begin, line, end = text.splitlines()
    assert (begin.split(":")[0], end) == ("# convbench-nightly", "# convbench-nightly: end")
    fields, command = line.split(" ", 5)[:5], line.split(" ", 5)[5]
    assert fields == ["30", "2", "*", "*", "*"]
    assert "%" not in command.replace("\\%", "")
    done = subprocess.run(["/bin/sh", "-c", command.replace("\\%", "%")], env={"PATH": "/usr/bin:/bin"}, check=False)
    assert done.returncode == 3
    said = (folder / "reports" / "convbench-nightly.log").read_text().splitlines()
    words = ["nightly", "nightly", "--threads", "2", "--tag", '100 % "x" $HOME']
    assert said == [str(folder), "https://hooks.example/x", *(f"<{word}>" for word in words)]


def test_cron_accepts_the_line(tmp_path: Path) -> None:
    crontab = tool("crontab")
    path = tmp_path / "crontab"
    path.write_text(only(Kind.CRON))
    checked = subprocess.run([crontab, "-T", path], capture_output=True, text=True, check=False)
    if "invalid option" in checked.stderr:
        pytest.skip("this crontab has no -T: it cannot check a file without installing it")
    assert checked.returncode == 0, checked.stderr


# GitHub Actions -----------------------------------------------------------------------------------------------------------


def test_github_accepts_the_workflow(tmp_path: Path) -> None:
    pytest.importorskip(
        "check_jsonschema", reason="check-jsonschema is not installed: the workflow is not held against its schema"
    )
    path = tmp_path / "night.yml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    path.write_text(only(Kind.GITHUB))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    path.write_text(only(Kind.GITHUB).replace("runs-on:", "runs-at:"))
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 1


def test_the_workflow_measures_on_a_machine_of_ones_own_and_keeps_the_exit_code() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    found = yaml.safe_load(only(Kind.GITHUB))
    assert found[True]["schedule"] == [{"cron": "30 2 * * *"}]  # YAML 1.1 reads `on` as true
    night = found["jobs"]["nightly"]
    assert night["runs-on"] == ["self-hosted", "linux", "convbench"]
    measure, name, keep = night["steps"]
    assert measure["shell"] == "bash"  # GitHub's bash has pipefail
    assert measure["working-directory"] == "/srv/conv bench"
    assert measure["run"].endswith("""'100 % "x" $HOME' | tee "$RUNNER_TEMP/night.txt\"""")
    assert measure["env"]["CONVBENCH_WEBHOOK_URL"] == "${{ secrets.CONVBENCH_WEBHOOK_URL }}"
    assert (name["if"], keep["if"]) == ("always()", "always()")
    assert found["permissions"] == {"contents": "read"}


def test_an_expression_of_github_cannot_be_smuggled_in() -> None:
    with pytest.raises(ScheduleError, match="expression"):
        only(Kind.GITHUB, options=("--tag", "${{ secrets.X }}"))


# Kubernetes ---------------------------------------------------------------------------------------------------------------


def test_kubernetes_accepts_the_job() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: no schema to hold it against"
    )
    found = yaml.safe_load(only(Kind.KUBERNETES, gpus=1))
    validate.validate(found, "1.30", strict=True)
    del found["spec"]["schedule"]
    with pytest.raises(validate.ValidationError):
        validate.validate(found, "1.30", strict=True)


def test_the_job_never_runs_twice_and_has_no_quota_of_cpus() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    found = yaml.safe_load(only(Kind.KUBERNETES, options=("--tag", "$(HOME)"), image="registry/image:1", memory="16Gi"))
    spec, work = found["spec"], found["spec"]["jobTemplate"]["spec"]
    assert (spec["concurrencyPolicy"], work["backoffLimit"]) == ("Forbid", 0)
    pod = work["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["restartPolicy"] == "Never"
    assert container["command"] == ["/opt/venv/bin/convbench", "nightly", "nightly", "--tag", "$$(HOME)"]
    assert container["image"] == "registry/image:1"
    assert container["resources"] == {"requests": {"memory": "16Gi"}, "limits": {"memory": "16Gi"}}
    assert container["envFrom"] == [{"secretRef": {"name": "convbench-webhook", "optional": True}}]


# What no schedule can carry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["24:00", "2", "02:60", "half past two", "02:30\n"])
def test_a_time_that_is_none_is_refused(at: str) -> None:
    with pytest.raises(ScheduleError, match="a time of day such as 02:30"):
        job(at=at)


@pytest.mark.parametrize("field", [{"options": ("a\nb",)}, {"folder": Path("/a\nb")}, {"suite": "a\x1bb"}])
def test_what_would_begin_a_new_line_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ScheduleError, match="line breaks"):
        job(**field)


@pytest.mark.parametrize(
    ("suite", "name"),
    [("nightly", "convbench-nightly"), ("/a/My Suite_2.toml", "convbench-my-suite-2"), ("ü", "convbench-suite")],
)
def test_names_are_such_that_every_scheduler_allows(suite: str, name: str) -> None:
    assert job(suite=suite).name == name
    assert len(job(suite="x" * 80).name) <= 52


@pytest.mark.parametrize("text", ["plain-word_1.2:/a=b,c", "two words", 'a"b', "a'b", "50%", "$HOME", "back\\slash", "", ";"])
def test_systemd_reads_an_argument_back_as_it_was(text: str) -> None:
    """By systemd.service(5): double quotes with C escapes, %% and $$ for themselves."""
    said = manifests.systemd_word(text)
    if said.startswith('"'):
        assert said.endswith('"')
        said = said[1:-1].replace('\\"', '"')
    assert " " in text or '"' in text or text in ("", ";", "a'b") or not said.startswith('"')
    assert said.replace("\\\\", "\\").replace("$$", "$").replace("%%", "%") == text
