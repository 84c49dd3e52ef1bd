"""The whole collection of named files, and some mutants."""

import itertools

import numpy as np
import pytest

from tests.hostile import bombs
from tests.hostile import cases
from tests.hostile.__main__ import bring
from tests.hostile.__main__ import judge
from tests.hostile.__main__ import may_open


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    return cases.valid_files(tmp_path_factory.mktemp("valid"))


def builds(case):
    """Whether something may be built of a file before it is refused.

    The others never come to a backend: `no_backend` sees to it.
    """
    return case.door != "parts" and (
        case.name.startswith(
            ("axis_", "budget_", "costly_", "graph_", "hollow_", "types_")
        )
        or case.name.endswith(("_attribute", "_dropped"))
    )


def some_of(every, alike, step):
    """Of the cases that are many and alike each `step`-th, and all others."""
    for i, case in enumerate(every):
        if i % step == 0 or not case.name.startswith(alike):
            yield case


@pytest.mark.no_backend
def test_every_named_file_is_refused_before_anything_is_built(valid, tmp_path):
    named = some_of(cases.named(valid, tmp_path / "canary"), "shape_", 7)
    some = [case for case in named if not builds(case)]
    assert len(some) > 400
    wrong = look(some, tmp_path)
    assert not wrong, "\n".join(wrong)


def test_named_files_of_which_something_is_built_are_refused(valid, tmp_path):
    some = list(filter(builds, cases.asking(valid, tmp_path / "canary")))
    assert len(some) > 15
    wrong = look(some, tmp_path)
    assert not wrong, "\n".join(wrong)


@pytest.mark.no_backend
def test_every_bomb_is_refused_before_anything_is_built(valid, tmp_path):
    some = [case for case in bombs.all_bombs(valid) if not builds(case)]
    assert len(some) > 60
    wrong = look(some, tmp_path)
    assert not wrong, "\n".join(wrong)


def test_bombs_of_which_something_is_built_are_refused(valid, tmp_path):
    some = list(filter(builds, some_of(bombs.asking(valid), "axis_", 9)))
    assert len(some) > 40
    wrong = look(some, tmp_path)
    assert not wrong, "\n".join(wrong)


def damaged_inside(valid):
    rng = np.random.default_rng(3)
    return list(itertools.islice(bombs.inside_hdf5(valid["encoder"], rng), 200))


@pytest.mark.no_backend
def test_hdf5_that_is_damaged_inside_is_refused_or_read(valid, tmp_path):
    # The reading is what HDF5 may break.
    some = [c._replace(door="parts") for c in damaged_inside(valid)[:180]]
    outcomes = {bring(case, tmp_path)[0] for case in some[:40]}
    assert outcomes == {"opened", "refused"}
    wrong = look(some, tmp_path)
    assert not wrong, "\n".join(wrong)


def test_hdf5_that_is_damaged_inside_is_refused_or_opened(valid, tmp_path):
    wrong = look(damaged_inside(valid)[180:], tmp_path)
    assert not wrong, "\n".join(wrong)


def test_damaged_files_are_refused_or_read(valid, tmp_path):
    some = list(itertools.islice(cases.all_mutants(valid, seed=1), 60))
    assert any(bring(case, tmp_path)[0] == "refused" for case in some), (
        "no mutant was damaged enough"
    )
    wrong = look(some, tmp_path)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("door", ["encoder", "model"])
def test_the_valid_file_opens(door, valid, tmp_path):
    case = cases.Case("valid", door, valid[door])
    assert bring(case, tmp_path)[0] == "opened"


def look(some, folder):
    """What became of files that were not refused, in words."""
    wrong = []
    for case in some:
        outcome, words, *_ = judge(case, folder, folder / "canary", None)
        if outcome != "refused" and not (
            outcome == "opened" and may_open(case)
        ):
            wrong.append(f"{case.name} ({case.door}): {outcome}: {words}")
    return wrong
