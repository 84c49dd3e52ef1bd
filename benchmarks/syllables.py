"""Speech2Vec on real speech: does a syllable find the same by another speaker?

    python benchmarks/syllables.py DATA [--steps 600] [--seeds 0 1 2] [--json]

DATA is the folder of the data sets. Trains on the syllables of five speakers
of the Berlin Database of Emotional Speech (`emodb/syllables.csv`). Then each
syllable of two speakers who were not heard is a query against all syllables
of the other one of them, so that the voice is of no help; mean average
precision, of queries that have something to find. Both say the ten sentences
that were trained on.

Rows: each task and setting of `VARIANTS`, trained, and the same encoder with
random weights; log-mel statistics of the syllable; frames compared by dynamic
time warping (`librosa.sequence.dtw`, cosine distance, over the length of the
path); a random order. Vectors are compared by their cosine, as they are and
with each value standardised on the syllables that were trained on. `company`
is the same measure of the standardised ones where what is to be found is not
the syllable but any of the same sentence, as skip-gram is to learn.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation
from keras_audio_ssl.callbacks.steps import StepCallback

HEARD, UNHEARD = ("03", "08", "09", "10", "11"), ("12", "13")
SECONDS = 2.0  # of each file
LOG_MEL = {
    "n_mels": 40, "f_min": 20.0, "f_max": None, "log_floor": 1e-10,
}  # fmt: skip

# Arguments of `Speech2Vec`; a syllable has 17 frames of 10 ms, or so.
BASE = {"max_frames": 50, "learning_rate": 3e-3}
VARIANTS = {
    "base": {},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "teacher": {"decoder_input": "teacher"},
    "free": {"decoder_input": "free"},
    "window 1": {"window": 1},
    "window 5": {"window": 5},
    "100 units": {"encoder": {"units": 100}},
    "log-mel": {"encoder": {"frontend": "mpc"}},
    "a decoder a place": {"decoder": "per_position"},
}


def note(text):
    """What goes on, beside the results."""
    print(text, file=sys.stderr, flush=True)


class Progress(StepCallback):
    """Says how the loss falls."""

    def __init__(self, name, steps):
        super().__init__(max(1, steps // 5))
        self.name, self.steps, self.begin = name, steps, time.monotonic()

    def on_step(self, step, logs):
        told = "  ".join(f"{k} {v:.4f}" for k, v in logs.items())
        passed = time.monotonic() - self.begin
        note(
            f"{self.name}: step {step} of {self.steps}, {passed:.0f} s, {told}"
        )


def utterances(folder, speakers, batch_size=1, where=None, **options):
    """The clips of some speakers, with their syllables."""
    return kas.data.from_alignments(
        folder / "emodb" / "manifest.csv",
        folder / "emodb" / "syllables.csv",
        SECONDS,
        batch_size,
        where={"speaker": speakers, **(where or {})},
        **options,
    )


def syllables(folder, speakers):
    """Waveforms of all that they say, the syllable and the sentence of each."""
    manifest = folder / "emodb" / "manifest.csv"
    table = kas.data.read_manifest(manifest, where={"speaker": speakers})
    said = [
        (wave, syllable, sentence)
        for sentence in sorted(set(table["sentence"]))
        for wave, syllable in kas.data.spoken_words(
            utterances(folder, speakers, where={"sentence": [sentence]})
        )
    ]
    waves, names, sentences = zip(*said, strict=True)
    return list(waves), np.array(names), np.array(sentences)


def precision(similarity, labels):
    """Mean average precision of both speakers' syllables, and the queries.

    Args:
        similarity: `(syllables of the first, syllables of the second)`.
        labels: Of both, what is to be found where they are the same.
    """
    same = labels[0][:, None] == labels[1]
    parts = [
        evaluation.mean_average_precision(similarity, same),
        evaluation.mean_average_precision(similarity.T, same.T),
    ]
    queries = sum(n for _, n in parts)
    return sum(mean * n for mean, n in parts) / queries, queries


def cosines(a, b):
    """Of each row of `a` with each of `b`."""
    a, b = (
        x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
        for x in (a, b)
    )
    return a @ b.T


def by_vectors(embed, heard, unheard, names, sentences):
    """Precision by vectors as they are, and standardised."""
    first, second = (embed(waves) for waves in unheard)
    known = embed(heard)
    mean, scale = known.mean(0), np.maximum(known.std(0), 1e-6)
    plain, _ = precision(cosines(first, second), names)
    alike = cosines((first - mean) / scale, (second - mean) / scale)
    return {
        "as_is": plain,
        "standardised": precision(alike, names)[0],
        "company": precision(alike, sentences)[0],
    }


def frames_of(frontend, waves):
    """Frames `(frames, bins)` of each syllable."""
    least = frontend.min_samples
    return [
        keras.ops.convert_to_numpy(
            frontend(np.pad(wave, (0, max(0, least - len(wave))))[None])
        )[0]
        for wave in waves
    ]


def warped(first, second, name):
    """Similarity of sequences by dynamic time warping."""
    from librosa.sequence import dtw

    found, begin = np.zeros((len(first), len(second))), time.monotonic()
    told = begin
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            total, path = dtw(C=1 - cosines(a, b))
            found[i, j] = -total[-1, -1] / len(path)
        if time.monotonic() - told > 10:
            told = time.monotonic()
            note(f"{name}: {i + 1} of {len(first)}, {told - begin:.0f} s")
    return found


def by_frames(frontend, heard, unheard, names, sentences, title):
    """Precision by frames as they are, and standardised."""
    known = np.concatenate(frames_of(frontend, heard))
    mean, scale = known.mean(0), known.std(0)
    first, second = (frames_of(frontend, waves) for waves in unheard)
    plain, _ = precision(warped(first, second, title), names)
    first, second = (
        [(x - mean) / scale for x in frames] for frames in (first, second)
    )
    alike = warped(first, second, f"{title}, standardised")
    return {
        "as_is": plain,
        "standardised": precision(alike, names)[0],
        "company": precision(alike, sentences)[0],
    }


def trained(task, settings, folder, steps, batch_size, seed, name):
    """A model after training, and its last metrics."""
    keras.utils.set_random_seed(seed)
    model = kas.Speech2Vec(task, seed=seed, **{**BASE, **settings})
    model.compile()
    data = utterances(folder, HEARD, batch_size, seed=seed, repeat=True)
    told = model.fit(
        data,
        epochs=1,
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[Progress(name, steps)],
    )
    return model, {k: v[-1] for k, v in told.history.items()}


def rows(args):
    """Each row, as a dict, when it is done."""
    heard, *_ = syllables(args.data, HEARD)
    unheard, names, sentences = zip(
        *(syllables(args.data, [speaker]) for speaker in UNHEARD), strict=True
    )
    known = heard, unheard, names, sentences
    rng = np.random.default_rng(0)
    shape = tuple(map(len, names))
    orders = [rng.random(shape) for _ in range(5)]
    yield {
        "row": "random order",
        "as_is": np.mean([precision(x, names)[0] for x in orders]),
        "company": np.mean([precision(x, sentences)[0] for x in orders]),
        "trained_on": len(heard),
        "syllables": list(shape),
        "queries": precision(orders[0], names)[1],
    }
    if not args.skip_baselines:
        plain = evaluation.LogMelStatistics()
        yield {"row": "log-mel statistics"} | by_vectors(plain.embed, *known)
        fronts = {
            "log-mel frames, time warping": kas.features.LogMel(**LOG_MEL),
            "MFCC frames, time warping": kas.features.MFCC(
                n_mfcc=13, **LOG_MEL
            ),
        }
        for title, frontend in fronts.items():
            yield {"row": title} | by_frames(frontend, *known, title)
    for variant in args.variants:
        for task in args.tasks:
            settings = VARIANTS[variant]
            if task == "cbow" and "decoder" in settings:
                continue
            for seed in args.seeds:
                name = f"{task}, {variant}, seed {seed}"
                model, told = trained(
                    task, settings, args.data, args.steps, args.batch_size,
                    seed, name,
                )  # fmt: skip
                fresh = evaluation.untrained(model.encoder, seed)
                about = {
                    "task": task, "variant": variant, "seed": seed,
                    "steps": args.steps,
                }  # fmt: skip
                for kind, encoder, more in (
                    ("trained", model.encoder, told),
                    ("untrained", fresh, {}),
                ):
                    found = by_vectors(encoder.embed, *known)
                    yield {"row": f"{name}, {kind}"} | about | found | more


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=8, help="clips")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=["skipgram", "cbow"])
    parser.add_argument(
        "--variants", nargs="*", default=["base"], choices=list(VARIANTS)
    )
    parser.add_argument("--skip-baselines", action="store_true")
    parser.add_argument("--json", action="store_true", help="a line a row")
    args = parser.parse_args()
    for row in rows(args):
        row = {
            k: round(float(v), 4) if isinstance(v, (float, np.floating)) else v
            for k, v in row.items()
        }
        if args.json:
            print(json.dumps(row), flush=True)
            continue
        scores = "  ".join(
            f"{k} {row[k]:.3f}"
            for k in ("as_is", "standardised", "company")
            if k in row
        )
        loss = f"  loss {row['loss']:.4f}" if "loss" in row else ""
        if "trajectory_mse" in row:
            loss += f" (mean trajectory {row['trajectory_mse']:.4f})"
        print(f"{row['row']:<48} {scores}{loss}", flush=True)


if __name__ == "__main__":
    main()
