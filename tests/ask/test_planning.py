import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.ask import planning, suite
from harness.ask.selection import Selection, narrow
from harness.ask.suite import Suite, Workload
from harness.axes import Autotune, Cache, Device, Direction, Layout, Mode, Optimizer, Precision
from harness.cli.options import lacking
from harness.errors import SelectionError
from harness.plan import Budget, Plan, Step
from harness.spec import Cell, ConvSpec, CopySpec, GemmSpec

CPU, GPU = Device("cpu"), Device("gpu")
FOUND = {"torch": (CPU, GPU), "tensorflow": (CPU,), "jax": (CPU,), "numpy": (CPU,)}
CPU_ONLY = dict.fromkeys(FOUND, (CPU,))


@pytest.fixture(scope="module")
def smoke() -> Suite:
    return suite.load("smoke")


@pytest.fixture(scope="module")
def wide(smoke: Suite) -> Suite:
    """Every axis has two values or more."""
    return replace(
        smoke,
        axes=replace(
            smoke.axes,
            layout=tuple(Layout),
            mode=(Mode.EAGER, Mode.COMPILED),
            optimizer=tuple(Optimizer),
            threads=(0, 1),
        ),
        budget=replace(smoke.budget, trials=3),
    )


def test_the_reference_takes_part_only_where_it_is_named(smoke: Suite) -> None:
    assert {cell.backend for cell in planning.cells(smoke, CPU_ONLY)} == {"jax", "tensorflow", "torch"}
    named = narrow(smoke, Selection(axes={"backend": ["numpy", "torch"]}))
    assert {cell.backend for cell in planning.cells(named, CPU_ONLY)} == {"numpy", "torch"}
    joined = narrow(smoke, Selection(backends=("numpy",)))
    assert len({cell.backend for cell in planning.cells(joined, CPU_ONLY)}) == 4


def test_open_devices_are_those_that_each_backend_has(smoke: Suite) -> None:
    pairs = {(cell.backend, str(cell.device)) for cell in planning.cells(smoke, FOUND)}
    assert pairs == {("torch", "cpu"), ("torch", "gpu:0"), ("tensorflow", "cpu"), ("jax", "cpu")}


def test_what_is_named_gets_cells_even_where_it_was_not_found(smoke: Suite) -> None:
    named = narrow(smoke, Selection(axes={"backend": ["absent", "jax"]}))
    assert {(cell.backend, str(cell.device)) for cell in planning.cells(named, FOUND)} == {("absent", "cpu"), ("jax", "cpu")}
    on_gpu = narrow(named, Selection(axes={"device": ["gpu"]}))
    assert {(cell.backend, cell.device) for cell in planning.cells(on_gpu, FOUND)} == {("absent", GPU), ("jax", GPU)}


def test_the_optimizer_concerns_train_only(wide: Suite) -> None:
    cells = planning.cells(wide, FOUND)
    assert {cell.optimizer for cell in cells if cell.direction is Direction.TRAIN} == set(Optimizer)
    assert {cell.optimizer for cell in cells if cell.direction is not Direction.TRAIN} == {None}
    assert len(cells) == len(set(cells)) == len(set(map(str, cells))) == 3 * (4 + 2) * 4 * 2 * 2 * 2


def test_cells_carry_the_count(smoke: Suite) -> None:
    resnet = suite.load("resnet50")
    counts = {cell.workload: cell.count for cell in planning.cells(resnet, CPU_ONLY)}
    assert sum(counts.values()) == 53


@pytest.mark.parametrize(
    ("selection", "found", "words"),
    [
        (Selection(), {}, ["no cell is left", "no backend is installed"]),
        (Selection(), {"numpy": (CPU,)}, ["no cell is left", "no backend is installed"]),
        (Selection(keyword="nothing_like_it"), CPU_ONLY, ["-k", "'nothing_like_it'", "none of 102 cells", "example/fprop/"]),
        (Selection(axes={"workload": ["rn50_*"], "direction": ["train"]}), CPU_ONLY, ["no cell is left", "excluded"]),
    ],
)
def test_no_cell_left_is_a_mistake(selection: Selection, found: dict[str, tuple[Device, ...]], words: list[str]) -> None:
    asked = suite.load("first")
    if "-k" not in words and not selection.axes:
        asked = replace(asked, axes=replace(asked.axes, backend=None))
    with pytest.raises(SelectionError) as caught:
        planning.cells(narrow(asked, selection), found)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


