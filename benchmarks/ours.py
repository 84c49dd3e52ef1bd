"""The library's side of what `peers.py` does in plain PyTorch.

Each function builds what it needs and returns a `run(n)`, which does `n`
training steps under `fit` (or `n` passes) on data that is in memory.
"""

import contextlib
import itertools

import keras
import numpy as np

import keras_audio_ssl as kas

BACKEND = keras.config.backend()


def noise(*shape):
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(shape)).astype("float32")


def resident(batch):
    """The batch as tensors, on the device where training runs."""
    return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)


def training(model, batch, jit_compile="auto"):
    """`run(n)`: n steps of `fit` on one batch."""
    model.compile(jit_compile=jit_compile)
    batch = resident(batch)

    def forever():
        if BACKEND != "tensorflow":
            return ((batch,) for _ in itertools.count())
        import tensorflow as tf

        # Of a generator Keras makes a pipeline that tunes itself, in a thread
        # that ends when it next wakes: up to as late as the run was long.
        options = tf.data.Options()
        options.autotune.enabled = False
        data = tf.data.Dataset.from_tensors((batch,)).repeat()
        return data.with_options(options)

    def run(n):
        # Keras' own: what a run's first steps look at is not the step.
        keras.Model.fit(
            model, forever(), steps_per_epoch=n, epochs=1, verbose=0
        )

    return run


def on(call):
    """A method whose `call` is replaced, so that it takes ready inputs."""

    def decorate(cls):
        return type(cls.__name__ + "OnReadyInputs", (cls,), {"call": call})

    return decorate


def passes(function, x):
    """`run(n)`: n compiled passes without gradients."""
    if BACKEND == "jax":
        import jax

        compiled, wait = jax.jit(function), jax.block_until_ready
        guard = contextlib.nullcontext
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        compiled, guard = tf.function(function), contextlib.nullcontext
        wait = keras.ops.convert_to_numpy
    else:
        import torch

        compiled, guard = function, torch.inference_mode

        def wait(y):
            if y.is_cuda:
                torch.cuda.synchronize()

    x = resident(x)

    def run(n):
        with guard():
            for _ in range(n):
                y = compiled(x)
            wait(y)

    return run


def byol_a(batch=64, dim=512, frames=96, n_mels=64, **options):
    """The networks alone, from two ready views."""

    def call(self, x, training=False):
        return self.compare(x["first"], x["second"], training=training)

    model = on(call)(kas.BYOLA)(encoder={"dim": dim, "n_mels": n_mels})
    views = [10 * noise(batch, frames, n_mels) for _ in range(2)]
    batch = dict(zip(("first", "second"), views, strict=True))
    return training(model, batch, **options)


def byol_a_from_waveforms(batch=64, dim=512, samples=15200, **options):
    """All of it: crop, log-mel, mixup, random resized crop, networks."""
    model = kas.BYOLA(encoder={"dim": dim}, seconds=samples / 16000)
    waveforms = noise(batch, samples)
    model.encoder.frontend.adapt([waveforms])
    return training(model, waveforms, **options)


def cola(batch=32, frames=98, n_mels=64, encoder="efficientnet_b0", **options):
    """The networks alone, from features of anchors and positives."""

    def call(self, x, training=False):
        return self.embeddings(x, training)

    settings = {"backbone": encoder, "n_mels": n_mels}
    model = on(call)(kas.COLA)(encoder=settings)
    return training(model, 10 * noise(2 * batch, frames, n_mels), **options)


def apc(
    batch=16, frames=300, n_mels=80, units=512, layers=3, ahead=3, **options
):
    """The networks alone, from features."""

    def call(self, x, training=False):
        return self.predict_ahead(x, training=training)

    settings = {"units": units, "layers": layers, "n_mels": n_mels}
    model = on(call)(kas.APC)(ahead, settings)
    return training(model, 10 * noise(batch, frames, n_mels), **options)


