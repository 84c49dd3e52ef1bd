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


def test_every_named_file_is_refused(valid, tmp_path):
    # Shapes are many and alike: every seventh, and the others all.
    named = [
        case
        for i, case in enumerate(cases.named(valid, tmp_path / "canary"))
        if not case.name.startswith("shape_") or i % 7 == 0
    ]
    assert len(named) > 400
    wrong = look(named, tmp_path)
    assert not wrong, "\n".join(wrong)


def test_every_bomb_is_refused(valid, tmp_path):
    # Axes are many and alike, too.
    some = [
        case
        for i, case in enumerate(bombs.all_bombs(valid))
        if not case.name.startswith("axis_") or i % 9 == 0
    ]
    assert len(some) > 90
    wrong = look(some, tmp_path)
    assert not wrong, "\n".join(wrong)


def test_hdf5_that_is_damaged_inside_is_refused_or_read(valid, tmp_path):
    rng = np.random.default_rng(3)
    some = list(itertools.islice(bombs.inside_hdf5(valid["encoder"], rng), 200))
    # The reading is what HDF5 may break; some are opened whole.
    some[:180] = [case._replace(door="parts") for case in some[:180]]
    outcomes = {bring(case, tmp_path)[0] for case in some[:40]}
    assert outcomes == {"opened", "refused"}
    wrong = look(some, tmp_path)
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
