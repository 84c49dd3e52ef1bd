import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.engine import WarmUpDecay
from keras_audio_ssl.engine import WarmUpRoot
from keras_audio_ssl.engine import unwrapped
from tests.contract import batch
from tests.contract import step
from tests.methods.denoising import Denoising


class Warm(Denoising):
    """A method whose rate warms up over 7 % of a million steps."""

    def default_optimizer(self, total_steps=None):
        rates = WarmUpDecay(2e-4, total_steps or 1_000_000)
        return keras.optimizers.Adam(rates)


def rate(schedule, n):
    return float(keras.ops.convert_to_numpy(schedule(n)))


def test_it_rises_to_its_peak_and_falls_to_zero():
    schedule = WarmUpDecay(2e-4, 2000)
    assert rate(schedule, 140) == pytest.approx(2e-4)
    assert rate(schedule, 70) == pytest.approx(1e-4)
    assert rate(schedule, 1070) == pytest.approx(1e-4)
    assert rate(schedule, 0) == rate(schedule, 2000) == 0
    assert rate(schedule, 9999) == 0
    slow = [min(n / 140, (2000 - n) / 1860) * 2e-4 for n in range(2001)]
    got = np.array([rate(schedule, n) for n in range(0, 2001, 60)])
    np.testing.assert_allclose(got, slow[::60], rtol=1e-5, atol=1e-10)
    with pytest.raises(ValueError, match="warm_up=1"):
        WarmUpDecay(1.0, 10, 1)


def test_it_rises_to_its_peak_and_falls_as_a_root():
    """The transformer's schedule, in the words of its paper."""
    factor, dim, warm_up = 0.3, 512, 2000
    peak = factor * (dim * warm_up) ** -0.5
    schedule = WarmUpRoot(peak, 400_000, warm_up / 400_000)
    for n in (1, 1000, 2000, 2001, 50_000, 400_000):
        want = factor * dim**-0.5 * min(n**-0.5, n * warm_up**-1.5)
        assert rate(schedule, n) == pytest.approx(want, rel=1e-5)
    assert rate(schedule, 0) == 0
    short = WarmUpRoot(peak, 2000, warm_up / 400_000)
    assert rate(short, 10) == pytest.approx(peak)
    assert rate(short, 40) == pytest.approx(peak / 2)
    assert rate(WarmUpRoot(1.0, 50, 0), 1) == 1
    again = WarmUpRoot.from_config(short.get_config())
    assert rate(again, 123) == rate(short, 123)
    with pytest.raises(ValueError, match="peak=0"):
        WarmUpRoot(0, 10)


def steps(model):
    return unwrapped(model.optimizer)._learning_rate.steps


def test_fit_spreads_the_papers_schedule_over_its_steps():
    model = Warm()
    model.compile()
    assert steps(model) == 1_000_000
    model.fit(batch(8), batch_size=4, epochs=3, verbose=0)
    assert steps(model) == 6
    # It is begun: the next `fit` goes on with it.
    model.fit(batch(8), batch_size=4, epochs=1, verbose=0)
    assert steps(model) == 6 and int(model.updates) == 8


def test_steps_that_are_told_and_an_own_optimizer_stay():
    model = Warm()
    model.compile(total_steps=50)
    model.fit(batch(4), verbose=0)
    assert steps(model) == 50
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(batch(4), verbose=0)
    assert type(unwrapped(model.optimizer)).__name__ == "SGD"


@pytest.mark.parametrize("schedule", [WarmUpDecay, WarmUpRoot])
def test_a_schedule_passes_the_file_check(schedule, tmp_path):
    model = kas.COLA(preset="tiny")
    model.compile(keras.optimizers.Adam(schedule(1e-3, 30, 0.2)))
    model.fit(batch(4), verbose=0)
    path = kas.hub.save_encoder(model, tmp_path / "model.keras")
    again = kas.hub.load_model(path)
    assert steps(again) == 30
    assert step(model, batch(4)) == step(again, batch(4))
