"""What each of the backend's own words saves: `backend/` against plain ops.

    KERAS_BACKEND=jax python benchmarks/kernels.py [NAME ...] [--rounds 20]

A line for each name that the chosen backend's module has for its speed, at
the sizes that the methods meet. Both versions are called in turn, so that a
busy moment hits both alike; each figure is the shortest of its calls. A ratio
below 1 says that the module's own is worth its lines.

Functions on maps, the GRU and the LSTM are timed with their gradient, but for
`affine`, which serves encoders that are not trained. Names of the front ends
are timed in a log-mel of 256 clips of 1 s, without a gradient: with all of
them, and with the one replaced by its plain version.
"""

import argparse
import time

import keras
import numpy as np

import keras_audio_ssl.backend as backend
from keras_audio_ssl.backend import portable
from keras_audio_ssl.features import LogMel

BACKEND = keras.config.backend()


def noise(*shape):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape).astype("float32")


def weights(*shape):
    """A kernel of small values, gamma and beta."""
    return 0.1 * noise(*shape), np.ones(shape[-1]), np.zeros(shape[-1])


class Still(keras.random.SeedGenerator):
    """Always the same seed: what is compiled changes no state."""

    def next(self, ordered=True):
        return keras.ops.convert_to_tensor(np.array([7, 11], "uint32"))


# name: arrays and options, of BYOL-A's second block, of a unit of
# EfficientNet-B0 on COLA's maps, of MAM's head, of APC's first layer, and of
# Speech2Vec's encoder and decoder.
MAP, STATISTICS = {"epsilon": 1e-5, "pool": (2, 2)}, {"epsilon": 1e-5}
BYOL_A = (32, 48, 32, 64)
UNIT = (32, 49, 32, 96)
KERNELS = {
    "affine": ([noise(*BYOL_A), *np.ones((4, 64))], STATISTICS),
    "average_pool": ([noise(*BYOL_A)], {"pool": (2, 2)}),
    "batch_norm": ([noise(*BYOL_A), *np.ones((2, 64))], STATISTICS),
    "conv": ([noise(*BYOL_A), 0.1 * noise(3, 3, 64, 64)], {}),
    "conv, strided": (
        [noise(32, 98, 64, 1), noise(3, 3, 1, 32)],
        {"stride": 2},
    ),
    "conv, one row": ([noise(256, 96, 8, 32), 0.1 * noise(1, 3, 32, 32)], {}),
    "conv_batch_norm": (
        [noise(256, 96, 8, 1), noise(3, 1, 1, 32), *np.ones((2, 32))],
        {"epsilon": 1e-5, "relu": True},
    ),
    "conv_norm_pool": ([noise(*BYOL_A), *weights(3, 3, 64, 64)], MAP),
    "conv_norm_pool, one channel": (
        [noise(32, 96, 64, 1), *weights(3, 3, 1, 64)],
        MAP,
    ),
    "depthwise_conv": ([noise(*UNIT), noise(3, 3, 96, 1)], {}),
    "depthwise_conv, strided": (
        [noise(*UNIT), noise(5, 5, 96, 1)],
        {"stride": 2},
    ),
    "doubled": ([noise(32, 48, 32, 8)], {}),
    # Of the attention of TERA's first layer.
    "drop_out": (
        [noise(4, 12, 500, 500)],
        {"rate": 0.1, "seed": Still(0)},
    ),
    "doubling_conv": ([noise(16, 100, 20, 64), noise(3, 3, 64, 64)], {}),
    "doubling_conv, one filter": (
        [noise(16, 200, 40, 64), noise(3, 3, 1, 64)],
        {},
    ),
    "conv, a row in steps": (
        [noise(4, 1, 800, 512), 0.02 * noise(1, 4, 512, 512)],
        {"stride": (1, 2), "pad": ((0, 0), (0, 0))},
    ),
    # Inside TERA's first layer.
    "gelu": ([noise(4, 500, 3072)], {}),
    "group_norm": (
        [noise(4, 3200, 512), *np.ones((2, 512))],
        {"groups": 32, "epsilon": 1e-5},
    ),
    "gru": (
        [
            noise(16, 300, 80),
            np.zeros((16, 512)),
            0.1 * noise(80, 1536),
            0.05 * noise(512, 1536),
            np.zeros((2, 1536)),
        ],
        {},
    ),
    "lstm": (
        [
            noise(256, 100, 13),
            *np.zeros((2, 256, 50)),
            0.1 * noise(13, 200),
            0.1 * noise(50, 200),
            np.zeros(200),
        ],
        {},
    ),
    "lstm, one input": (
        [
            noise(256, 1, 50),
            *np.zeros((2, 256, 50)),
            0.1 * noise(50, 200),
            0.1 * noise(50, 200),
            np.zeros(200),
        ],
        {"frames": 100},
    ),
    "max_pool": ([noise(*BYOL_A)], {"pool": (2, 2)}),
    "max_pool, overlapping": (
        [noise(16, 53, 50, 64)],
        {"pool": (3, 3), "stride": (2, 2)},
    ),
    "norm_silu": ([noise(*UNIT), *np.ones((2, 96))], STATISTICS),
    "relu_pool": ([noise(*BYOL_A)], {"pool": (2, 2)}),
    "rolled": (
        [
            noise(64, 16000),
            np.arange(64, dtype="int32") * 200,
            np.full(64, 16000, "int32"),
        ],
        {},
    ),
    "soft_ranks": ([16 * noise(256, 64)], {"kind": "l2"}),
    "soft_ranks, exponentials": ([16 * noise(256, 64)], {"kind": "kl"}),
}
FRONT_END = ("as_one", "in_chunks", "sliding_frames", "splitting_pays")


