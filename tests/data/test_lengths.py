import numpy as np
import pytest

from keras_audio_ssl.data import bucket

pytestmark = pytest.mark.no_backend


def slow(samples):
    """The next number that is 8 or less times a power of two."""
    while True:
        odd = samples
        while odd > 8 and odd % 2 == 0:
            odd //= 2
        if odd <= 8:
            return samples
        samples += 1


@pytest.mark.parametrize("least", [1, 7, 500])
def test_lengths_are_those_of_a_slow_search(least):
    numbers = [*range(1, 2100), 16000, 16383, 16384, 16385, 100_001]
    for n in numbers:
        assert bucket(n, least) == slow(max(n, least))


def test_there_are_four_an_octave():
    lengths = {bucket(n) for n in range(4097, 8193)}
    assert lengths == {5120, 6144, 7168, 8192}
    assert {bucket(n) for n in range(1, 9)} == set(range(1, 9))


def test_numbers_of_numpy_give_a_plain_one():
    length = bucket(np.int32(9121), np.int64(5))
    assert length == 10240 and type(length) is int