def tera(
    batch=4,
    frames=500,
    n_mels=80,
    units=768,
    layers=3,
    heads=12,
    dropout=0.1,
    method="TERA",
    **options,
):
    """Alteration, transformer, head and loss, from features."""

    def call(self, x, training=False):
        altered, label = self.alter(x, None)
        return {
            "prediction": self.reconstruct(altered, None, training),
            "target": x,
            "label": keras.ops.broadcast_to(label, keras.ops.shape(x)),
        }

    settings = {
        "units": units, "heads": heads, "feed_forward": 4 * units,
        "layers": layers, "n_mels": n_mels, "dropout": dropout,
    }  # fmt: skip
    model = on(call)(getattr(kas, method))(settings)
    return training(model, 10 * noise(batch, frames, n_mels), **options)


def dapc(
    batch=32, frames=200, n_mels=80, units=256, layers=3, dim=64, **options
):
    """Both passes, the decoder and the loss, from features."""
    lengths = np.full(batch, frames, "int32")

    def call(self, x, training=False):
        valid = keras.ops.convert_to_tensor(lengths)
        altered, hidden = self.masks(x, lengths=valid, seed=self.seed_generator)
        return self.components(x, altered, hidden, valid, training)

    settings = {"units": units, "layers": layers, "dim": dim, "n_mels": n_mels}
    model = on(call)(kas.DAPC)(settings)
    return training(model, 10 * noise(batch, frames, n_mels), **options)


def npc(
    batch=8, frames=200, n_mels=80, units=512, blocks=4, kernel_size=15,
    mask=5, groups=4, codes=64, **options,
):  # fmt: skip
    """The networks alone, from features."""

    def call(self, x, training=False):
        return self.predict_frames(x, training=training)

    settings = {
        "units": units, "blocks": blocks, "kernel_size": kernel_size,
        "input_mask": mask, "n_mels": n_mels,
    }  # fmt: skip
    model = on(call)(kas.NPC)(settings, [codes] * groups)
    return training(model, noise(batch, frames, n_mels), **options)


def rebuilding(method, batch, frames, n_mels, settings, options):
    """A masked reconstruction's mask and networks alone, from features."""

    def call(self, x, training=False):
        return self.rebuild(x, training=training)

    model = on(call)(method)(encoder={"n_mels": n_mels, **settings})
    return training(model, noise(batch, frames, n_mels), **options)


def mpc(batch=8, frames=400, n_mels=40, filters=64, layers=3, **options):
    """Two convolutions and some of the twelve layers, from features."""
    settings = {"filters": filters, "layers": layers}
    return rebuilding(kas.MPC, batch, frames, n_mels, settings, options)


def mam(batch=8, frames=400, n_mels=80, layers=3, **options):
    """Convolutions, some of the twelve layers and back, from features."""
    settings = {"layers": layers}
    return rebuilding(kas.MAM, batch, frames, n_mels, settings, options)


def contrasting(method, batch, features, settings, options):
    """The networks alone, from two ready views' features."""

    def call(self, x, training=False):
        return self.compare(x["first"], x["second"], training=training)

    model = on(call)(method)(settings)
    views = [noise(batch, *features) for _ in range(2)]
    views = dict(zip(("first", "second"), views, strict=True))
    return training(model, views, **options)


def fonseca(batch=16, frames=101, n_mels=96, encoder="resnet18", **options):
    """ResNet-18 or the VGG on maps of one channel."""
    settings = {"backbone": encoder, "n_mels": n_mels}
    return contrasting(kas.Fonseca, batch, (frames, n_mels), settings, options)


def clar(batch=8, frames=126, n_mels=128, **options):
    """ResNet-18 on maps of three channels."""
    settings = {"n_mels": n_mels}
    features = (frames, 3 * n_mels)
    return contrasting(kas.CLAR, batch, features, settings, options)


def joint(batch=64, frames=94, n_mels=64, **options):
    """The networks alone, from features of both views."""

    def call(self, x, training=False):
        views = keras.ops.unstack(x, axis=1)
        return {**self.compare(*views, training=training), "target": x}

    model = on(call)(kas.Joint)(encoder={"n_mels": n_mels})
    return training(model, noise(batch, 2, frames, n_mels), **options)