ABSENT = {name: f"pip install 'convbench[{name}]'" for name in ("jax", "tensorflow")}
HERE = {"torch": (CPU,), "numpy": (CPU,)}


def test_where_no_backend_is_left_what_installs_one_is_named(smoke: Suite) -> None:
    told = r"no backend is installed that could be measured: pip install 'convbench\[jax\]' or 'convbench\[tensorflow\]'$"
    with pytest.raises(SelectionError, match=told):
        planning.cells(smoke, {"numpy": (CPU,)}, ABSENT)


def test_what_is_not_installed_is_planned_once_and_takes_no_time(beside: Suite) -> None:
    first = suite.load("first")
    plan = planning.plan(first, HERE, 1, beside, absent=ABSENT)
    assert plan.absent == {name: ABSENT[name] for name in ("tensorflow", "jax")}
    trials = {
        name: Counter(step.trial for step in plan if step.cell.is_convolution and step.cell.backend == name)
        for name in ("torch", "tensorflow", "jax")
    }
    assert trials == {"torch": dict.fromkeys(range(4), 34), "tensorflow": {0: 34}, "jax": {0: 34}}
    assert {step.cell.backend for step in plan.measurable} == {"torch"}
    alone = planning.plan(narrow(first, Selection(axes={"backend": ["torch"]})), HERE, 1, beside)
    assert planning.estimate(plan, 2) == pytest.approx(planning.estimate(alone, 2))


def test_a_twin_is_absent_as_its_backend_is_unless_it_has_an_interpreter_of_its_own(smoke: Suite) -> None:
    asked = replace(smoke, standard="pinned", axes=replace(smoke.axes, backend=("torch", "jax")))
    assert set(planning.plan(asked, HERE, 1, absent=ABSENT).absent) == {"jax", "jax@pinned"}
    assert set(planning.plan(asked, HERE, 1, twin="aa", absent=ABSENT).absent) == {"jax", "jax@aa"}
    own = replace(asked, interpreters={"jax@pinned": "/env/bin/python"})
    assert set(planning.plan(own, HERE, 1, absent=ABSENT).absent) == {"jax"}
    assert planning.plan(narrow(asked, Selection(axes={"backend": ["torch"]})), HERE, 1, absent=ABSENT).absent == {}


def test_which_backends_are_not_installed_in_words() -> None:
    assert planning.not_installed(ABSENT) == "jax and tensorflow are not installed"
    assert planning.not_installed({"jax": "", "jax@pinned": "", "jax@aa": ""}) == "jax is not installed"
    assert planning.not_installed({"torch@old": ""}) == "torch@old is not installed"
    assert lacking({"jax": "a", "jax@old": "a"}) == ["  jax: not installed: a"]
    assert lacking({"torch@old": "b"}) == ["  torch@old: not installed: b"]  # torch itself is there
    assert planning.remedy({**ABSENT, "jax@aa": ABSENT["jax"], "mine": "pip install mine"}) == (
        "pip install 'convbench[jax]', 'convbench[tensorflow]' or mine"
    )


@pytest.mark.fault("no framework is installed", "one line names what installs it, and nothing is measured or stored")
def test_a_plan_of_what_is_not_installed_is_refused(smoke: Suite) -> None:
    asked = narrow(smoke, Selection(axes={"backend": ["jax", "tensorflow"]}))
    told = r"no cell can be measured: jax and tensorflow are not installed: pip install 'convbench\[jax\]' or 'convbench"
    with pytest.raises(SelectionError, match=told):
        planning.refuse_unmeasurable(planning.plan(asked, HERE, 1, absent=ABSENT))
    planning.refuse_unmeasurable(planning.plan(narrow(smoke, Selection(backends=("jax",))), HERE, 1, absent=ABSENT))


def test_a_malformed_keyword_is_a_mistake_here_too(smoke: Suite) -> None:
    with pytest.raises(SelectionError, match="-k: 'a b': character 3"):
        planning.cells(replace(smoke, keyword="a b"), CPU_ONLY)


def test_the_seed_alone_decides(wide: Suite) -> None:
    once = planning.plan(wide, FOUND, 7)
    assert once == planning.plan(wide, dict(reversed(FOUND.items())), 7)
    assert once != planning.plan(wide, FOUND, 8)
    assert (once.suite, once.seed, once.budget) == ("smoke", 7, wide.budget)


