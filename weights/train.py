"""Makes the weights that ship with the package, and what is said of them.

    python weights/train.py cola
    python weights/train.py --table

Trains NAME by its recipe, on rows `split=train` of `pretrain.csv` alone or on
no recording at all, into `weights/NAME.keras`; then scores it on
recordings that it has not heard, and writes its card, `NAME.json`, and the
tables that are made of all cards. Interrupted, the same command goes on;
`--overwrite` begins anew, `--score` leaves the training out.
"""

import argparse
import hashlib
import io
import itertools
import json
import os
import platform
import zipfile
from pathlib import Path

from cards import ROWS
from cards import averaged
from cards import cards
from cards import judge
from cards import write_all

from keras_audio_ssl._files import as_json
from keras_audio_ssl._files import write_text

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data" / "pretrain.csv"
WHERE = "split=train"
# Sentences alone: of all train rows they are 7 clips in 100, though 44 % of the
# time.
SENTENCES = [WHERE, "corpus=librispeech_mini"]
MAX_BYTES = 4_500_000

# What each is, and the arguments of `kas.pretrain` that make it.
TRANSFORMER = {
    "units": 192, "heads": 4, "feed_forward": 768, "layers": 3,
    "normalize": "per_bin",
}  # fmt: skip
MASKED = {
    "where": SENTENCES,
    "settings": {"encoder": TRANSFORMER, "learning_rate": 1e-3},
    "steps": 1500,
    "batch_size": 16,
    "seconds": 2.0,
}
SLICES = {
    "settings": {
        "encoder": {
            "n_mels": 32,
            "channels": [8, 16, 32, 64],
            "dim": 128,
        },
        "frames": 48,
        "decoder_channels": [32, 16, 8, 8],
    },
    "steps": 600,
    "batch_size": 32,
    "seconds": 3.0,
}
# No recording of `pretrain.csv` says where its words are.
WORDS = {
    "data": "synthetic",
    "settings": {
        "encoder": {"units": 50, "frontend": "speech2vec_coarse"},
        "window": 2,
        "max_frames": 40,
        "learning_rate": 3e-3,
    },
    "steps": 1000,
    "batch_size": 16,
    "seconds": 3.0,
}
RECIPES = {
    "apc": {
        "summary": "speech and notes, a vector a frame: 3 GRU layers of 256",
        "method": "apc",
        "settings": {
            "encoder": {"units": 256, "layers": 3, "normalize": "per_bin"},
            "learning_rate": 1e-3,
        },
        "steps": 300,
        "batch_size": 16,
        "seconds": 2.0,
    },
    "audio2vec_cbow": {
        "summary": "scenes and sounds, a vector a window: four conv blocks",
        "method": "audio2vec_cbow",
        **SLICES,
    },
    "audio2vec_skipgram": {
        "summary": "scenes and sounds, a vector a window: four conv blocks",
        "method": "audio2vec_skipgram",
        **SLICES,
    },
    "audio_albert": {
        "summary": "speech, a vector a frame: one transformer layer, 3 times",
        "method": "audio_albert",
        **MASKED,
    },
    "byol_a": {
        "summary": "sounds of all kinds, a vector a clip: AudioNTT, 512 wide",
        "method": "byol_a",
        "settings": {
            "encoder": {"dim": 512},
            "seconds": 0.475,
            "learning_rate": 1e-3,
        },
        "steps": 300,
        "batch_size": 64,
        "seconds": 0.95,
    },
    "clar": {
        "summary": "sounds of all kinds, a vector a clip: a small VGG, 256",
        "method": "clar",
        "settings": {
            "encoder": {
                "backbone": "vgg",
                "frontend": "clar_short",
                "n_mels": 64,
                "conv_channels": 16,
                "dim": 256,
            },
            "seconds": 0.95,
        },
        "steps": 300,
        "batch_size": 48,
        "seconds": 1.0,
    },
    "cola": {
        "summary": "sounds of all kinds, a vector a clip: AudioNTT, 512 wide",
        "method": "cola",
        "settings": {"encoder": {"backbone": "cnn"}, "seconds": 0.335},
        "steps": 350,
        "batch_size": 64,
        "seconds": 4.0,
    },
    "dapc": {
        "summary": "speech, a vector a frame: 2 GRU layers of 256",
        "method": "dapc",
        "where": SENTENCES,
        "settings": {
            # The first layer knows most of phones, the second is what the
            # latents are made of.
            "encoder": {
                "units": 128,
                "layers": 2,
                "dim": 64,
                "output_level": 0,
            },
            "decoder_units": 256,
        },
        "steps": 800,
        "batch_size": 16,
        "seconds": 2.0,
    },
    "fonseca": {
        "summary": "sounds of all kinds, a vector a clip: a small VGG",
        "method": "fonseca",
        "settings": {
            "encoder": {"backbone": "vgg", "conv_channels": 16},
            "solver": "adam",
            "learning_rate": 1e-3,
        },
        "steps": 300,
        "batch_size": 48,
        "seconds": 4.0,
    },
    "lim": {
        "summary": "speakers, a vector a chunk of 200 ms: SincNet, 128 wide",
        "method": "lim",
        "settings": {
            "encoder": {
                "sinc": [32, 101],
                "sinc_stride": 4,
                "conv": [[32, 5], [32, 5]],
                "dense": [128],
                "hop": 640,
            },
            "optimization": "adam",
        },
        "steps": 2000,
        "batch_size": 64,
        "seconds": 2.0,
    },
    "mam": {
        "summary": "speech, a vector each 40 ms: 3 transformer layers of 192",
        "method": "mam",
        "where": SENTENCES,
        "settings": {
            "encoder": {**TRANSFORMER, "feed_forward": 512},
            "learning_rate": 1e-3,
        },
        "steps": 600,
        "batch_size": 8,
        "seconds": 2.0,
    },
    "mockingjay": {
        "summary": "speech, a vector a frame: 3 transformer layers of 192",
        "method": "mockingjay",
        **MASKED,
    },
    "mpc": {
        "summary": "speech, a vector each 40 ms: 3 transformer layers of 192",
        "method": "mpc",
        "where": SENTENCES,
        "settings": {
            # Here too the first layer knows most of phones.
            "encoder": {**TRANSFORMER, "filters": 32, "output_level": 1},
            "policy": "bert",
            "learning_rate": 1e-3,
            "warm_up": 0.1,
        },
        "steps": 2500,
        "batch_size": 16,
        "seconds": 2.0,
    },
    "multi_format": {
        "summary": "sounds of all kinds, waveform and spectrogram, a vector a "
        "clip",
        "method": "multi_format",
        "settings": {
            "waveform_encoder": {
                "units": 64,
                "convs": [[10, 5], [8, 4], [4, 2], [4, 2]],
                "norm": "batch",
            },
            "spectrogram_encoder": {"n_mels": 32, "filters": [32, 32, 32]},
            "seconds": 1.0,
            "projection": [256, 128],
            "learning_rate": 1e-3,
        },
        "steps": 500,
        "batch_size": 48,
        "seconds": 2.0,
    },
    "npc": {
        "summary": "speech, a vector a frame: 3 masked conv blocks of 192",
        "method": "npc",
        "settings": {
            "encoder": {"units": 192, "blocks": 3, "normalize": "per_bin"},
            "codebooks": None,
            "learning_rate": 1e-3,
        },
        "steps": 700,
        "batch_size": 16,
        "seconds": 2.0,
    },
    "permutations": {
        "summary": "instruments and pitch, a vector a clip",
        "method": "permutations",
        "settings": {},
        "steps": 600,
        "batch_size": 32,
        "seconds": 2.0,
    },
    "speech2vec_cbow": {
        "summary": "spoken words, a vector each, of synthetic speech alone",
        "method": "speech2vec_cbow",
        **WORDS,
    },
    "speech2vec_skipgram": {
        "summary": "spoken words, a vector each, of synthetic speech alone",
        "method": "speech2vec_skipgram",
        **WORDS,
    },
    "small": {
        "summary": "sounds of all kinds, speech too: AudioNTT, 512 wide",
        "method": "joint",
        "settings": {},
        "steps": 2900,
        "batch_size": 128,
        "seconds": 2.0,
    },
    "synthetic": {
        "summary": "sounds of all kinds, from no recording: AudioNTT, 512 wide",
        "method": "joint",
        "data": {"kind": "patches", "clips": 100_000},
        "settings": {},
        "steps": 1000,
        "batch_size": 128,
        "seconds": 2.0,
    },
    "temporal_gap": {
        "summary": "how far apart two moments are: five small conv blocks",
        "method": "temporal_gap",
        "settings": {"window_seconds": 4.9},
        "steps": 800,
        "batch_size": 32,
        "seconds": 5.0,
    },
    "tera": {
        "summary": "speech, a vector a frame: 3 transformer layers of 192",
        "method": "tera",
        **MASKED,
    },
}