def compiled(function, arrays):
    """A call of a function of tensors, as the backend compiles it."""
    tensors = [keras.ops.convert_to_tensor(a) for a in arrays]
    if BACKEND == "jax":
        import jax

        graph = jax.jit(function)
        return lambda: jax.block_until_ready(graph(*tensors))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        graph = tf.function(function)
        return lambda: keras.ops.convert_to_numpy(
            keras.tree.flatten(graph(*tensors))[0]
        )
    import torch

    def call():
        y = function(*tensors)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return y

    return call


def kernel(name, arrays, options, room):
    """A call of a module's function, with its gradient where that is used."""
    function = getattr(room, name)
    whole = [getattr(a, "dtype", None) == "int32" for a in arrays]
    arrays = [
        a if keep else np.asarray(a, "float32")
        for a, keep in zip(arrays, whole, strict=True)
    ]
    if name == "affine":
        return compiled(lambda *x: function(*x, **options), arrays)
    # With respect to these.
    real = tuple(i for i, keep in enumerate(whole) if not keep)

    def loss(*tensors):
        y = function(*tensors, **options)
        y = y[0] if isinstance(y, tuple) else y
        return keras.ops.sum(keras.ops.square(y))

    if BACKEND == "jax":
        import jax

        return compiled(jax.grad(loss, real), arrays)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def gradient(*tensors):
            with tf.GradientTape() as tape:
                tape.watch([tensors[i] for i in real])
                value = loss(*tensors)
            return tape.gradient(value, [tensors[i] for i in real])

        return compiled(gradient, arrays)
    import torch

    def gradient(*tensors):
        tensors = [t.detach() for t in tensors]
        for i in real:
            tensors[i].requires_grad_()
        return torch.autograd.grad(loss(*tensors), [tensors[i] for i in real])

    return compiled(gradient, arrays)


def log_mel(name, room):
    """A call of a log-mel, for which `name` is taken from a module.

    Compiled, but for the name that makes calls without compiling one.
    """
    # What is traced, or made, keeps the module's version.
    own, x = getattr(backend, name), 0.1 * noise(256, 16000)
    setattr(backend, name, getattr(room, name))
    layer = LogMel(n_mels=80, log_add=1e-6)
    call = (lambda: layer(x)) if name == "as_one" else compiled(layer, [x])

    def inside():
        setattr(backend, name, getattr(room, name))
        try:
            return keras.ops.convert_to_numpy(call())
        finally:
            setattr(backend, name, own)

    setattr(backend, name, own)
    return inside


def duel(calls, rounds):
    """The shortest time of each call, in seconds."""
    for call in calls:
        call()
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            time.sleep(0.01)
            begin = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - begin)
    return best


def main():
    lines = (*KERNELS, *FRONT_END)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="; ".join(lines))
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    for line in args.names or lines:
        name = line.split(",")[0]
        if getattr(backend, name) is getattr(portable, name):
            continue
        calls = [
            kernel(name, *KERNELS[line], room)
            if line in KERNELS
            else log_mel(name, room)
            for room in (backend, portable)
        ]
        ours, plain = duel(calls, args.rounds)
        print(
            f"{BACKEND:<11}{line:<28} {1e3 * ours:8.1f} ms, plain "
            f"{1e3 * plain:8.1f} ms ({ours / plain:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