def test_a_twin_of_every_cell_is_its_neighbour(wide: Suite) -> None:
    once, twice = planning.plan(wide, FOUND, 5), planning.plan(wide, FOUND, 5, twin="aa")
    names = [cell.backend for cell in twice.cells]
    assert sorted(names) == sorted([*(cell.backend for cell in once.cells), *(f"{cell.backend}@aa" for cell in once.cells)])
    assert {replace(cell, backend=cell.backend.removesuffix("@aa")) for cell in twice.cells} == set(once.cells)
    assert len(twice) == 2 * len(once)


def runs(steps: list[Step], key: object) -> list[object]:
    """The values of `key` in order, neighbours that are alike counted once."""
    return [value for value, _ in itertools.groupby(steps, key)]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**64))
def test_what_will_be_compared_are_neighbours(wide: Suite, seed: int) -> None:
    plan = planning.plan(wide, FOUND, seed)
    assert [step.order for step in plan] == list(range(len(plan)))
    assert runs(list(plan), lambda step: step.trial) == [0, 1, 2]
    for trial in range(3):
        steps = [step for step in plan if step.trial == trial]
        assert sorted(map(str, (step.cell for step in steps))) == sorted(map(str, planning.cells(wide, FOUND)))
        levels = (
            lambda step: (step.cell.device, step.cell.threads),
            lambda step: (step.cell.device, step.cell.threads, step.cell.workload),
            lambda step: (step.cell.device, plan.group(step.cell)),
        )
        for level in levels:
            groups = runs(steps, level)
            assert len(groups) == len(set(groups))


def plans_of_one(wide: Suite) -> list[Plan]:
    """Plans of which the first six steps are of one group: three backends in two modes, and in two layouts."""
    return [planning.plan(wide, CPU_ONLY, seed) for seed in range(20)]


def test_every_level_is_shuffled(wide: Suite) -> None:
    plans = [planning.plan(wide, FOUND, seed) for seed in range(20)]
    for key in (
        lambda cell: (cell.device, cell.threads),
        lambda cell: cell.workload,
        lambda cell: (cell.direction, cell.layout),
        lambda cell: (cell.backend, cell.mode),
    ):
        assert len({key(plan.steps[0].cell) for plan in plans}) > 1
    compared = {tuple((step.cell.backend, step.cell.mode) for step in plan.steps[:6]) for plan in plans_of_one(wide)}
    assert len(compared) > 10
    trials = [[step.cell for step in plans[0] if step.trial == trial] for trial in range(3)]
    assert trials[0] != trials[1] != trials[2] != trials[0]


# Matrix products and copies -----------------------------------------------------------------------------------------------

PRODUCT, MOVE = Workload("product", GemmSpec(2, 3, 4)), Workload("move", CopySpec(64))


@pytest.fixture(scope="module")
def beside(smoke: Suite) -> Suite:
    """A suite of ceilings with nothing but modes stated."""
    return replace(
        smoke, workloads=(PRODUCT, MOVE), axes=replace(smoke.axes, mode=(Mode.EAGER,)), stated=frozenset({"mode"}), excludes=()
    )


def test_what_is_no_convolution_has_the_axes_that_concern_it_alone(wide: Suite) -> None:
    axes = replace(wide.axes, precision=(Precision.FP64, Precision.BF16), cache=tuple(Cache))
    cells = planning.cells(replace(wide, workloads=(PRODUCT, MOVE), axes=axes), {"torch": (CPU, GPU)})
    assert {cell.direction for cell in cells} == {Direction.NONE}
    assert {(cell.cache, cell.optimizer, cell.layout) for cell in cells} == {(Cache.HOT, None, Layout.CHANNELS_LAST)}
    assert len(set(cells)) == len(cells)
    products, copies = ([cell for cell in cells if cell.workload == each.name] for each in (PRODUCT, MOVE))
    assert {cell.spec for cell in products} == {PRODUCT.spec}
    assert {cell.precision for cell in products} == {Precision.FP64, Precision.BF16}
    assert len(products) == 2 * 2 * 2 * 2  # devices, modes, threads, precisions
    assert {cell.precision for cell in copies} == {Precision.FP32}
    assert len(copies) == 2 * 2 * 2


