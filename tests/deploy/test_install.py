"""Installing a schedule: what is written and run, that doing it twice changes nothing, and a real cron where there is one."""

import subprocess
from pathlib import Path

import pytest

from harness.deploy import install
from harness.deploy.install import Command, Steps
from harness.deploy.manifests import Job, Kind
from harness.errors import ScheduleError
from tests.deploy.test_manifests import job


class Machine:
    """Programs that answer as told and keep what they were asked; its crontab is real enough."""

    def __init__(self, crontab: str | None = None, active: bool = False, broken: str = "") -> None:
        self.crontab, self.active, self.broken = crontab, active, broken
        self.asked: list[str] = []

    def __call__(self, command: Command) -> tuple[int, str, str]:
        self.asked.append(str(command))
        if self.broken and self.broken in str(command):
            return 1, "", "Failed to connect to bus:\nNo medium found\n"
        match command.words:
            case ("crontab", "-l"):
                return (1, "", "no crontab for me\n") if self.crontab is None else (0, self.crontab, "")
            case ("crontab", "-"):
                self.crontab = command.reads
            case (_, _, "is-active", *_):
                return (0 if self.active else 3), "", ""
            case (_, _, "enable", _):
                self.active = True
        return 0, "", ""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_the_timer_is_written_and_started_once(home: Path) -> None:
    machine = Machine()
    steps = install.plan(job(), Kind.SYSTEMD, machine)
    folder = home / "systemd" / "user"
    assert list(steps.files) == [folder / "convbench-nightly.service", folder / "convbench-nightly.timer"]
    assert not folder.exists()  # a plan writes nothing
    install.carry_out(steps, machine)
    assert machine.asked == [f"systemctl --user {words}" for words in (
        "daemon-reload", "enable convbench-nightly.timer", "restart convbench-nightly.timer",
    )]  # fmt: skip
    again = install.plan(job(), Kind.SYSTEMD, machine)
    assert (again.files, again.commands) == ({}, ())
    later = install.plan(job(at="03:00"), Kind.SYSTEMD, machine)
    assert [path.name for path in later.files] == ["convbench-nightly.timer"]
    assert later.commands == steps.commands


def test_a_program_that_fails_is_told_in_one_line(home: Path) -> None:
    machine = Machine(broken="daemon-reload")
    with pytest.raises(
        ScheduleError, match="systemctl --user daemon-reload: ended with code 1: Failed to connect to bus: No medium found"
    ):
        install.carry_out(install.plan(job(), Kind.SYSTEMD, machine), machine)
    with pytest.raises(ScheduleError, match="surely-not-there: not installed"):
        install.run(Command(("surely-not-there",)))


def test_a_line_joins_a_crontab_once_and_leaves_the_rest_alone() -> None:
    machine = Machine("# mine\n0 4 * * * backup\n")
    install.carry_out(install.plan(job(), Kind.CRON, machine), machine)
    lines = machine.crontab.splitlines()
    assert lines[:2] == ["# mine", "0 4 * * * backup"]
    assert len(lines) == 5
    assert install.plan(job(), Kind.CRON, machine).commands == ()
    install.carry_out(install.plan(job(at="03:15"), Kind.CRON, machine), machine)
    install.carry_out(install.plan(job(suite="other"), Kind.CRON, machine), machine)
    lines = machine.crontab.splitlines()
    assert [line.split()[:2] for line in lines if "nightly" in line and not line.startswith("#")] == [["15", "3"], ["30", "2"]]
    assert len(lines) == 8


def test_the_first_crontab_of_a_user() -> None:
    machine = Machine(None)
    install.carry_out(install.plan(job(), Kind.CRON, machine), machine)
    assert machine.crontab.startswith("# convbench-nightly: begin")


def test_a_crontab_that_cannot_be_read_or_was_mangled_is_left_alone() -> None:
    with pytest.raises(ScheduleError, match="crontab -l: ended with code 1"):
        install.plan(job(), Kind.CRON, Machine(broken="-l"))
    with pytest.raises(ScheduleError, match="without its end"):
        install.plan(job(), Kind.CRON, Machine("# convbench-nightly: begin\n0 4 * * * backup\n"))


@pytest.mark.parametrize("kind", [Kind.GITHUB, Kind.KUBERNETES])
def test_what_is_installed_elsewhere_says_how(kind: Kind) -> None:
    with pytest.raises(ScheduleError, match=f"convbench schedule show {kind}"):
        install.plan(job(), kind, Machine())


def test_steps_write_before_they_run(tmp_path: Path) -> None:
    seen = []
    path = tmp_path / "deep" / "unit"
    install.carry_out(Steps({path: "text"}, (Command(("x",)),)), lambda command: seen.append(path.read_text()) or (0, "", ""))
    assert seen == ["text"]


def test_a_real_program_reads_what_it_is_given() -> None:
    assert install.run(Command(("cat",), "lines\n")) == (0, "lines\n", "")
    assert isinstance(job(), Job)
    assert subprocess.run(["true"], check=False).returncode == 0