CORPORA = {
    "esc10": {
        "title": "ESC-10, K. J. Piczak 2015",
        "licence": "CC BY 3.0",
    },
    "fsdd": {
        "title": "Free Spoken Digit Dataset, Z. Jackson et al.",
        "licence": "CC BY-SA 4.0",
    },
    "librispeech_mini": {
        "title": "LibriSpeech, 251 utterances of train-clean-100, Panayotov "
        "et al. 2015",
        "licence": "CC BY 4.0",
    },
    "philharmonia": {
        "title": "Philharmonia Orchestra sound samples",
        "licence": "CC BY-SA 3.0, not to be sold or offered as samples",
    },
    "synthetic": {
        "title": "sounds that the package makes itself, no recording",
        "licence": "none needed",
    },
}


HOW_SCORED = (
    "Frozen vectors, standardised, multinomial logistic regression, C chosen "
    "within the training part (0.1 for phones); `clip` is the encoder's own "
    "vector (a frame's for phones), `levels` is `Readout` with mean, maximum "
    "and deviation of all levels; untrained is the same encoder with random "
    "weights, the mean of the draws of seeds 0, 1 and 2. Intervals are "
    "Wilson's, 95 %, and take the test examples as independent: they are few "
    "speakers', so the truth is wider. Better and worse lie beyond every "
    "draw, and from their mean by more than the 95 % interval of the "
    "difference."
)

