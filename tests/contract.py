"""What every method must do; `tests/methods/test_contract.py` runs it."""

import zlib

import keras
import numpy as np

from keras_audio_ssl.callbacks.resume import state_of
from keras_audio_ssl.losses import embedding_std

BACKEND = keras.backend.backend()
BACKENDS = ("jax", "tensorflow", "torch")
# Methods of four kinds: two views, a target network, a prediction along
# time, a reconstruction. Then encoders: a plain network, one that reads each
# level, recurrence, attention, and one of waveforms.
FOUR_KINDS = ("cola", "byol_a", "apc", "denoising")
EVERYWHERE = {
    *FOUR_KINDS, "v1", "readout", "recurrent", "transformer", "sincnet_time",
}  # fmt: skip
# Methods whose loss stays at chance, but for the noise of its draws, for longer
# than the contract trains: their own tests show that it falls.
SLOW_AT_FIRST = ("lim",)
# What base classes do alike for every method, or every encoder, and where
# Keras can.
IN_TURN = {
    "accumulation": BACKENDS,
    # JAX compiles each operation for itself.
    "eager": ("torch", "tensorflow"),
    "embed": BACKENDS,
    "evaluate": BACKENDS,
    "export": BACKENDS,
    "float16": BACKENDS,
    "optimizer": BACKENDS,
    "other_encoder": BACKENDS,
    "rate": BACKENDS,
    "saved": BACKENDS,
    "seed": BACKENDS,
    "short": BACKENDS,
    "shortest": BACKENDS,
    "steps_per_execution": ("jax", "tensorflow"),
    "ten_batches": BACKENDS,
    "validation": BACKENDS,
}


class Batches(keras.utils.PyDataset):
    """Batches that are made already."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]


def names_here(quality, names, backend=BACKEND):
    """The methods, or encoders, that a quality of their base is tested with.

    Those of `EVERYWHERE` on every backend, and each of the others on one,
    always the same.

    Args:
        quality: A key of `IN_TURN`.
        names: Of all methods, or of all encoders.
        backend: The one the tests run on.

    Returns:
        Sorted list of names.
    """
    backends = IN_TURN[quality]

    def turn(name):
        return backends[
            zlib.crc32(f"{name} {quality}".encode()) % len(backends)
        ]

    return [
        name
        for name in sorted(names)
        if name in EVERYWHERE or turn(name) == backend
    ]


def one_of_each(methods, backend=BACKEND):
    """Methods without second names of one class, where compiling takes long.

    Args:
        methods: `METHODS`.
        backend: The one the tests run on.

    Returns:
        Sorted list of names: of a class that has several, all on PyTorch, the
        first on JAX, the last on TensorFlow.
    """
    names = sorted(methods)
    if backend == "torch":
        return names
    if backend == "jax":
        names.reverse()
    return sorted({methods[name][:2]: name for name in names}.values())


def waves(clips=8, seconds=1.2, sample_rate=16000, seed=0):
    """Tones of different pitch in noise, `(clips, samples)` float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = rng.uniform(100, 3000, (clips, 1))
    tone = np.sin(2 * np.pi * pitch * t) * np.sin(np.pi * t / seconds) ** 2
    noise = rng.standard_normal((clips, len(t)))
    return (0.3 * tone + 0.02 * noise).astype("float32")


# The shortest clip of a batch, as a share of the longest.
SHORTEST = 0.6


def long_enough(model):
    """Seconds of a batch, of which a method can use the shortest clip too."""
    return max(1.2, (model.min_samples / 16000 + 1e-3) / SHORTEST)


def batch(clips=8, **kwargs):
    """A batch of clips of unequal length."""
    x = waves(clips, **kwargs)
    lengths = np.linspace(x.shape[1] * SHORTEST, x.shape[1], clips)
    lengths = lengths.astype("int32")
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 0
    return spoken({"waveform": x, "lengths": lengths})


def spoken(x, words=4):
    """A batch with parts of each clip as words, for methods that need some."""
    edges = np.linspace(0, x["lengths"], words + 1).T.astype("int32")
    segments = np.stack([edges[:, :-1], edges[:, 1:]], axis=-1)
    return {**x, "segments": segments}


def step(model, x):
    """One training step's logs, as floats."""
    logs = model.train_on_batch(x, return_dict=True)
    return {k: float(v) for k, v in logs.items()}


def check_views_stand_apart(model, x):
    """Asserts what a contrast with other clips gives, and attraction does not.

    Views of a clip drawn together alone bring the projections of all clips
    together: after as many steps as the tests of the methods train, their
    deviation fell below 0.07, the margin between cosines with the own clip's
    other view and with other clips' below 0.32. The embedding's deviation
    tells nothing: the projector's batch norm lets it be.

    Args:
        model: A trained method with outputs `first` and `second`, unit
            vectors `(batch, dim)`, of 64 or so dimensions.
        x: The clips, one batch.
    """
    clips = len(x["waveform"])
    outputs = model.predict(x, batch_size=clips, verbose=0)
    assert float(embedding_std(outputs["first"])) > 0.09
    cosines = outputs["first"] @ outputs["second"].T
    others = cosines[~np.eye(clips, dtype=bool)]
    assert np.diag(cosines).mean() > others.mean() + 0.5


def weights_of(model):
    return [v.numpy() for v in model.weights]


def values_of(model):
    """All variables of a compiled model, metrics too, with their values."""
    variables = [*state_of(model), *model.metrics_variables]
    return [(v, v.numpy()) for v in variables]


def put_back(values):
    """Gives variables the values that `values_of` saw."""
    for variable, value in values:
        variable.assign(value)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
