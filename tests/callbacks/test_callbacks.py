import csv

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl import losses
from keras_audio_ssl.callbacks import EmbeddingMonitor
from keras_audio_ssl.callbacks import HistoryCSV
from keras_audio_ssl.callbacks import StepCallback
from keras_audio_ssl.callbacks import StepCost
from keras_audio_ssl.callbacks import cost_in_words
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
    model.fit(
        x, batch_size=4, epochs=2, verbose=0, callbacks=[monitor, history]
    )
    assert list(monitor.measured) == [0, 2, 4]
    assert not said
    waves = [w[:n] for w, n in zip(x["waveform"], x["lengths"], strict=True)]
    first = model.encoder.embed([w[: len(w) // 2] for w in waves])
    second = model.encoder.embed([w[len(w) // 2 :] for w in waves])
    want = {
        "std": float(losses.embedding_std(first)),
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


def test_the_cost_of_a_run(monkeypatch):
    model, x, said = tiny(), batch(8), []
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(
        "keras_audio_ssl.callbacks.cost.monotonic", lambda: next(clock)
    )
    cost = StepCost(90_000, said.append, warm=2, measured=3)
    model.fit(x, batch_size=2, epochs=2, verbose=0, callbacks=[cost])
    # The clock goes by two seconds a look, and is looked at once a step.
    assert cost.cost["seconds_per_step"] == 2
    assert cost.cost["seconds"] == 180_000
    assert cost.cost["colab_sessions"] == 5
    floats = sum(v.numpy().nbytes for v in model.trainable_variables)
    # Weights and Adam's two moments, and little else.
    assert 3 * floats < cost.cost["checkpoint_bytes"] < 3.2 * floats
    assert len(said) == 1 and "90,000 steps in 50.0 h" in said[0]
    stopping = StepCost(9, said.append, warm=1, measured=2, stop=True)
    model.fit(x, batch_size=2, epochs=9, verbose=0, callbacks=[stopping])
    assert stopping.step == 3


def test_steps_go_on_over_epochs_and_executions():
    class Steps(StepCallback):
        def on_step(self, step, logs):
            seen.append(step)

    x = batch(8)
    for together, want in ((1, [14, 16, 18]), (4, [16, 20])):
        if together > 1 and keras.backend.backend() == "torch":
            # Keras refuses it there.
            continue
        seen = []
        model = tiny()
        model.compile(steps_per_execution=together)
        steps = Steps(every=2 if together == 1 else 3, steps_done=12)
        model.fit(x, batch_size=2, epochs=2, verbose=0, callbacks=[steps])
        assert seen[: len(want)] == want and steps.step == 20


def test_the_cost_in_words():
    cost = {"seconds_per_step": 0.5, "seconds": 50_000.0, "memory_bytes": 2e9,
            "checkpoint_bytes": 3e8, "colab_sessions": 2}  # fmt: skip
    text = cost_in_words(cost, 100_000, 12.7e9)
    assert text == (
        "0.5 s a step, 100,000 steps in 13.9 h; 2.0 GB of memory, checkpoints "
        "of 300 MB. At this speed that is 2 free Colab sessions: resume "
        "between them."
    )
    less = {**cost, "seconds": 600.0, "colab_sessions": 1}
    assert "in 10 min" in cost_in_words(less, 9, 12.7e9)
    assert cost_in_words(less, 9, 12.7e9).endswith("session would do.")
    assert "Too much memory" in cost_in_words(less, 9, 1e9)
    slow = {**less, "start_seconds": 31.0}
    assert "in 10 min, 31 s of them to compile;" in cost_in_words(slow, 9, 1e10)
    never = {**cost, "seconds": 1e7, "colab_sessions": 232}
    assert "116 days: 7,200 steps are an hour's" in cost_in_words(
        never, 20_000_000, 1e10
    )


def test_tensorboard_holds_what_the_table_does(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    model, x = tiny(), batch(8)
    board = kas.callbacks.TensorBoard(tmp_path / "board", every=1)
    history = HistoryCSV(tmp_path / "history.csv", every=1)
    model.fit(x, batch_size=4, epochs=2, verbose=0, callbacks=[board, history])
    (path,) = (tmp_path / "board").iterdir()
    content, points = path.read_bytes(), {}
    while content:
        # A record: its length, 4 bytes of check, itself, 4 more.
        size = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + size])
        for value in event.summary.value:
            points[event.step, value.tag] = value.simple_value
        content = content[16 + size :]
    with open(tmp_path / "history.csv") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                want = pytest.approx(float(value), rel=1e-4)
                assert points.pop((step, name)) == want
    assert not points