@pytest.mark.parametrize("conditions", [(("direction", ("none",)),), (("layout", ("NHWC",)),), (("device", ("cpu",)),)])
def test_excludes_of_what_it_has_not_leave_it_in(beside: Suite, conditions: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    cells = planning.cells(replace(beside, excludes=(suite.Exclude(conditions),)), {"torch": (CPU, GPU)})
    assert {str(cell.device) for cell in cells} == ({"gpu:0"} if conditions[0][0] == "device" else {"cpu", "gpu:0"})


def joined(asked: Suite, beside: Suite, found: dict[str, tuple[Device, ...]] = FOUND) -> set[str]:
    return {str(cell) for cell in planning.ceilings(planning.cells(asked, found), beside, found)}


def test_ceilings_follow_the_cells_that_are_held_against_them(smoke: Suite, beside: Suite) -> None:
    axes = replace(
        smoke.axes, backend=("torch", "jax"), precision=(Precision.FP32, Precision.BF16), threads=(1,), device=(CPU,)
    )
    asked = replace(smoke, axes=axes, excludes=(suite.Exclude((("backend", ("jax",)), ("precision", ("bf16",)))),))
    assert joined(asked, beside) == {
        "product/none/torch/eager/cpu/fp32/nhwc/hot/t1",
        "product/none/torch/eager/cpu/bf16/nhwc/hot/t1",
        "product/none/jax/eager/cpu/fp32/nhwc/hot/t1",
        "move/none/torch/eager/cpu/fp32/nhwc/hot/t1",
        "move/none/jax/eager/cpu/fp32/nhwc/hot/t1",
    }


def test_ceilings_are_not_asked_of_what_was_not_found(smoke: Suite, beside: Suite) -> None:
    asked = replace(smoke, axes=replace(smoke.axes, backend=("torch", "absent"), device=(CPU, Device("gpu", 3))))
    assert {cell.split("/")[2] + " " + cell.split("/")[4] for cell in joined(asked, beside)} == {"torch cpu"}


def test_ceilings_obey_what_they_state_and_exclude_themselves(smoke: Suite, beside: Suite) -> None:
    stating = replace(beside, axes=replace(beside.axes, backend=("jax",)), stated=beside.stated | {"backend"})
    assert {cell.split("/")[2] for cell in joined(smoke, stating)} == {"jax"}
    excluding = replace(beside, excludes=(suite.Exclude((("device", ("gpu",)),)),))
    assert {cell.split("/")[4] for cell in joined(smoke, excluding)} == {"cpu"}


def test_ceilings_leave_a_name_to_the_suite_that_has_it(smoke: Suite, beside: Suite) -> None:
    own = replace(smoke, workloads=(*smoke.workloads, replace(MOVE, name="product")))
    assert {cell.split("/")[0] for cell in joined(own, beside)} == {"move"}
    assert joined(replace(smoke, workloads=(PRODUCT,)), beside) == set()  # no convolution, nothing to be held against them


def test_a_keyword_concerns_the_suite_and_not_its_ceilings(smoke: Suite, beside: Suite) -> None:
    plan = planning.plan(replace(smoke, keyword="tiny_1x1 and wgrad and jax"), FOUND, 1, beside)
    assert sorted(map(str, plan.cells)) == [
        "move/none/jax/eager/cpu/fp32/nhwc/hot/t0",
        "product/none/jax/eager/cpu/fp32/nhwc/hot/t0",
        "tiny_1x1/wgrad/jax/eager/cpu/fp32/nhwc/hot/t0",
    ]


def test_ceilings_are_measured_in_the_first_trial(wide: Suite, beside: Suite) -> None:
    plan = planning.plan(wide, FOUND, 1, beside)
    each = [{step.cell for step in plan if step.trial == trial and step.cell.direction is Direction.NONE} for trial in range(3)]
    assert each[1] == each[2] == set()
    assert len(each[0]) == 2 * 4 * 2  # workloads; torch on two devices and two backends on one; threads
    # In the middle of the rest: a round of workers is not left for them.
    rounds = runs(list(plan), lambda step: (step.trial, step.cell.device, step.cell.threads))
    assert len(rounds) == 3 * 4


# Estimates ----------------------------------------------------------------------------------------------------------------

DEFAULT = Budget()
SPEC = ConvSpec(1, 64, 64, (56, 56), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))


