"""Facts of two runs side by side: which are the same, and how those that differ are told."""

from harness.analysis.environments import differences, version_changes, versions
from harness.review.nights import changed
from tests.builders import environment, run


def both(before, after, **runs):
    sides = [
        run(environments=(environment(**facts),), **{name: values[side] for name, values in runs.items()})
        for side, facts in enumerate((before, after))
    ]
    return tuple(each.words for each in version_changes((sides[0], "env-1"), (sides[1], "env-1")))


def test_what_differs_is_named():
    assert both({}, {}) == ()
    assert both({"packages": {"torch": "2.13"}}, {"packages": {"torch": "2.14"}}) == ("torch 2.13 → 2.14",)
    assert both({"python": "CPython 3.11.7", "driver": ""}, {"python": "CPython 3.12.1", "driver": "580"}) == (
        "Python 3.11.7 → 3.12.1",
        "driver none → 580",
    )
    assert both({}, {}, harness_version=("0.1", "0.2"), commit=("a", "b")) == ("convbench 0.1 → 0.2",)
    assert both({}, {}, commit=("a" * 40, "")) == ("convbench aaaaaaaaaa → none",)


def test_a_variable_of_several_values_is_one_difference():
    assert both({"environ": {"XLA_FLAGS": "--a, --b"}}, {"environ": {"XLA_FLAGS": "--a"}}) == ("XLA_FLAGS --a, --b → --a",)


def test_an_environment_that_is_not_known_differs_from_none():
    known = run(environments=(environment(),))
    assert version_changes((known, "env-1"), (known, "another")) == ()
    assert version_changes(None, (known, "env-1")) == ()


def test_versions_have_the_names_that_people_know():
    assert versions(environment(environ={"OMP_NUM_THREADS": "2"})) == {
        "torch": "2.13", "Python": "3.11.7", "operating system": "Linux", "driver": "", "OMP_NUM_THREADS": "2",
    }  # fmt: skip


def test_only_facts_that_differ_are_listed_and_by_backend_where_backends_differ() -> None:
    before = run(environments=(environment(), environment(backend="jax", packages={"jax": "1"})))
    after = run(environments=(environment(), environment(backend="jax", packages={"jax": "2"}, python="3.12")))
    listed = [(each.fact, each.base, each.new) for each in differences(before, after)]
    assert ("jax", "1", "2") in listed
    assert ("Python (jax)", "", "3.12") in listed
    assert differences(before, before) == ()


def test_environments_of_one_backend_that_choose_kernels_in_several_ways_are_told_apart_in_any_order() -> None:
    plain = environment(backend="jax", environ={"XLA_FLAGS": "--a"})
    tuned = environment(id="env-2", backend="jax", environ={"XLA_FLAGS": "--a --b", "CONVBENCH_AUTOTUNE": "on"})
    one, other = (run(environments=pair) for pair in ((plain, tuned), (tuned, plain)))
    assert differences(one, other) == ()
    assert changed(one, other) == ()
    upgraded = run(environments=(environment(id="env-3", backend="jax", environ={"XLA_FLAGS": "--a --c"}), tuned))
    assert changed(one, upgraded) == ("XLA_FLAGS --a → --a --c",)
    assert [each.fact for each in differences(one, upgraded)] == ["XLA_FLAGS (jax)"]
