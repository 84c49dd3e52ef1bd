import dataclasses

import numpy as np
import pytest

from keras_audio_ssl.data.order import Order

pytestmark = pytest.mark.no_backend


def test_the_example_of_the_docstring():
    order = Order(clips=10, batch_size=4, shuffle=False)
    assert order.steps == 2
    assert order.of(0)[order.positions(1)].tolist() == [4, 5, 6, 7]


def test_hosts_share_an_epoch_and_each_clip_has_its_crops():
    order = Order(clips=7, batch_size=2, seed=5, crops_per_clip=3)
    places = [
        host.positions(step)
        for host in (
            dataclasses.replace(order, shard=(k, 3), drop_last=False)
            for k in range(3)
        )
        for step in range(host.steps)
    ]
    # 21 places are 7 for each of 3 hosts: 4 steps, the last of one clip.
    assert [len(p) for p in places] == [2, 2, 2, 1] * 3
    assert sorted(np.concatenate(places)) == list(range(21))
    assert np.bincount(order.of(2)).tolist() == [3] * 7


def test_all_clips_are_tried_in_place_of_a_broken_one():
    spares = list(Order(clips=50, batch_size=2).spares(3, 8))
    assert set(spares) == set(range(50)) and len(spares) == 32 + 49
    assert spares == list(Order(clips=50, batch_size=9).spares(3, 8))
    assert spares != list(Order(clips=50, batch_size=2).spares(3, 9))


def test_a_chance_belongs_to_its_place():
    order = Order(clips=50, batch_size=2, seed=1)
    every = order.chances(4, np.arange(50))
    assert every.min() >= 0 and every.max() < 1 and len(set(every)) == 50
    some = np.array([7, 11, 30])
    np.testing.assert_array_equal(order.chances(4, some), every[some])