def every_clip(x):
    """That all clips of a batch count."""
    return keras.ops.ones((keras.ops.shape(x)[0],), "bool")


def audio2vec(
    batch=32, frames=96, n_mels=64, context=2, task="cbow", **options
):
    """Encoder, decoder and loss, from slices of features."""

    def call(self, x, training=False):
        return {**self.rebuild(x, training), "valid": every_clip(x)}

    model = on(call)(kas.Audio2Vec)(
        task, {"n_mels": n_mels}, frames=frames, context=context
    )
    x = noise(batch, 2 * context + 1, frames, n_mels)
    return training(model, x, **options)


def temporal_gap(batch=32, frames=96, n_mels=64, **options):
    """Encoder, head and loss, from two slices of features."""
    gap = np.linspace(0, 1, batch, dtype="float32")

    def call(self, x, training=False):
        outputs = self.compare(x, training)
        given = keras.ops.convert_to_tensor(gap)
        return {**outputs, "gap": given, "valid": every_clip(x)}

    model = on(call)(kas.TemporalGap)({"n_mels": n_mels}, frames=frames)
    return training(model, noise(batch, 2, frames, n_mels), **options)


def permutations(batch=32, frames=96, n_mels=64, **options):
    """Shuffling, encoder, head and loss, from windows of features."""

    def call(self, x, training=False):
        return {**self.rank(x, training), "valid": every_clip(x)}

    model = on(call)(kas.Permutations)({"n_mels": n_mels}, frames=frames)
    return training(model, noise(batch, frames, n_mels), **options)


def lim(batch=16, samples=3200, **options):
    """SincNet and discriminator, from ready chunks."""
    chunks = [noise(batch, samples) for _ in range(2)]
    batch = dict(zip(("first", "second"), chunks, strict=True))
    return training(kas.LIM(seconds=samples / 16000), batch, **options)


def multi_format(batch=4, seconds=1.0, n_mels=80, **options):
    """The smaller pair of encoders alone, from features of both crops."""

    def call(self, x, training=False):
        return self.compare(x["first"], x["second"], training=training)

    model = on(call)(kas.MultiFormat)(seconds=seconds)
    samples = round(seconds * 16000)
    views = {
        "first": noise(batch, samples, 1),
        "second": 10 * noise(batch, 1 + samples // 160, n_mels),
    }
    return training(model, views, **options)


def speech2vec(
    batch=16, words=16, frames=100, units=25, window=3, task="skipgram",
    **options,
):  # fmt: skip
    """Encoder, decoder and loss, from features of words and their lengths."""

    def call(self, x, training=False):
        return self.predict_words(x["words"], x["lengths"], training)

    model = on(call)(kas.Speech2Vec)(task, {"units": units}, window, frames)
    lengths = np.random.default_rng(0).integers(10, frames, (batch, words))
    x = {
        "words": 10 * noise(batch, words, frames, 13),
        "lengths": lengths.astype("int32"),
    }
    return training(model, x, **options)


def log_mel(batch=64, samples=16000):
    """BYOL-A's log-mel."""
    frontend = kas.features.recipe("byol_a").unnormalized
    return passes(frontend, noise(batch, samples))


def embedding(clips=32, seconds=2.0, dim=512, batched=True):
    """Clip vectors of BYOL-A's encoder from waveforms, without padding."""
    encoder = kas.BYOLA(encoder={"dim": dim}).encoder
    waveforms = noise(clips, int(16000 * seconds))
    encoder.frontend.adapt([waveforms])

    def embed(x):
        return encoder(x, training=False)["clip"]

    if batched:
        return passes(embed, waveforms)
    run = passes(embed, waveforms[:1])
    return lambda n: run(n * clips)


def embed_method(clips=32, seconds=2.0, dim=512):
    """The same through `encoder.embed`, as users call it."""
    encoder = kas.BYOLA(encoder={"dim": dim}).encoder
    waveforms = noise(clips, int(16000 * seconds))
    encoder.frontend.adapt([waveforms])

    def run(n):
        for _ in range(n):
            encoder.embed(waveforms)

    return run