HELD_SPEAKERS = ("theo", "yweweler")
SEEN_SPEAKERS = ("george", "jackson", "lucas", "nicolas")
PHONE_SPEAKERS = ("03", "08", "09", "10", "11", "12", "13")
HELD_INSTRUMENTS = ("cello", "double_bass", "saxophone")
SEEN_INSTRUMENTS = (
    "bass_clarinet", "bassoon", "clarinet", "contrabassoon", "flute",
    "french_horn", "trombone",
)  # fmt: skip


def held_tasks():
    """Tasks that test on recordings which no weight has heard.

    Returns:
        Dict of name to `Task`.
    """
    from keras_audio_ssl.evaluation import TASKS
    from keras_audio_ssl.evaluation import Task

    def parts(column, train, test):
        return {
            "split": {column: {"train": train, "test": test}},
            "groups": column,
        }

    return {
        "scene": Task(
            "10 scenes, recordings of fold 5",
            "esc10",
            {"label": "label", **parts("fold", "1234", "5")},
        ),
        "digit": Task(
            "10 digits, two unseen speakers",
            "fsdd",
            {
                "label": "label",
                **parts("speaker", SEEN_SPEAKERS, HELD_SPEAKERS),
            },
        ),
        "speaker_2": Task(
            "2 speakers, unseen digits",
            "fsdd",
            TASKS["speaker_6"].options | {"where": {"speaker": HELD_SPEAKERS}},
        ),
        "speaker_5": TASKS["speaker_5"],
        "emotion": TASKS["emotion"],
        "phone": Task(
            "phone, two unseen speakers",
            "emodb",
            {
                "label": "phone",
                "frames": "phones.csv",
                "every_frame": False,
                "grid": [0.1],
                **parts("speaker", PHONE_SPEAKERS[:-2], PHONE_SPEAKERS[-2:]),
            },
        ),
        "instrument": Task(
            "3 instruments, unseen notes",
            "philharmonia",
            TASKS["instrument"].options
            | {"where": {"instrument": HELD_INSTRUMENTS}},
        ),
        "pitch": Task(
            "pitch class, three unseen instruments",
            "philharmonia",
            {
                "label": "pitch_class",
                **parts("instrument", SEEN_INSTRUMENTS, HELD_INSTRUMENTS),
            },
        ),
    }