def planned(*cells: Cell, budget: Budget = DEFAULT, trials: int = 1) -> Plan:
    pairs = [(trial, cell) for trial in range(trials) for cell in cells]
    return Plan("s", tuple(Step(trial, order, cell) for order, (trial, cell) in enumerate(pairs)), 0, budget)


CELL = Cell("w", SPEC, Direction.FPROP, "torch")


def test_the_estimate_by_hand() -> None:
    # 231 MFLOP at 20 GFLOP/s: 11.6 ms a call; a visit is 0.05 s and 0.025 s, and there are ten; 0.1 s of warm-up.
    start, again, call = planning.WORKERS_START_S, planning.COMPILED_BEFORE_S, 2 * 64 * 64 * 56 * 56 * 9 / 20e9
    prepare, visits = planning.STEP_OVERHEAD_S + 6 * call, 10 * 0.075
    assert planning.estimate(planned(CELL), 1) == pytest.approx(start + 2 * prepare + 0.1 + visits)
    compiled = planned(replace(CELL, mode=Mode.COMPILED))
    once = start + 2 * prepare + planning.COMPILE_S + 0.1 + visits
    assert planning.estimate(compiled, 1) == pytest.approx(once)
    on_gpu = planned(replace(CELL, device=GPU))  # 250 times as fast; and two blocks of throughput in each visit
    gpu_s = start + 2 * planning.STEP_OVERHEAD_S + 12 * call / 250 + 0.5 + visits + 10 * 2 * 0.05
    assert planning.estimate(on_gpu, 1) == pytest.approx(gpu_s)
    # Two processes' worth of threads are a round of their own.
    on_two, on_one = (2 * (planning.STEP_OVERHEAD_S + 6 * call / cores) + 0.1 + visits for cores in (2, 1))
    assert planning.estimate(planned(CELL, replace(CELL, threads=1)), 2) == pytest.approx(2 * start + on_two + on_one)
    # Only the first trial has it alone before.
    assert planning.estimate(planned(CELL, trials=3), 1) == pytest.approx(3 * (start + prepare + 0.1 + visits) + prepare)
    # What was compiled in it is found by those after it, on a CPU.
    thrice = planned(replace(CELL, mode=Mode.COMPILED), trials=3)
    assert planning.estimate(thrice, 1) == pytest.approx(once + 2 * (start + prepare + again + 0.1 + visits))
    thrice_on_gpu = planned(replace(CELL, mode=Mode.COMPILED, device=GPU), trials=3)
    prepare_s = planning.STEP_OVERHEAD_S + 6 * call / 250
    assert planning.estimate(thrice_on_gpu, 1) == pytest.approx(3 * (gpu_s - prepare_s + planning.COMPILE_S) + prepare_s)


def test_the_estimate_has_the_profiles_that_are_asked_for() -> None:
    pairs = itertools.product(("stem", "last"), ("torch", "torch@pinned", "jax"))
    cells = [replace(CELL, workload=name, backend=backend) for name, backend in pairs]
    plain = replace(planned(*cells, trials=2), absent={"jax": "pip install jax"})
    for expression, many in ((None, 0), ("", 2), ("stem", 1), ("jax", 0)):
        more_s = planning.estimate(replace(plain, profile=expression), 2) - planning.estimate(plain, 2)
        assert more_s == pytest.approx(many * planning.PROFILE_S)


def test_the_estimate_of_a_copy_is_its_traffic() -> None:
    beside = planning.WORKERS_START_S + 2 * planning.STEP_OVERHEAD_S + 10 * planning.VISIT_OVERHEAD_S
    copy = replace(CELL, spec=CopySpec(10**9), direction=Direction.NONE)  # 0.2 s at 10 GB/s, read and written
    assert planning.estimate(planned(copy), 1) == pytest.approx(beside + (2 * 6 + 3 + 10) * 0.2)
    product = replace(CELL, spec=GemmSpec(1000, 1000, 1000), direction=Direction.NONE)  # 2 GFLOP at 20 GFLOP/s
    assert planning.estimate(planned(product), 1) == pytest.approx(beside + (2 * 6 + 3 + 10) * 0.1)


def test_the_warm_up_of_a_long_call_has_a_cap() -> None:
    huge = replace(CELL, spec=replace(SPEC, n=1000))  # 11.6 s a call
    capped, longer = (planning.estimate(planned(huge, budget=Budget(warmup_max_s=most)), 1) for most in (5.0, 7.0))
    assert longer - capped == pytest.approx(2.0)


