"""schedule show and install, as they are typed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.deploy import install
from harness.deploy.install import Command
from harness.errors import UserError
from tests.deploy.test_install import Machine


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_show_prints_what_the_scheduler_reads(place: Path) -> None:
    said = CliRunner().invoke(app, ["schedule", "show", "systemd", "nightly", "--at", "03:05", "--", "--threads", "2"])
    assert said.exit_code == 0, said.output
    assert "# convbench-nightly.timer" in said.stdout
    assert "OnCalendar=*-*-* 03:05:00" in said.stdout
    assert "nightly nightly --threads 2\n" in said.stdout
    assert f"WorkingDirectory={place}" in said.stdout
    assert (
        'command:\n                - "convbench"' in CliRunner().invoke(app, ["schedule", "show", "kubernetes", "first"]).stdout
    )


def test_install_writes_nothing_in_a_dry_run_and_is_quiet_the_second_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(None)
    monkeypatch.setattr(install.plan, "__defaults__", (machine,))
    monkeypatch.setattr(install.carry_out, "__defaults__", (machine,))
    dry = CliRunner().invoke(app, ["schedule", "install", "cron", "nightly", "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "run crontab -\n# convbench-nightly: begin" in dry.stdout
    assert machine.crontab is None
    assert CliRunner().invoke(app, ["schedule", "install", "cron", "nightly"]).exit_code == 0
    assert machine.crontab is not None
    assert CliRunner().invoke(app, ["schedule", "install", "cron", "nightly"]).stdout == "already installed\n"
    said = CliRunner().invoke(app, ["schedule", "install", "systemd", "nightly"])
    assert [line.split("/")[-1] for line in said.stdout.splitlines()[:2]] == [
        "convbench-nightly.service", "convbench-nightly.timer",
    ]  # fmt: skip
    assert (place / "config" / "systemd" / "user" / "convbench-nightly.timer").is_file()
    assert machine(Command(("crontab", "-l")))[0] == 0


def test_a_suite_or_an_option_that_is_none_is_found_before_the_first_night() -> None:
    wrong = CliRunner().invoke(app, ["schedule", "show", "cron", "nigthly"])
    assert isinstance(wrong.exception, UserError)
    assert "nigthly" in str(wrong.exception)
    option = CliRunner().invoke(app, ["schedule", "show", "cron", "nightly", "--", "--thread", "2"])
    assert option.exit_code == 2
    assert "--thread" in option.stderr
    assert isinstance(CliRunner().invoke(app, ["schedule", "install", "github", "nightly"]).exception, UserError)
