"""Soft ranks and their gradients, against torchsort or fast-soft-sort.

    pip install --no-build-isolation torchsort
    KERAS_BACKEND=jax python benchmarks/soft_rank.py [N ...] [--batch 256]

A line for each number of scores and each regularisation: values, and values
with a gradient. Theirs is PyTorch: fast-soft-sort, a row after the other in
numba, by the authors (Blondel et al., 2020; no release of it installs from
PyPI), or torchsort, the same in C++. Both sides are called in turn, so that a
busy moment hits both alike, and each figure is the shortest of its calls. A
ratio below 1 says that ours is faster. Without either package, ours alone. Both
are first compared.
"""

import argparse
import functools
import importlib
import time

import keras
import numpy as np

from keras_audio_ssl.losses import soft_rank

BACKEND = keras.config.backend()


def ours(scores, regularization, gradient):
    """A call of ours, as the backend compiles it; it gives numpy."""

    def rank(x):
        return soft_rank(x, 1.0, regularization)

    def total(x):
        return keras.ops.sum(keras.ops.square(rank(x)))

    x = keras.ops.convert_to_tensor(scores)
    if BACKEND == "jax":
        import jax

        compiled = jax.jit(jax.grad(total) if gradient else rank)
        return lambda: np.asarray(compiled(x))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def slope(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = total(x)
            return tape.gradient(value, x)

        compiled = tf.function(slope if gradient else rank)
        return lambda: compiled(x).numpy()

    def call():
        if not gradient:
            return rank(x).cpu().numpy()
        leaf = x.detach().requires_grad_()
        # What follows the ranks is the same on both sides.
        rank(leaf).square().sum().backward()
        return leaf.grad.cpu().numpy()

    return call


# Modules with a `soft_rank` of the same arguments, by name.
PEERS = {
    "fast-soft-sort": "fast_soft_sort.pytorch_ops",
    "torchsort": "torchsort",
}


def peer():
    """Name and function of the first of `PEERS` that is installed, or None."""
    for name, module in PEERS.items():
        try:
            return name, importlib.import_module(module).soft_rank
        except ImportError:
            pass
    print(f"Neither of {', '.join(PEERS)} is installed: ours alone.")
    return None


def theirs(soft_rank, scores, regularization, gradient):
    """A call of a peer; it gives numpy."""
    import torch

    x = torch.from_numpy(scores)

    def call():
        leaf = x.clone().requires_grad_(gradient)
        ranks = soft_rank(
            leaf, regularization=regularization, regularization_strength=1.0
        )
        if not gradient:
            return ranks.numpy()
        ranks.square().sum().backward()
        return leaf.grad.numpy()

    return call


def duel(calls, rounds):
    """The shortest time of each call, in seconds."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            time.sleep(0.01)
            begin = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - begin)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sizes", nargs="*", type=int, metavar="N")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    sides, other = [ours], peer()
    if other:
        sides.append(functools.partial(theirs, other[1]))
    rng = np.random.default_rng(0)
    for n in args.sizes or (8, 64, 512):
        # As far apart as ranks are, so that there are blocks of all sizes.
        scores = rng.normal(0, n / 4, (args.batch, n)).astype("float32")
        for kind in ("l2", "kl"):
            for gradient in (False, True):
                calls = [side(scores, kind, gradient) for side in sides]
                found = [call() for call in calls]
                off = np.abs(found[0] - found[-1]).max()
                largest = max(1.0, np.abs(found[-1]).max())
                times = duel(calls, args.rounds)
                what = "gradient" if gradient else "values"
                line = f"{BACKEND:<11}n={n:<5}{kind:<4}{what:<9}"
                line += f"{1e3 * times[0]:9.2f} ms"
                if len(times) > 1:
                    line += (
                        f", {other[0]} {1e3 * times[1]:9.2f} ms "
                        f"({times[0] / times[1]:.2f}), off by "
                        f"{off / largest:.1e}"
                    )
                print(line, flush=True)


if __name__ == "__main__":
    main()
