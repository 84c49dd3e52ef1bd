"""Recovers the Lorenz attractor from noise, the DAPC paper's experiment.

    python benchmarks/lorenz.py [--steps 500] [--snr 0.3 1 5] [--seeds 3]

The attractor's three coordinates, standardised, pass a random network to 30
dimensions, to which white noise is added (a shared covariance of random
directions). Each method gives three latent dimensions a frame; R2 is that of
a linear regression from them, fitted on the training part, to the coordinates
on the rest. Rows: the noisy input's three principal components, DAPC's linear
encoder (dynamical components analysis), DAPC with a recurrent one, by this
package's weights of the losses and by those of the authors' recipe: 500 times
the squared error of what is hidden, dropout of 0.7 between the layers, Adam at
1e-3, some 500 steps of 20 sequences. Their four layers of 256 are `--layers 4
--units 256`.
"""

import argparse

import keras
import numpy as np

import keras_audio_ssl as kas
from keras_audio_ssl.features import LogMel

BINS = 30


def attractor(frames, step=0.025, seed=0, inner=10):
    """Standardised coordinates of the Lorenz system, `(frames, 3)`."""
    rng = np.random.default_rng(seed)
    point = rng.normal((0, 0, 25), 5)
    out = np.empty((frames + 200, 3))
    for t in range(len(out)):
        for _ in range(inner):
            # Runge and Kutta's fourth order.
            h = step / inner
            k1 = slope(point)
            k2 = slope(point + h / 2 * k1)
            k3 = slope(point + h / 2 * k2)
            k4 = slope(point + h * k3)
            point = point + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        out[t] = point
    out = out[200:]
    return (out - out.mean(0)) / out.std(0)


def slope(point):
    x, y, z = point
    return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])


def observed(states, snr, seed=0):
    """States lifted to `BINS` dimensions, with noise; each of variance 1."""
    rng = np.random.default_rng(seed)
    lifted = np.tanh(states @ rng.normal(0, 0.7, (3, 64)))
    lifted = lifted @ rng.normal(0, 1, (64, BINS))
    lifted = (lifted - lifted.mean(0)) / lifted.std()
    mixing = rng.normal(0, 1, (BINS, BINS)) * np.linspace(0.2, 2, BINS)
    noise = rng.standard_normal((len(states), BINS)) @ mixing
    x = np.sqrt(snr) * lifted + noise / noise.std()
    return ((x - x.mean(0)) / x.std(0)).astype("float32")


class OnFeatures(kas.DAPC):
    """DAPC that reads sequences of features."""

    def call(self, x, training=False):
        lengths = keras.ops.full(
            (keras.ops.shape(x)[0],), keras.ops.shape(x)[1], "int32"
        )
        altered, hidden = self.masks(
            x, lengths=lengths, seed=self.seed_generator
        )
        return self.components(x, altered, hidden, lengths, training)


def latents(x, train, encoder, steps, seed, length=500, batch=20, **settings):
    """Three latent dimensions a frame, after training on the first frames."""
    keras.utils.set_random_seed(seed)
    model = OnFeatures(
        {"dim": 3, "frontend": "dapc", "n_mels": BINS, **encoder},
        mask_channels=5, mask_frames=40, seed=seed,
        **{"learning_rate": 2e-3, **settings},
    )  # fmt: skip
    assert isinstance(model.encoder.frontend, LogMel)
    model.compile()
    rng = np.random.default_rng(seed)

    def batches():
        while True:
            start = rng.integers(0, train - length, batch)
            yield np.stack([x[s : s + length] for s in start])

    keras.Model.fit(
        model, ((b,) for b in batches()), steps_per_epoch=steps, verbose=0
    )
    hidden = model.encoder.backbone(x[None])["hidden"][-1]
    return keras.ops.convert_to_numpy(hidden)[0]


def principal(x):
    """The three principal components."""
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return x @ axes[:3].T


def r2(z, states, train):
    """Of a linear regression fitted on the first `train` frames."""
    z = np.c_[z, np.ones(len(z))]
    weights = np.linalg.lstsq(z[:train], states[:train], rcond=None)[0]
    left = states[train:] - z[train:] @ weights
    off = states[train:] - states[train:].mean(0)
    return 1 - np.square(left).sum() / np.square(off).sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--snr", type=float, nargs="+", default=[0.3, 1, 5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=1, help="recurrent")
    parser.add_argument("--units", type=int, default=64, help="a direction")
    parser.add_argument("--rows", nargs="+", help="beginnings of their names")
    args = parser.parse_args()
    states = attractor(args.frames)
    train = int(0.8 * args.frames)
    linear = {"layers": 0}
    recurrent = {"layers": args.layers, "units": args.units}
    rows = {
        "principal components": lambda x, seed: principal(x),
        "DAPC, linear": lambda x, seed: latents(
            x, train, linear, args.steps, seed, reconstruction_weight=0.0
        ),
        "DAPC, recurrent": lambda x, seed: latents(
            x, train, recurrent, args.steps, seed
        ),
        "DAPC, recurrent, authors' weights": lambda x, seed: latents(
            x, train, {**recurrent, "dropout": 0.7}, args.steps, seed,
            reconstruction_weight=500.0, distance="mse", learning_rate=1e-3,
        ),
    }  # fmt: skip
    wanted = tuple(args.rows or [""])
    rows = {k: make for k, make in rows.items() if k.startswith(wanted)}
    for snr in args.snr:
        x = observed(states, snr)
        for name, make in rows.items():
            scores = [
                r2(make(x, seed), states, train) for seed in range(args.seeds)
            ]
            print(
                f"SNR {snr:<4} {name:<34} R2 {np.mean(scores):.3f} "
                f"({min(scores):.3f} to {max(scores):.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
