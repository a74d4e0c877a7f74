import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.measure import witness
from harness.measure.witness import Company, Others, RunDelay, busy_ns, ran_ns, siblings, steal_ns, unseen

OWN = 100


class Proc:
    """A /proc of our own making: every thread has a schedstat of time run, time waited and slices."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def task(self, thread: int, process: int | str = "self") -> Path:
        return self.root / str(process) / "task" / str(thread)

    def say(self, thread: int, *, ran: int = 1, waited: int = 0, process: int | str = "self") -> None:
        self.write(thread, f"{ran} {waited} 17\n", process)

    def write(self, thread: int, text: str, process: int | str = "self") -> None:
        task = self.task(thread, process)
        task.mkdir(parents=True, exist_ok=True)
        (task / "schedstat").write_text(text)

    def end(self, thread: int, process: int | str = "self") -> None:
        (self.task(thread, process) / "schedstat").write_text("")  # what an open file of a dead thread no longer gives
        shutil.rmtree(self.task(thread, process))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    found = Proc(tmp_path / "proc")
    found.say(1, ran=5_000_000, process=1)
    return found


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def no_leak() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() == before


# Our own threads ----------------------------------------------------------------------------------------------------------


def test_run_delay_is_the_sum_over_the_threads_since_the_start(proc: Proc) -> None:
    proc.say(1, ran=5_000, waited=1_000)
    proc.say(2, ran=6_000, waited=2_000)
    delay = RunDelay(proc.root)
    assert delay.read() == 0
    proc.say(1, ran=9_000, waited=1_300)
    proc.say(2, ran=9_000, waited=2_050)
    assert delay.read() == 350
    proc.say(2, ran=9_000, waited=2_060)
    assert delay.read() == 360
    delay.close()


def test_a_thread_that_was_born_counts_from_the_refresh_that_found_it(proc: Proc) -> None:
    proc.say(1, waited=10)
    delay = RunDelay(proc.root)
    proc.say(2, waited=5_000)
    assert delay.read() == 0
    delay.refresh()
    assert delay.read() == 0
    proc.say(2, waited=5_007)
    assert delay.read() == 7
    delay.close()


@pytest.mark.usefixtures("no_leak")
def test_what_a_thread_had_waited_stays_when_it_ends(proc: Proc) -> None:
    proc.say(1, waited=0)
    proc.say(2, waited=0)
    delay = RunDelay(proc.root)
    proc.say(2, waited=40)
    assert delay.read() == 40
    proc.end(2)
    proc.say(1, waited=2)
    assert delay.read() == 42
    delay.refresh()
    assert delay.read() == 42
    delay.close()


def test_a_thread_number_used_again_starts_anew(proc: Proc) -> None:
    proc.say(1)
    proc.say(2, waited=900)
    delay = RunDelay(proc.root)
    proc.end(2)
    assert delay.read() == 0
    proc.say(2, waited=50)
    delay.refresh()
    proc.say(2, waited=53)
    assert delay.read() == 3
    delay.close()


@pytest.mark.usefixtures("no_leak")
@pytest.mark.parametrize("text", ["", "garbage", "12", "12 x 3", "\n"])
def test_a_thread_that_says_garbage_is_passed_over(proc: Proc, text: str) -> None:
    proc.say(1, waited=10)
    proc.write(2, text)
    delay = RunDelay(proc.root)
    proc.say(1, waited=15)
    proc.say(2, waited=1_000)  # too late: it was not understood when it was looked at
    assert delay.read() == 5
    delay.close()


@pytest.mark.usefixtures("no_leak")
def test_garbage_everywhere_is_not_a_run_delay_of_zero(proc: Proc) -> None:
    proc.write(1, "garbage")
    delay = RunDelay(proc.root)
    assert delay.read() is None
    delay.close()


def test_a_kernel_that_does_not_tell(proc: Proc) -> None:
    proc.task(1).mkdir(parents=True)  # a task without schedstat
    assert RunDelay(proc.root).read() is None
    assert RunDelay(proc.root / "nowhere").read() is None


def test_close_leaves_no_file_open(proc: Proc) -> None:
    before = open_files()
    for thread in range(5):
        proc.say(thread)
    delay = RunDelay(proc.root)
    assert open_files() == before + 5
    delay.close()
    assert open_files() == before


def test_this_process_is_read_without_going_back() -> None:
    delay = RunDelay()
    readings = [delay.read() for _ in range(20)]
    delay.close()
    assert all(reading is None for reading in readings) or readings == sorted(readings)


# The threads of others ----------------------------------------------------------------------------------------------------


def test_others_that_run_are_counted_from_the_look_that_found_them_active(proc: Proc) -> None:
    proc.say(7, ran=1_000, process=7)
    others = Others(proc.root, OWN)
    assert others.read() == 0
    proc.say(7, ran=501_000, process=7)
    assert others.read() == 0  # not watched yet
    others.refresh(since_ns=1_000_000)
    proc.say(7, ran=501_900, process=7)
    assert others.read() == 900
    others.close()


def test_others_that_do_next_to_nothing_are_not_watched(proc: Proc) -> None:
    proc.say(7, ran=0, process=7)
    proc.say(8, ran=0, process=8)
    others = Others(proc.root, OWN)
    proc.say(7, ran=4_000, process=7)
    proc.say(8, ran=6_000, process=8)
    others.refresh(since_ns=1_000_000)  # half a percent is 5000 ns
    proc.say(7, ran=1_000_000, process=7)
    proc.say(8, ran=6_001, process=8)
    assert others.read() == 1
    others.close()


def test_the_other_workers_of_the_run_are_not_others(proc: Proc) -> None:
    """They are started by the same parent; one that comes later is left out as well."""
    parent, stranger = 7_000, 7_003
    proc.say(parent, process=parent)
    children = proc.task(parent, parent) / "children"
    children.write_text(f"{OWN} 7001 ")
    everybody = (7_001, 7_002, stranger)
    for process in everybody:
        proc.say(process, ran=0, process=process)
    others = Others(proc.root, OWN, lambda: siblings(proc.root, parent))
    children.write_text(f"{OWN} 7001 7002 ")
    for ran in (50_000_000, 60_000_000):
        for process in everybody:
            proc.say(process, ran=ran, process=process)
        if ran == 50_000_000:
            others.refresh(since_ns=100_000_000)
    assert others.read() == 10_000_000
    others.close()
    assert siblings(proc.root, 9_999) == set()


def test_our_own_threads_are_not_others(proc: Proc) -> None:
    proc.say(1, ran=0, process=OWN)
    proc.say(7, ran=0, process=7)
    others = Others(proc.root, OWN)
    proc.say(1, ran=900_000, process=OWN)
    others.refresh(since_ns=1_000_000)
    proc.say(1, ran=1_900_000, process=OWN)
    assert others.read() == 0
    others.close()


def test_every_thread_of_another_process_is_looked_at(proc: Proc) -> None:
    for thread in (7, 70):
        proc.say(thread, ran=0, process=7)
    others = Others(proc.root, OWN)
    for thread in (7, 70):
        proc.say(thread, ran=100_000, process=7)
    others.refresh(since_ns=1_000_000)
    for thread in (7, 70):
        proc.say(thread, ran=100_010, process=7)
    assert others.read() == 20
    others.close()


def test_a_process_that_began_since_the_last_look_is_watched(proc: Proc) -> None:
    proc.say(7, process=7)
    others = Others(proc.root, OWN)
    proc.say(8, ran=300_000, process=8)
    others.refresh(since_ns=1_000_000)
    proc.say(8, ran=300_500, process=8)
    assert others.read() == 500
    others.close()


@pytest.mark.usefixtures("no_leak")
def test_what_others_ran_stays_when_they_end(proc: Proc) -> None:
    proc.say(7, process=7)
    proc.say(8, process=8)
    others = Others(proc.root, OWN)
    proc.say(8, ran=300_000, process=8)
    others.refresh(since_ns=1_000_000)
    proc.say(8, ran=300_500, process=8)
    assert others.read() == 500
    proc.end(8, process=8)
    assert others.read() == 500
    others.refresh(since_ns=1_000_000)
    assert others.read() == 500
    others.close()


def test_where_no_other_process_can_be_seen_nothing_is_told(proc: Proc) -> None:
    proc.say(1, process=OWN)
    proc.end(1, process=1)
    assert Others(proc.root, OWN).read() is None


def mounted(proc: Proc, options: str) -> None:
    """The mounts of this process, its /proc the second of them to be mounted there."""
    mounts = f"proc /proc proc rw,hidepid=1 0 0\nproc /proc proc rw,nosuid,relatime{options} 0 0\ntmpfs /tmp tmpfs rw 0 0\n"
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "mounts").write_text(mounts)


@pytest.mark.parametrize("mode", ["1", "2", "4", "noaccess", "invisible", "ptraceable"])
def test_of_hidden_processes_nothing_is_told_and_not_that_they_ran_for_0_ns(
    proc: Proc, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [1000])
    proc.say(7, ran=0, process=7)  # another one of this user, which can be seen
    proc.say(9, process="self")
    shutil.rmtree(proc.root / "1" / "task" / "1") if mode in ("1", "noaccess") else shutil.rmtree(proc.root / "1")
    mounted(proc, f",hidepid={mode}")
    others = Others(proc.root, OWN)
    proc.say(7, ran=900_000, process=7)
    others.refresh(since_ns=1_000_000)
    assert others.read() is None
    assert unseen(proc.root) == f"/proc hides the processes of other users (mounted with hidepid={mode})"
    others.close()


@pytest.mark.fault("process 1 is this user's own under hidepid", "the mount and its group decide")
def test_a_process_1_of_this_user_does_not_prove_that_others_can_be_seen(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [1000, 27])
    owner = (proc.root / "1").stat().st_uid
    for user, options, hides in (
        (owner or 1000, ",hidepid=2", owner != 0),
        (0, ",hidepid=2", False),  # to root nothing is hidden
        (owner or 1000, ",hidepid=2,gid=27", False),  # nor to the group
        (owner or 1000, ",hidepid=4,gid=27", owner != 0),  # but by this mode
        (owner or 1000, ",hidepid=0", False),
        (owner or 1000, ",hidepid=off", False),
        (owner or 1000, "", False),
    ):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        mounted(proc, options)
        assert bool(unseen(proc.root)) == hides, (user, options)


def test_hidden_by_the_mount_alone(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.stat_result((0, 0, 0, 0, 1000, 1000, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda path: found)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [1000])
    mounted(proc, ",hidepid=invisible")
    assert unseen(proc.root).endswith("(mounted with hidepid=invisible)")


@pytest.mark.fault("the kernel's schedstat says only 0", 'the reading is "not measured"')
def test_a_kernel_that_tells_no_times_is_not_one_on_which_nobody_ran(proc: Proc) -> None:
    proc.say(7, ran=0, process=7)
    proc.say(1, ran=0, process=1)  # CONFIG_TASK_DELAY_ACCT, switched off
    assert unseen(proc.root) == "this kernel says of every process that it ran for 0 ns"
    assert Others(proc.root, OWN).read() is None
    shutil.rmtree(proc.root / "1" / "task")
    assert unseen(proc.root) == "this kernel does not tell how long a process ran"
    (proc.root / "self").mkdir()
    (proc.root / "self" / "schedstat").write_text("5 0 1\n")
    assert "process 1 cannot be looked into" in unseen(proc.root)


def test_a_run_delay_of_threads_that_never_ran_is_none(proc: Proc) -> None:
    proc.say(1, ran=0)
    delay = RunDelay(proc.root)
    assert delay.read() is None
    delay.close()


@pytest.mark.fault("/proc is mounted with hidepid", 'what others ran is "not measured", never 0')
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="takes root, to mount")
def test_a_real_proc_that_hides_processes_is_found_out_and_root_sees_through_it() -> None:
    ask = "print(repr(witness.unseen()), witness.Others().read())"
    leave = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    code = f"import os; from harness.measure import witness; {ask}; {leave}; {ask}"
    shell = f"mount -t proc -o hidepid=2 proc /proc && {sys.executable} -P -c '{code}'; exit $?"
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", shell]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode and ("mount:" in said.stderr or "unshare:" in said.stderr):
        pytest.skip(f"this sandbox lets nobody mount /proc: {said.stderr.strip()}")
    root, other = said.stdout.splitlines()
    assert root == "'' 0"
    assert "mounted with hidepid=" in other
    assert other.endswith(" None")


def test_what_is_no_process_is_passed_over(proc: Proc) -> None:
    proc.say(1, process="self")
    (proc.root / "cpuinfo").write_text("model name: some\n")
    (proc.root / "9").write_text("no folder")
    proc.write(8, "garbage", process=8)
    assert list(ran_ns(proc.root, OWN)) == [(proc.task(1, 1), 5_000_000)]


# Stolen time --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stat(tmp_path: Path) -> Path:
    return tmp_path / "stat"


def test_steal_is_the_eighth_number_of_all_cpus_in_ticks(stat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "_TICK_NS", 10_000_000)
    stat.write_text("cpu  1 2 3 4 5 6 7 42 9 10\ncpu0 1 2 3 4 5 6 7 99 9 10\n")
    assert steal_ns(stat) == 420_000_000


@pytest.mark.parametrize("text", ["cpu  1 2 3 4 5 6 7\n", "", "cpu 1 2 3 4 5 6 7 many\n"])
def test_a_kernel_that_does_not_tell_steal(stat: Path, text: str) -> None:
    stat.write_text(text)
    assert steal_ns(stat) is None


def test_how_long_cpus_were_busy_is_all_but_idle_iowait_and_stolen_time(stat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "_TICK_NS", 10_000_000)
    stat.write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 400 500 6 7 800 0 0\ncpu2 10 0 0 0 0 0 0 0 0 0\nintr 5\n")
    assert busy_ns([0], stat) == 190_000_000
    assert busy_ns([0, 2], stat) == 290_000_000
    assert busy_ns([0, 1], stat) is None


def test_times_that_are_all_0_are_no_times(stat: Path) -> None:
    stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n")  # gVisor
    assert steal_ns(stat) is None
    assert busy_ns([0], stat) is None


def test_no_stat_file(stat: Path) -> None:
    assert steal_ns(stat) is None


# Others on a GPU ----------------------------------------------------------------------------------------------------------


def companies(*looks: set[int], ours: frozenset[str] = frozenset({"101", "102"})) -> list[int]:
    """How many others there are by each of these lists of processes."""
    listed = iter(looks)
    company = Company(lambda: next(listed), lambda: ours, OWN)
    return [company() for _ in looks]


def test_others_on_a_gpu_are_all_that_are_neither_this_process_nor_a_worker_of_the_run() -> None:
    assert companies({OWN, 101}, {OWN, 101, 7}, {OWN, 7, 8, 102}, {OWN}) == [0, 1, 2, 0]
    assert companies({OWN, 101, 7}, {OWN, 101, 7}) == [1, 1]  # from the first look on


@pytest.mark.fault("a container hides the ids of processes on the GPU", "those that come later are counted")
def test_where_processes_bear_other_numbers_those_count_that_came_since() -> None:
    """As in a container, where NVML gives the numbers of the host."""
    assert companies({901, 902, 903}, {901, 902, 903, 904}, {901, 902, 903}) == [0, 1, 0]
    assert companies({901, 902}, {901, 902, 903}) == [0, 1]  # one of ours does not compute there
    assert companies({901, 902, 903, 904}, {901, 902, 903, 904}) == [0, 0]  # who was there before is not seen


def test_a_worker_that_ends_or_begins_is_no_company() -> None:
    ours = {"101", "102"}
    looks = [{901, 902, 903}, {901, 902}, {901, 902, 904}, {901, 902, 904, 905}]
    company = Company(lambda: looks.pop(0), lambda: ours, OWN)
    assert company() == 0
    ours.discard("102")
    assert company() == 0
    ours.add("103")
    assert [company(), company()] == [0, 1]


def test_where_nvml_lists_none_there_is_nobody() -> None:
    assert companies(set(), set(), {OWN, 101}, set()) == [0, 0, 0, 0]
