"""`fit` that goes on where it was stopped, all that users add one callback."""

import keras
import numpy as np
import pytest
import soundfile

import keras_audio_ssl as kas
from keras_audio_ssl.callbacks import HistoryCSV
from keras_audio_ssl.callbacks import ResumableCheckpoint
from tests.contract import waves

METHODS = {"cola": kas.COLA, "byol_a": kas.BYOLA, "apc": kas.APC}


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends the program in the middle of an epoch."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Killed


def program(name, folder, kill=None, every=2, clips=18, **settings):
    """What a user's script does: everything from the start, each time."""
    keras.utils.set_random_seed(3)
    model = METHODS[name](preset="tiny", **settings)
    model.compile()
    data = kas.data.from_arrays(
        waves(clips, seed=1), seconds=1.0, batch_size=4, seed=5
    )
    said = []
    callbacks = []
    if folder is not None:
        callbacks.append(ResumableCheckpoint(folder, every, say=said.append))
        # Rows lie neither at all checkpoints nor at the ends of epochs.
        callbacks.append(HistoryCSV(folder / "history.csv", every=3))
    if kill:
        callbacks.append(Kill(kill))
    model.fit(data, epochs=3, verbose=0, callbacks=callbacks)
    return model, said


def state(model):
    """Everything that a run depends on, as arrays."""
    metrics = {id(v) for v in model.metrics_variables}
    variables = [v for v in model.variables if id(v) not in metrics]
    return [v.numpy() for v in (*variables, *model.optimizer.variables)]


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_fit_goes_on_to_the_bit(name, tmp_path):
    whole, _ = program(name, tmp_path / "whole")
    tmp_path = tmp_path / "parts"
    # Three epochs of four steps: killed in the second, then in the third.
    for kill in (7, 5):
        with pytest.raises(Killed):
            program(name, tmp_path, kill)
    parts, said = program(name, tmp_path)
    assert said == ["going on after step 10 (epoch 3)"]
    for a, b in zip(state(whole), state(parts), strict=True):
        np.testing.assert_array_equal(a, b)
    # The mean of a row that was begun before the kill too.
    history = (tmp_path / "history.csv").read_bytes()
    steps = [int(line.split(b",")[0]) for line in history.splitlines()[1:]]
    assert steps == [3, 6, 9, 12]
    assert history == (tmp_path / "../whole/history.csv").read_bytes()
    assert sorted(p.name for p in tmp_path.glob("*.keras")) == [
        "step_000000010.keras",
        "step_000000012.keras",
    ]


def test_a_finished_fit_is_not_done_again(tmp_path):
    first, _ = program("cola", tmp_path)
    again, said = program("cola", tmp_path)
    assert said == ["going on after step 12 (epoch 4)"]
    for a, b in zip(state(first), state(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    whole, _ = program("cola", None)
    with pytest.raises(Killed):
        program("cola", tmp_path, 7)
    newest = sorted(tmp_path.glob("*.keras"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    parts, said = program("cola", tmp_path)
    assert "passed over" in said[0] and newest.name in said[0]
    assert said[1] == "going on after step 4 (epoch 2)"
    for a, b in zip(state(whole), state(parts), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_changed_is_named(tmp_path):
    with pytest.raises(Killed):
        program("cola", tmp_path, 3)
    with pytest.raises(ValueError, match=r"model\.noise: 0\.001 then, 0\.5"):
        program("cola", tmp_path, noise=0.5)
    with pytest.raises(ValueError, match=r"data\.clips: 18 then, 19 now"):
        program("cola", tmp_path, clips=19)


def test_another_precision_is_named(tmp_path):
    with pytest.raises(Killed):
        program("cola", tmp_path, 3)
    with pytest.raises(ValueError, match="float32 then, mixed_bfloat16 now"):
        program("cola", tmp_path, dtype="mixed_bfloat16")


def test_files_that_changed_are_named(tmp_path):
    def fit(clips):
        for i in range(clips):
            path = tmp_path / "audio" / f"{i}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, waves(1, seed=i)[0], 16000)
        model = kas.COLA(preset="tiny")
        model.compile()
        data = kas.data.from_folder(path.parent, 1.0, batch_size=4)
        keep = ResumableCheckpoint(tmp_path / "run", say=lambda text: None)
        model.fit(data, callbacks=[keep], verbose=0)

    fit(4)
    with pytest.raises(ValueError, match=r"1 files new: .*4\.wav"):
        fit(5)


def test_another_optimizer_is_refused(tmp_path):
    with pytest.raises(Killed):
        program("cola", tmp_path, 3)
    model = kas.COLA(preset="tiny")
    model.compile(keras.optimizers.SGD(0.1))
    data = kas.data.from_arrays(
        waves(18, seed=1), seconds=1.0, batch_size=4, seed=5
    )
    with pytest.raises(ValueError, match="another optimizer"):
        model.fit(data, callbacks=[ResumableCheckpoint(tmp_path)], verbose=0)


def test_data_without_an_order_is_refused(tmp_path):
    model = kas.COLA(preset="tiny")
    model.compile()
    with pytest.raises(ValueError, match=r"kas\.data\.from_folder"):
        model.fit(
            waves(8), batch_size=4, callbacks=[ResumableCheckpoint(tmp_path)]
        )


def test_a_model_that_was_opened_begins_with_metrics_of_its_own(tmp_path):
    model, _ = program("cola", None)
    model.save(tmp_path / "model.keras")
    losses = []
    for callbacks in ([], [ResumableCheckpoint(tmp_path / "run")]):
        opened = keras.saving.load_model(tmp_path / "model.keras")
        data = kas.data.from_arrays(waves(8, seed=2), seconds=1, batch_size=4)
        history = opened.fit(data, verbose=0, callbacks=callbacks).history
        losses.append(history["loss"])
    assert losses[0] == losses[1]
