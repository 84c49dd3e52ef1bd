import csv

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.callbacks import EmbeddingMonitor
from keras_audio_ssl.callbacks import HistoryCSV
from keras_audio_ssl.evaluation import geometry
from tests.contract import batch
from tests.contract import same
from tests.contract import weights_of


def tiny():
    keras.utils.set_random_seed(0)
    model = kas.COLA(preset="tiny")
    model.compile()
    return model


class Zeros(keras.callbacks.Callback):
    """Makes all embeddings equal after the second step."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            for variable in self.model.encoder.backbone.trainable_variables:
                variable.assign(np.zeros(variable.shape))


def test_what_is_measured_and_what_is_written(tmp_path):
    model, x = tiny(), batch(8)
    labels = np.arange(8) % 2
    said = []
    monitor = EmbeddingMonitor(x, labels, every=2, say=said.append)
    history = HistoryCSV(tmp_path / "history.csv", every=1, monitor=monitor)
    model.fit(x, batch_size=8, epochs=1, verbose=0, callbacks=[monitor])
    assert list(monitor.measured) == [0]
    model.fit(
        x, batch_size=2, epochs=1, verbose=0, callbacks=[monitor, history]
    )
    assert list(monitor.measured) == [0, 2, 4]
    assert not said
    waves = [w[:n] for w, n in zip(x["waveform"], x["lengths"], strict=True)]
    first = model.encoder.embed([w[: len(w) // 2] for w in waves])
    second = model.encoder.embed([w[len(w) // 2 :] for w in waves])
    want = {
        "std": geometry.embedding_std(first),
        "effective_rank": geometry.effective_rank(first),
        "alignment": geometry.alignment(first, second),
        "uniformity": geometry.uniformity(first),
        "neighbour_accuracy": geometry.neighbour_accuracy(first, labels),
    }
    assert monitor.measured[4] == pytest.approx(want, abs=1e-4)
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["std"] == "" for row in rows] == [True, False, True, False]
    assert float(rows[3]["effective_rank"]) == pytest.approx(
        want["effective_rank"], rel=1e-3
    )


def test_a_collapse_is_said_once():
    model, x = tiny(), batch(8)
    said = []
    monitor = EmbeddingMonitor((x, np.zeros(8)), every=1, say=said.append)
    model.fit(
        x, batch_size=2, epochs=1, verbose=0, callbacks=[Zeros(), monitor]
    )
    assert len(said) == 1
    assert "collapsed: at step 2" in said[0] and "learning rate" in said[0]


def test_watching_changes_nothing():
    def trained(callbacks):
        model, x = tiny(), batch(8)
        model.fit(x, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
        return weights_of(model)

    plain = trained([])
    watched = trained([EmbeddingMonitor(batch(8), every=1)])
    assert same(plain, watched)


def test_wrong_clips_are_named():
    with pytest.raises(ValueError, match="at least 4.*2"):
        EmbeddingMonitor(batch(2))
    with pytest.raises(ValueError, match="each of 8 clips.*3"):
        EmbeddingMonitor(batch(8), labels=[0, 1, 2])
