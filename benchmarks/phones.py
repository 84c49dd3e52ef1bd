"""Phones of unseen speakers, from one frame and from five side by side.

    python benchmarks/phones.py DATA --output phones.jsonl -- tera npc

Five frames side by side tell more of a phone than one does, of log-mels too:
so each encoder is read both ways, as trained and with random weights, beside
its own front end's features and those of `LogMelStatistics`. The task is the
one of the weights' cards. What --output holds already is not measured again.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import keras
import numpy as np

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation

sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))
from train import held_tasks


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


def rows(names, draws):
    """`(name, reading, seed, encoder)`, each made when its turn comes."""
    yield "log-mel", "features", None, evaluation.LogMelStatistics()
    for name in names:
        trained = kas.load_encoder(name)
        front_end = trained.frontend
        bands = kas.encoders.KerasBackbone(
            keras.layers.Identity(), front_end.n_features, exact_lengths=True
        )
        yield name, "features", None, kas.Encoder(front_end, bands)
        for seed in (None, *range(draws)):
            encoder = trained
            if seed is not None:
                encoder = evaluation.untrained(trained, seed)
            yield name, "last level", seed, encoder
            yield name, "all levels", seed, kas.Readout(encoder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder of the data sets")
    parser.add_argument("--output", required=True, help="JSON lines")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 5])
    parser.add_argument(
        "--widest", type=int, default=2000,
        help="values of the neighbours joined, at most",
    )  # fmt: skip
    parser.add_argument("encoders", nargs="+")
    args = parser.parse_args()
    output, found, task = Path(args.output), {}, held_tasks()["phone"]
    if output.exists():
        for line in output.read_text().splitlines():
            *key, accuracy = json.loads(line)
            found[tuple(key)] = accuracy
    for name, reading, seed, encoder in rows(args.encoders, args.draws):
        for frames in args.frames:
            key = name, reading, frames, seed
            if key in found or frames * encoder.dim > args.widest:
                continue
            vectors = evaluation.Embeddings(Context(encoder, frames))
            result = evaluation.run_task(task, vectors, args.data, "unseen")
            found[key] = round(result.accuracy, 4)
            print(*key, f"{result.accuracy:.3f}", flush=True)
            with output.open("a") as file:
                file.write(json.dumps([*key, found[key]]) + "\n")
    for name, reading, frames in dict.fromkeys(key[:3] for key in found):
        own = found.get((name, reading, frames, None))
        rest = [
            a
            for key, a in found.items()
            if key[:3] == (name, reading, frames) and key[3] is not None
        ]
        line = f"| {name} | {reading} | {frames} | {own:.3f} |"
        if rest:
            line += (f" {statistics.mean(rest):.3f} "
                     f"({min(rest):.3f}-{max(rest):.3f}) |")  # fmt: skip
        print(line)


if __name__ == "__main__":
    main()