def train(name, data, steps=None, overwrite=False):
    """Trains a weight by its recipe, or goes on with it.

    Args:
        name: A key of `RECIPES`.
        data: `pretrain.csv`.
        steps: Other than the recipe's.
        overwrite: Whether what is there may go.

    Returns:
        What the card says of the training.
    """
    recipe = dict(RECIPES[name])
    recipe["steps"] = steps or recipe["steps"]
    run = pretrained(
        recipe,
        data,
        HERE / f"{name}.keras",
        overwrite=overwrite,
        resume=not overwrite and (HERE / f"{name}.run").exists(),
    )
    print(run)
    config = json.loads((run.folder / "config.json").read_text())
    summary, method = recipe.pop("summary"), recipe.pop("method")
    steps, batch_size = recipe["steps"], recipe["batch_size"]
    data, where = rows(recipe, data)
    return {
        "name": name,
        "summary": summary,
        "method": method,
        "training": {
            **recipe,
            "where": where,
            "seed": config["seed"],
            # A run that went on measured its last part only.
            "seconds_trained": round(
                steps * batch_size / run.metrics["clips_per_second"]
            ),
            "files_too_short": run.metrics["skipped"],
            "versions": config["versions"],
        },
        "data": corpora(data, where),
    }


def rows(recipe, data):
    """Takes out of a recipe what it is trained on.

    Returns:
        The table of recordings and which rows of it; or "synthetic" or the
        arguments of `kas.data.synthetic`, and None.
    """
    where = recipe.pop("where", WHERE)
    if "data" in recipe:
        return recipe.pop("data"), None
    return data, where


def pretrained(recipe, data, file, seed=0, **options):
    """The `Run` of a recipe.

    Args:
        recipe: One of `RECIPES`.
        data: `pretrain.csv`.
        file: Where the encoder goes.
        seed: Of the run; the weights that ship have 0.
        **options: Further arguments of `kas.pretrain`.
    """
    import keras_audio_ssl as kas

    recipe = dict(recipe)
    del recipe["summary"]
    data, where = rows(recipe, data)
    if isinstance(data, dict):
        length, size = recipe.pop("seconds"), recipe.pop("batch_size")
        data = kas.data.synthetic(length, size, seed=seed, **data)
    return kas.pretrain(
        recipe.pop("method"), data, file, where=where, seed=seed,
        **{"preset": "paper", **recipe}, **options,
    )  # fmt: skip


def train_again(name, seed, data, file, steps=None, settings=None):
    """An encoder by a weight's recipe, trained once more.

    Args:
        name: A key of `RECIPES`.
        seed: That of the run; the weights that ship have 0.
        data: Folder of the data sets.
        file: `Path` where it is kept. If it is there, it is only read.
        steps: Other than the recipe's.
        settings: Beside the recipe's.
    """
    recipe = dict(RECIPES[name])
    recipe["steps"] = steps or recipe["steps"]
    recipe["settings"] = {**recipe["settings"], **(settings or {})}
    return kept(recipe, seed, Path(data) / "pretrain.csv", file)


def kept(recipe, seed, data, file, **options):
    """An encoder by a recipe, or the one that is there.

    Args:
        recipe: One as of `RECIPES`.
        seed: Of the run.
        data: The table of recordings.
        file: `Path` where it is kept. If it is there, it is only read.
        **options: Further arguments of `kas.pretrain`.
    """
    import keras_audio_ssl as kas

    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        pretrained(
            recipe,
            data,
            file,
            seed,
            resume=file.with_suffix(".run").exists(),
            progress=False,
            **options,
        )
    return kas.load_encoder(file)


def corpora(data, where):
    """What the card says of each corpus that `rows` names."""
    from keras_audio_ssl.data import read_manifest

    if where is None:
        more = data if isinstance(data, dict) else {}
        return [{"corpus": "synthetic", **CORPORA["synthetic"], **more}]
    table = read_manifest(data, where=where)
    out = []
    for corpus in sorted(set(table["corpus"])):
        seconds = [
            float(duration)
            for name, duration in zip(
                table["corpus"], table["duration"], strict=True
            )
            if name == corpus
        ]
        out.append(
            {
                "corpus": corpus,
                **CORPORA[corpus],
                "files": len(seconds),
                "hours": round(sum(seconds) / 3600, 2),
            }
        )
    return out


