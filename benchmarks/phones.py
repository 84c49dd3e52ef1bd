"""Phones of unseen speakers, from one frame and from five side by side.

    python benchmarks/phones.py DATA --output phones.jsonl -- tera npc

Five frames side by side tell more of a phone than one does, of log-mels too:
so each encoder is read both ways, as trained and with random weights, beside
its own front end's features and those of `LogMelStatistics`; at its last level,
with all levels joined, and with `WeightedSum`, whose shares a linear layer
learns on the training speakers. The task is the one of the weights' cards. With
--seeds 1 2 the recipes of the weights are trained again with these seeds,
beside the one that ships, whose seed is 0. What --output holds already is not
measured again; the encoders are kept in a folder beside it.
"""

import argparse
import functools
import json
import sys
from pathlib import Path

import keras
import numpy as np
from curve import told

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation
from keras_audio_ssl.data import read_manifest

sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))
from train import PHONE_SPEAKERS
from train import held_tasks
from train import train_again

LEARN_FROM = PHONE_SPEAKERS[:-2]


class Context:
    """An encoder whose frames stand beside their neighbours.

    Args:
        encoder: Any `Encoder`.
        frames: How many side by side, odd; at the ends the last one again.
    """

    def __init__(self, encoder, frames):
        self.encoder, self.half = encoder, frames // 2
        self.sample_rate = encoder.sample_rate
        self.frame_rate = encoder.frame_rate

    def embed(self, waves):
        return self.encoder.embed(waves)

    def embed_frames(self, waves):
        """List of `(frames, neighbours * dim)`, one a waveform."""
        return [self.joined(x) for x in self.encoder.embed_frames(waves)]

    def joined(self, x):
        places = np.arange(len(x))
        near = range(-self.half, self.half + 1)
        parts = [x[np.clip(places + i, 0, len(x) - 1)] for i in near]
        return np.concatenate(parts, axis=-1)


class Mixture(keras.Model):
    """Phones by a linear layer on a mixture of levels, `(batch, levels, dim)`.

    The shares are those of a `WeightedSum`, which so gets them.
    """

    def __init__(self, shares, classes):
        super().__init__()
        self.shares = shares
        self.scale = keras.layers.BatchNormalization(center=False, scale=False)
        self.head = keras.layers.Dense(classes)

    def call(self, x, training=False):
        shares = keras.ops.softmax(self.shares)
        x = keras.ops.sum(x * shares[:, None], axis=1)
        return self.head(self.scale(x, training=training))


def mixed(encoder, data, epochs=30):
    """A `WeightedSum` with the shares by which its phones are told best.

    Learnt with the head, on the training speakers alone, as SUPERB does.
    """
    folder = Path(data) / "emodb"
    dims = encoder.backbone.dims
    levels = [i for i, dim in enumerate(dims) if dim == encoder.dim]
    out = kas.WeightedSum(encoder, levels)
    where = {"speaker": LEARN_FROM}
    heard = set(read_manifest(folder / "manifest.csv", where)["file"])
    phones = read_manifest(folder / "phones.csv")
    spans: dict = {}
    for file, start, end, phone in zip(
        *(phones[k] for k in ("file", "start", "end", "phone")), strict=True
    ):
        if file in heard:
            middle = (float(start) + float(end)) / 2
            spans.setdefault(file, []).append((middle, phone))
    files, x, y = list(spans), [], []
    vectors = evaluation.Embeddings(kas.Readout(encoder, levels))
    for place, frames in vectors.frames([str(folder / f) for f in files]):
        for middle, phone in spans[files[place]]:
            at = int(middle * encoder.frame_rate)
            if at < len(frames):
                x.append(frames[at].reshape(-1, out.dim))
                y.append(phone)
    names = sorted(set(y))
    y = np.array([names.index(name) for name in y])
    keras.utils.set_random_seed(0)
    model = Mixture(out.mixing[0], len(names))
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(np.array(x), y, batch_size=256, epochs=epochs, verbose=0)
    print("shares", *(f"{s:.2f}" for s in out.level_weights), flush=True)
    return out


def features(encoder):
    """An encoder that gives what its front end does."""
    front_end = encoder.frontend
    bands = kas.encoders.KerasBackbone(
        keras.layers.Identity(), front_end.n_features, exact_lengths=True
    )
    return kas.Encoder(front_end, bands)


READINGS = {
    "last level": lambda encoder, data: encoder,
    "all levels": lambda encoder, data: kas.Readout(encoder),
    "weighted sum": mixed,
}


def rows(args):
    """`(name, reading, which, function that makes the encoder)`.

    Which is "trained 0" for the weight that ships, "trained 1" for its recipe
    with another seed, "drawn 0" for random weights, "" for features.
    """
    yield "log-mel", "features", "", evaluation.LogMelStatistics
    folder = Path(args.output).with_suffix("")
    for name in args.encoders:
        ships = functools.cache(functools.partial(kas.load_encoder, name))
        yield name, "features", "", lambda ships=ships: features(ships())
        made = {"trained 0": ships}
        for seed in args.seeds:
            file = folder / f"{name}_{seed}.keras"
            made[f"trained {seed}"] = functools.cache(
                functools.partial(train_again, name, seed, args.data, file)
            )
        for seed in range(args.draws):
            made[f"drawn {seed}"] = lambda seed=seed, ships=ships: (
                evaluation.untrained(ships(), seed)
            )
        for which, make in made.items():
            for reading in args.readings:

                def read(make=make, reading=READINGS[reading]):
                    return reading(make(), args.data)

                yield name, reading, which, read


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder of the data sets")
    parser.add_argument("--output", required=True, help="JSON lines")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[], help="to train again with"
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 5])
    parser.add_argument(
        "--widest", type=int, default=2000,
        help="values of the neighbours joined, at most",
    )  # fmt: skip
    parser.add_argument(
        "--readings", nargs="+", choices=READINGS, default=list(READINGS)
    )
    parser.add_argument("encoders", nargs="+")
    args = parser.parse_args()
    output, found, task = Path(args.output), {}, held_tasks()["phone"]
    if output.exists():
        for line in output.read_text().splitlines():
            *key, accuracy = json.loads(line)
            found[tuple(key)] = accuracy
    for name, reading, which, make in rows(args):
        keys = [(name, reading, frames, which) for frames in args.frames]
        if all(key in found for key in keys):
            continue
        encoder = make()
        for key, frames in zip(keys, args.frames, strict=True):
            if key in found or frames * encoder.dim > args.widest:
                continue
            vectors = evaluation.Embeddings(Context(encoder, frames))
            result = evaluation.run_task(task, vectors, args.data, "unseen")
            found[key] = round(result.accuracy, 4)
            print(*key, f"{result.accuracy:.3f}", flush=True)
            with output.open("a") as file:
                file.write(json.dumps([*key, found[key]]) + "\n")
    for what in dict.fromkeys(key[:3] for key in found):
        groups: dict = {}
        for key, accuracy in found.items():
            if key[:3] == what:
                groups.setdefault(key[3].split(" ")[0], []).append(accuracy)
        cells = [
            told(groups[g]) for g in ("", "trained", "drawn") if g in groups
        ]
        print("|", " | ".join([*map(str, what), *cells]), "|")


if __name__ == "__main__":
    main()
