import _thread
import threading

import keras
import numpy as np
import pytest

from tests.contract import BACKEND
from tests.contract import batch
from tests.contract import same
from tests.contract import waves
from tests.contract import weights_of
from tests.methods.denoising import Denoising


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = Denoising()
    model.encoder.frontend.adapt([batch(4)])
    model.compile()
    return model


class Stop(keras.callbacks.Callback):
    """Raises after a batch of any pass."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def end(self, batch, logs=None):
        raise self.error

    on_train_batch_end = on_test_batch_end = on_predict_batch_end = end


def broken(good):
    """A generator of good batches that ends in an error."""
    for _ in range(good):
        yield batch(4)
    raise OSError("the disk is gone")


def is_whole(model, tmp_path):
    assert all(np.isfinite(w).all() for w in weights_of(model))
    model.encoder.save(tmp_path / "encoder.keras")
    model.evaluate(batch(4), verbose=0)
    model.train_on_batch(batch(4))


@pytest.mark.parametrize("way", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_pass_that_is_stopped_leaves_the_model_whole(
    model, way, error, tmp_path
):
    with pytest.raises(error):
        getattr(model, way)(batch(4), verbose=0, callbacks=[Stop(error())])
    is_whole(model, tmp_path)


@pytest.mark.parametrize("way", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("good", [0, 1, 3])
def test_data_that_fail_leave_the_model_whole(model, way, good, tmp_path):
    updates = int(model.updates)
    with pytest.raises(Exception, match=r"disk is gone|OSError"):
        getattr(model, way)(broken(good), verbose=0)
    is_whole(model, tmp_path)
    # What was learnt before the error is kept (and one step of `is_whole`).
    assert int(model.updates) <= updates + good + 1


@pytest.mark.parametrize("way", ["train_on_batch", "test_on_batch"])
def test_a_batch_that_fails_leaves_the_model_whole(model, way, tmp_path):
    with pytest.raises(ValueError, match="waveform"):
        getattr(model, way)({"wave": waves(4)})
    is_whole(model, tmp_path)


def test_an_encoder_whose_predict_fails_is_whole(model):
    encoder = model.encoder
    want = encoder.embed(waves(2))
    wrong = waves(2)[None]
    with pytest.raises(ValueError, match="shape"):
        encoder.predict_on_batch(wrong)
    with pytest.raises(ValueError, match="shape"):
        encoder.predict(wrong, verbose=0)
    np.testing.assert_array_equal(encoder.embed(waves(2)), want)


def test_an_interrupt_inside_of_a_step_loses_nothing(model, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                threading.Timer(0.001, _thread.interrupt_main).start()

    x = batch(64)
    try:
        model.fit(x, batch_size=4, epochs=20, verbose=0,
                  callbacks=[Interrupt()])  # fmt: skip
    except KeyboardInterrupt:
        pass
    is_whole(model, tmp_path)


def test_threads_embed_side_by_side(model):
    encoder, clips = model.encoder, list(waves(6))
    want, got, errors = encoder.embed(clips), [], []

    def work():
        try:
            for _ in range(4):
                got.append(encoder.embed(clips))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(got) == 16
    assert all(np.allclose(want, one, atol=1e-6) for one in got)


# Keras says so of any generator that ends.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("labels", [False, True])
def test_generators_are_taken_everywhere(model, labels):
    def batches(count=3, endless=False):
        while True:
            for i in range(count):
                x = batch(4, seed=i)
                yield (x, np.zeros(4, "int32")) if labels else x
            if not endless:
                return

    before = int(model.updates)
    history = model.fit(batches(endless=True), steps_per_epoch=2, epochs=2,
                        validation_data=batches(endless=True),
                        validation_steps=1, verbose=0).history  # fmt: skip
    assert int(model.updates) == before + 4
    assert np.isfinite(history["val_loss"]).all()
    logs = model.evaluate(batches(), verbose=0, return_dict=True)
    assert np.isfinite(logs["loss"])
    out = model.predict(batches(), verbose=0)
    assert out["clean"].shape[0] == 12
    # Measured on the first batches, which are trained on all the same.
    fresh = Denoising()
    fresh.compile()
    fresh.fit(batches(), verbose=0)
    assert fresh.encoder.frontend.adapted and int(fresh.updates) == 3
    assert same(weights_of(fresh), weights_of(fresh)) and BACKEND