def store_half(path):
    """Stores an encoder's weights in half precision; they are read as ever.

    Args:
        path: A `.keras` file, which is replaced.
    """
    import h5py

    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    name = "model.weights.h5"
    made = io.BytesIO()
    with (
        h5py.File(io.BytesIO(members[name]), "r") as old,
        h5py.File(made, "w") as new,
    ):

        def copy(place, node):
            if isinstance(node, h5py.Dataset):
                value = node[()]
                if value.dtype == "float32":
                    value = value.astype("float16")
                target = new.create_dataset(place, data=value)
            else:
                target = new.require_group(place)
            for key, value in node.attrs.items():
                target.attrs[key] = value

        old.visititems(copy)
        for key, value in old.attrs.items():
            new.attrs[key] = value
    members[name] = made.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def describe(path):
    """What the card says of an encoder's file, made smaller if need be."""
    import keras_audio_ssl as kas

    stored = "float32"
    if path.stat().st_size > MAX_BYTES:
        store_half(path)
        stored = "float16"
    encoder = kas.load_encoder(path)
    content = path.read_bytes()
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"{path} must be at most {MAX_BYTES:,} bytes to go into the "
            f"wheel. Received: {len(content):,}"
        )
    return {
        "sample_rate": encoder.sample_rate,
        "frame_rate": encoder.frame_rate,
        "dim": encoder.dim,
        "parameters": encoder.count_params(),
        "bytes": len(content),
        "stored": stored,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def measure(path, folder):
    """Scores an encoder beside log-mel statistics and itself untrained.

    Args:
        path: Its file.
        folder: Where the data sets lie.

    Returns:
        What the card says of it.
    """
    import keras_audio_ssl as kas
    from keras_audio_ssl import evaluation

    scores: dict = {}
    found: dict = {}
    for row, encoder in evaluation.readings(kas.load_encoder(path)):
        for name, (about, accuracy) in score(encoder, folder, row).items():
            scores.setdefault(name, about)
            found.setdefault((name, row), []).append(accuracy)
    for name, row in itertools.product(scores, ROWS):
        accuracies = found[name, row]
        scores[name][row] = averaged(accuracies, scores[name]["n"])
    return {"how_scored": HOW_SCORED, "scores": scores, **judge(scores)}


def score(encoder, folder, row):
    """Accuracies of an encoder on all tasks.

    Args:
        encoder: What is scored.
        folder: Where the data sets lie.
        row: What it is called on the screen.

    Returns:
        Dict of a task's name to what the card says of it, and the accuracy.
    """
    from keras_audio_ssl import evaluation

    # One for all tasks: what they share is embedded once.
    vectors = evaluation.Embeddings(encoder)
    out = {}
    for name, task in held_tasks().items():
        result = evaluation.run_task(task, vectors, folder, "unseen")
        about = {
            "title": result.task,
            "seen": result.seen,
            "n": result.n,
            "classes": len(result.classes),
            "chance": round(result.chance, 4),
        }
        out[name] = about, round(result.accuracy, 4)
        print(
            f"{row:<17} {name:<11} {result.accuracy:.3f}  "
            f"{result.embedding_seconds:.0f} + {result.seconds:.0f} s",
            flush=True,
        )
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--steps", type=int, help="other than the recipe's")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--score", action="store_true", help="do not train")
    parser.add_argument("--table", action="store_true", help="of all cards")
    parser.add_argument(
        "--hardware", default=f"{os.cpu_count()} cores, {platform.machine()}"
    )
    parser.add_argument("--accelerator", help="that trained, e.g. 'an H100'")
    args = parser.parse_args()
    if args.name is None and not args.table:
        parser.error("give a NAME or --table")
    if args.name:
        file = HERE / f"{args.name}.keras"
        if args.score:
            card = cards()[args.name]
        else:
            card = train(args.name, args.data, args.steps, args.overwrite)
            card["training"]["hardware"] = args.hardware
            if args.accelerator:
                card["training"]["accelerator"] = args.accelerator
        card |= describe(file)
        card |= measure(file, args.data.parent)
        write_text(HERE / f"{args.name}.json", as_json(card))
    write_all()


if __name__ == "__main__":
    main()
