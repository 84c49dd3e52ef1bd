"""What is tested on one backend in turn is tested on one."""

import pytest

from tests.contract import BACKENDS
from tests.contract import FOUR_KINDS
from tests.contract import IN_TURN
from tests.contract import names_here

MANY = [*FOUR_KINDS, *(f"method_{i}" for i in range(60))]


@pytest.mark.parametrize("quality", sorted(IN_TURN))
def test_every_pair_runs_somewhere_and_four_kinds_everywhere(quality):
    here = {b: names_here(quality, MANY, b) for b in BACKENDS}
    able = IN_TURN[quality]
    for name in MANY:
        where = [b for b in able if name in here[b]]
        assert len(where) == (len(able) if name in FOUR_KINDS else 1)
    for backend in able:
        assert here[backend] == sorted(here[backend])
        # No backend has much less to do than another.
        assert len(here[backend]) - 4 > 60 / len(able) / 2


def test_a_methods_turn_stays_and_the_qualities_share_the_backends():
    # As written down: a run on another day, or machine, has the same turns.
    turns = {
        quality: next(b for b in able if names_here(quality, ["method_1"], b))
        for quality, able in sorted(IN_TURN.items())
    }
    known = {
        "accumulation": "jax",
        "eager": "tensorflow",
        "embed": "torch",
        "steps_per_execution": "jax",
    }
    assert {quality: turns[quality] for quality in known} == known
