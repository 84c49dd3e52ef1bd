"""What every method must do; `tests/methods/test_contract.py` runs it."""

import keras
import numpy as np

BACKEND = keras.backend.backend()


def waves(clips=8, seconds=1.2, sample_rate=16000, seed=0):
    """Tones of different pitch in noise, `(clips, samples)` float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = rng.uniform(100, 3000, (clips, 1))
    tone = np.sin(2 * np.pi * pitch * t) * np.sin(np.pi * t / seconds) ** 2
    noise = rng.standard_normal((clips, len(t)))
    return (0.3 * tone + 0.02 * noise).astype("float32")


def batch(clips=8, **kwargs):
    """A batch of clips of unequal length."""
    x = waves(clips, **kwargs)
    lengths = np.linspace(x.shape[1] * 0.6, x.shape[1], clips)
    lengths = lengths.astype("int32")
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 0
    return {"waveform": x, "lengths": lengths}


def step(model, x):
    """One training step's logs, as floats."""
    logs = model.train_on_batch(x, return_dict=True)
    return {k: float(v) for k, v in logs.items()}


def weights_of(model):
    return [v.numpy() for v in model.weights]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