@given(n=st.integers(1, 10**6), more=st.integers(1, 1000), cores=st.integers(1, 64), trials=st.integers(1, 3))
def test_the_estimate_grows_with_what_is_asked(n: int, more: int, cores: int, trials: int) -> None:
    cell = replace(CELL, spec=replace(SPEC, n=n))
    seconds = planning.estimate(planned(cell, trials=trials), cores)
    larger = replace(cell, spec=replace(SPEC, n=n + more))
    assert planning.estimate(planned(larger, trials=trials), cores) >= seconds
    assert planning.estimate(planned(replace(cell, direction=Direction.BPROP), trials=trials), cores) >= seconds
    assert planning.estimate(planned(cell, trials=trials), cores + 1) <= seconds
    assert planning.estimate(planned(cell, larger, trials=trials), cores) > seconds
    assert planning.estimate(planned(cell, trials=trials + 1), cores) > seconds


def test_workloads_keep_their_names(smoke: Suite) -> None:
    one = replace(smoke, workloads=(Workload("only", SPEC, 2),))
    assert {(cell.workload, cell.spec, cell.count) for cell in planning.cells(one, CPU_ONLY)} == {("only", SPEC, 2)}


def test_every_cell_of_a_suite_with_a_standard_stands_beside_its_twin(smoke: Suite, beside: Suite) -> None:
    pinned = replace(smoke, standard="pinned")
    plan = planning.plan(pinned, CPU_ONLY, 0, beside)
    of_suite = [step for step in plan if step.cell.is_convolution]
    twins = {cell for cell in plan.cells if cell.backend.endswith("@pinned")}
    assert {replace(cell, backend=cell.backend.removesuffix("@pinned")) for cell in twins} == set(
        planning.cells(smoke, CPU_ONLY)
    )
    assert all(cell.is_convolution for cell in twins)  # a ceiling has no twin
    for twin in twins:
        assert plan.group(twin) == plan.group(replace(twin, backend=twin.backend.removesuffix("@pinned")))
    groups = [key for key, _ in itertools.groupby(of_suite, key=lambda step: (step.trial, plan.group(step.cell)))]
    assert len(groups) == len(set(groups))


def test_an_aa_run_has_no_standard_and_a_label_no_further_twin(smoke: Suite) -> None:
    pinned = replace(smoke, standard="pinned")
    labels = {cell.backend.partition("@")[2] for cell in planning.plan(pinned, CPU_ONLY, 0, twin="aa").cells}
    assert labels == {"", "aa"}
    named = narrow(pinned, Selection(axes={"backend": ["torch", "torch@aa"]}))
    assert {cell.backend for cell in planning.plan(named, CPU_ONLY, 0).cells} == {"torch", "torch@aa", "torch@pinned"}


def test_an_option_is_an_axis_of_convolutions_and_of_nothing_else(smoke: Suite) -> None:
    asked = narrow(smoke, Selection(axes={"autotune": ["default", "on"]}))
    plain, both = (set(planning.cells(each, CPU_ONLY)) for each in (smoke, asked))
    assert both == plain | {replace(cell, autotune=Autotune.ON) for cell in plain}
    ceilings = suite.load("ceilings")
    assert planning.cells(narrow(ceilings, Selection(axes={"autotune": ["on"]})), CPU_ONLY) == planning.cells(
        ceilings, CPU_ONLY
    )


def test_options_count_among_the_cells_that_are_too_many(smoke: Suite) -> None:
    many = replace(smoke, budget=replace(smoke.budget, trials=planning.MOST_STEPS // len(planning.cells(smoke, CPU_ONLY))))
    planning.refuse_too_many(many, CPU_ONLY)
    with pytest.raises(SelectionError, match="allowed: 100000 in all"):
        planning.refuse_too_many(narrow(many, Selection(axes={"autotune": ["default", "on"]})), CPU_ONLY)


def test_cells_of_an_option_are_chosen_by_their_ids_and_by_the_values_of_the_axis(smoke: Suite) -> None:
    both = narrow(smoke, Selection(axes={"autotune": ["default", "on"]}, keyword="autotune:on"))
    assert {cell.autotune for cell in planning.cells(both, CPU_ONLY)} == {Autotune.ON}
    with pytest.raises(SelectionError, match='autotune: found "maybe"; allowed: default, on, off'):
        narrow(smoke, Selection(axes={"autotune": ["maybe"]}))
