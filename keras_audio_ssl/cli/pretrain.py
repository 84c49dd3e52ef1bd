"""`keras-audio-ssl pretrain METHOD`."""

import csv
import json
import platform
import random
import shutil
import time
from pathlib import Path

from keras_audio_ssl._files import as_json
from keras_audio_ssl._files import drafts
from keras_audio_ssl._files import write_table
from keras_audio_ssl._files import write_text
from keras_audio_ssl.cli.common import add_data
from keras_audio_ssl.cli.common import check_settings
from keras_audio_ssl.cli.common import finish
from keras_audio_ssl.cli.common import open_data
from keras_audio_ssl.cli.common import parse_settings
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.runs.lock import only_one
from keras_audio_ssl.runs.progress import Progress
from keras_audio_ssl.runs.progress import duration
from keras_audio_ssl.runs.progress import say
from keras_audio_ssl.runs.stopping import Failure
from keras_audio_ssl.runs.stopping import Interrupted
from keras_audio_ssl.runs.stopping import stop_when_asked

# Clips that the closing probe on the synthetic corpus learns from, and is
# tested on; none of them is trained on. One deviation of the score is 0.02.
PROBE_CLIPS = (480, 720)


def add_arguments(parser):
    parser.add_argument(
        "method", choices=sorted(METHODS), metavar="METHOD",
        help="see `keras-audio-ssl list`",
    )  # fmt: skip
    add_data(parser)
    parser.add_argument(
        "--output", required=True, help="the encoder to write, X.keras"
    )
    parser.add_argument(
        "--preset", default="paper", help="paper (default) or tiny"
    )
    parser.add_argument("--epochs", type=positive, help="passes over the data")
    parser.add_argument("--steps", type=positive, help="batches in all")
    parser.add_argument("--batch-size", type=positive)
    parser.add_argument("--seconds", type=float, help="longest cut of a clip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--init-from", metavar="ENCODER", help="start from this encoder"
    )
    parser.add_argument(
        "--checkpoint-every", type=positive, default=500, metavar="STEPS"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--resume", action="store_true",
        help="go on with the run there; a run that was interrupted does so "
        "without",
    )  # fmt: skip
    group.add_argument("--overwrite", action="store_true")
    parser.add_argument(
        "--tensorboard", action="store_true",
        help="write the history for TensorBoard too",
    )  # fmt: skip
    parser.add_argument(
        "--estimate", action="store_true",
        help="time a few steps, say what the run will cost, write nothing",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="of the method"
    )


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def run(args):
    output = Path(args.output)
    if output.suffix != ".keras":
        raise ValueError(f"--output must end in .keras. Received: {output}")
    if args.epochs and args.steps:
        raise ValueError("Give --epochs or --steps, not both.")
    if args.init_from and "encoder" in parse_settings(args.set):
        raise ValueError("Give --init-from or --set encoder, not both.")
    folder = output.with_suffix(".run")
    if args.estimate:
        pretrain(args, output, folder)
        return
    with only_one(output.with_name(f".{output.stem}.lock")):
        check_output(output, folder, args)
        pretrain(args, output, folder)


def pretrain(args, output, folder):
    """A run, from the arguments to the encoder's file."""
    import keras
    import numpy as np

    from keras_audio_ssl.methods import method_class

    # Not `keras.utils.set_random_seed`, which loads TensorFlow under every
    # backend; Keras' initializers take their seeds from here.
    random.seed(args.seed)
    np.random.seed(args.seed)
    cls = method_class(args.method)
    settings = parse_settings(args.set)
    check_settings(cls.__init__, settings)
    if args.preset != "paper" and args.preset not in cls.PRESETS:
        raise ValueError(
            f"--preset must be paper or {', '.join(cls.PRESETS)}. "
            f"Received: {args.preset}"
        )
    plan = training_plan(cls, args)
    model, first = make_model(args, settings, folder)
    data = open_training_data(
        args,
        plan,
        sample_rate=model.encoder.sample_rate,
        seed=args.seed,
        workers=args.workers,
        min_seconds=model.encoder.min_samples / model.encoder.sample_rate,
        repeat=True,
    )
    per_epoch = max(1, data.num_clips // plan["batch_size"])
    steps = args.epochs * per_epoch if args.epochs else plan["steps"]
    if args.estimate:
        estimate(model, data, steps, args)
        return
    config = {
        "method": args.method,
        "preset": args.preset,
        "settings": settings,
        "data": str(args.data),
        "where": args.where,
        "steps": steps,
        "batch_size": plan["batch_size"],
        "seconds": plan["seconds"],
        "seed": args.seed,
        "init_from": args.init_from,
        "clips": data.num_clips,
        "files": data.signature()["files"],
        "versions": versions(),
        "model": model.get_config(),
    }
    if args.resume:
        check_resume(folder, config, data)
    if args.overwrite:
        # What a link points to, and first what says that there is a run.
        (folder / "config.json").unlink(missing_ok=True)
        if folder.exists():
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        output.unlink(missing_ok=True)
    if first > steps:
        raise ValueError(
            f"{folder} has done {first} steps already, and {steps} are asked "
            "for: ask for more, or choose another --output."
        )
    if first >= steps and is_finished(output, folder):
        say(f"All {steps} steps are done: {output} is up to date.")
        return
    # The last file of a run says that its encoder is up to date.
    (folder / "metrics.json").unlink(missing_ok=True)
    # Not before here: what was refused leaves nothing behind.
    if not args.resume:
        write_contents(folder / "files.csv", data)
    write_text(folder / "config.json", as_json(config))
    begin = time.monotonic()
    if first < steps:
        data.start(*divmod(first, per_epoch))
        say(
            f"{args.method} ({args.preset}), {model.count_params():,} "
            f"parameters, on {data.num_clips:,} clips: steps {first + 1} to "
            f"{steps} of {plan['batch_size']} clips, {keras.backend.backend()}"
        )
        train(model, data, folder, first, steps, args)
    seconds = time.monotonic() - begin
    close(model, data, output, folder, args, steps - min(first, steps), seconds)


def estimate(model, data, steps, args):
    """Trains a few steps and prints what all of them will cost."""
    from keras_audio_ssl.callbacks import StepCost

    words = []
    cost = StepCost(steps, words.append, stop=True)
    few = cost.warm + cost.measured
    say(f"timing up to {few} steps of {data.batch_size} clips")
    model.fit(data, steps_per_epoch=few, callbacks=[cost], verbose=0)
    finish(args, cost.cost, words[0])


def check_output(output, folder, args):
    """Refuses a second run into the same output; goes on with half a one."""
    if args.overwrite:
        return
    begun = (folder / "config.json").exists()
    if args.resume:
        if not begun:
            raise ValueError(f"--resume: there is no run in {folder}.")
    elif (
        is_finished(output, folder)
        if begun
        else output.exists() or (folder.exists() and any_in(folder))
    ):
        raise ValueError(
            f"{output} or {folder} exists. Go on with --resume, or "
            "replace it with --overwrite."
        )
    args.resume = begun
    for path in (output, folder / "config.json", folder / "files.csv"):
        for draft in drafts(path):
            draft.unlink(missing_ok=True)


def is_finished(output, folder):
    """Whether a run came to its end: the table of scores is its last file."""
    return output.exists() and (folder / "metrics.json").exists()


def any_in(folder):
    """Whether a folder holds more than a run leaves that never began."""
    return any(
        path.name != "files.csv" and not path.name.startswith(".")
        for path in folder.iterdir()
    )


def open_training_data(args, plan, **options):
    """The data; a batch that was not asked for shrinks to what there is."""
    from keras_audio_ssl.data import TooFewClips

    options["seconds"] = plan["seconds"]
    try:
        return open_data(args, batch_size=plan["batch_size"], **options)
    except TooFewClips as error:
        if args.batch_size is not None:
            raise
        say(
            f"Batches of {error.clips} clips instead of the preset's "
            f"{plan['batch_size']}: there are no more."
        )
        plan["batch_size"] = error.clips
    return open_data(args, batch_size=plan["batch_size"], **options)


def training_plan(cls, args):
    """Batch size, seconds and steps: arguments, else the preset's."""
    plan = dict(cls.TRAINING[args.preset])
    for key in ("batch_size", "seconds", "steps"):
        given = getattr(args, key)
        if given is not None:
            plan[key] = given
    return plan


def make_model(args, settings, folder):
    """The model, new or from the last checkpoint, and the steps done."""
    from keras_audio_ssl.callbacks import last_checkpoint
    from keras_audio_ssl.hub import load_encoder
    from keras_audio_ssl.methods import make_method

    if args.resume:
        model, first = last_checkpoint(folder / "checkpoints", say)
        if model is not None:
            return model, first
    if args.init_from:
        settings = {**settings, "encoder": load_encoder(args.init_from)}
    model = make_method(
        args.method, preset=args.preset, seed=args.seed, **settings
    )
    model.compile()
    return model, 0


def write_contents(path, data):
    """Writes the table of the files that a run reads, and their bytes."""
    write_table(path, ("file", "bytes"), data.contents(), "surrogateescape")


def changed_files(path, data):
    """What of a run's files is not as it was, in words."""
    if not path.exists():
        return "other files"
    with open(
        path, newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        before = {r["file"]: int(r["bytes"]) for r in csv.DictReader(file)}
    kinds = {"new": [], "gone or unreadable": [], "of another size": []}
    for name, size in data.contents():
        # What is left in the end is gone.
        was = before.pop(name, None)
        if was != size:
            kinds["new" if was is None else "of another size"].append(name)
    kinds["gone or unreadable"] = list(before)
    parts = []
    for kind, names in kinds.items():
        if names:
            some = ", ".join(sorted(names)[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{len(names)} files {kind}: {some}{more}")
    return "; ".join(parts) or "other parts of the files"


def check_resume(folder, config, data):
    """Refuses to go on with other data or settings."""
    from keras_audio_ssl.callbacks import differences

    path = folder / "config.json"
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    now = json.loads(as_json(config))
    same = ("method", "preset", "settings", "data", "where", "batch_size",
            "seconds", "seed", "init_from", "clips")  # fmt: skip
    changed = [
        line
        for key in same
        for line in differences(before.get(key), now[key], key)
    ]
    if before.get("files") != now["files"]:
        changed.append(changed_files(folder / "files.csv", data))
    if changed:
        raise ValueError(
            f"{folder} holds a run of other data or settings, which it would "
            "go on with: restore them, replace it with --overwrite, or choose "
            "another --output. Changed: " + "; ".join(changed)
        )


def train(model, data, folder, first, steps, args):
    """One long Keras epoch over the steps that are left."""
    import keras

    from keras_audio_ssl.callbacks import Checkpoint
    from keras_audio_ssl.callbacks import EmbeddingMonitor
    from keras_audio_ssl.callbacks import HistoryCSV
    from keras_audio_ssl.callbacks import SkippedBatches
    from keras_audio_ssl.callbacks import StepCost
    from keras_audio_ssl.callbacks import TensorBoard

    every = max(1, min(20, steps // 20))
    watch, monitor = [], None
    if data.batch_size >= 4:
        # Ten times a run: that costs little, and shows how it goes.
        rows = every * max(1, steps // (10 * every))
        monitor = EmbeddingMonitor(data[0], None, rows, first, say=say)
        watch.append(monitor)
    if args.tensorboard:
        watch.append(TensorBoard(folder / "tensorboard", every, first, monitor))
    watch.append(HistoryCSV(folder / "history.csv", every, first, monitor))
    checkpoint = Checkpoint(
        folder / "checkpoints", args.checkpoint_every, first
    )
    skipped = SkippedBatches(say=say)
    with (
        Progress("training", steps - first, args.json) as progress,
        stop_when_asked(say) as asked,
    ):

        class Bar(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                progress.advance(note=f"loss {(logs or {})['loss']:.4f}")

        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                # Between two steps: inside of one, JAX's state is in flight.
                if asked:
                    raise KeyboardInterrupt

        try:
            model.fit(
                data,
                steps_per_epoch=steps - first,
                callbacks=[
                    StepCost(steps - first, say),
                    Bar(),
                    *watch,
                    checkpoint,
                    skipped,
                    Stop(),
                ],
                verbose=0,
            )
        except KeyboardInterrupt:
            if len(asked) > 1:
                raise
            checkpoint.save()
            raise Interrupted(
                f"interrupted after step {checkpoint.step}; the same command "
                "(or --resume) goes on from there."
            ) from None
    path = checkpoint.save()
    if skipped.stopped:
        raise Failure(
            f"no finite loss for ten batches up to step {checkpoint.step}; the "
            f"last good weights are in {path}. Try a lower learning rate: "
            "--set learning_rate=..."
        )


def close(model, data, output, folder, args, steps, seconds):
    """Writes the encoder and what was measured, and says what to do next."""
    from keras_audio_ssl.hub import save_encoder

    save_encoder(model.encoder, output)
    data.write_skipped(folder / "skipped.csv")
    metrics = {
        "steps": steps,
        "seconds": seconds,
        "clips_per_second": steps * data.batch_size / seconds,
        "skipped": len(data.skipped),
    }
    if args.data == "synthetic":
        say("probing the encoder on synthetic clips it has not seen")
        metrics["probe"] = probe_synthetic(model.encoder, args)
    write_text(folder / "metrics.json", as_json(metrics))
    finish(
        args,
        {"encoder": str(output), "run": str(folder), **metrics},
        summary(output, folder, args, metrics, data.skipped),
    )


def probe_synthetic(encoder, args):
    """Accuracy of a linear probe: this encoder, untrained, log-mels."""
    import numpy as np

    from keras_audio_ssl import data
    from keras_audio_ssl import evaluation

    train, test = PROBE_CLIPS
    # A seed of its own: the corpus of another seed has other clips.
    corpus = data.SyntheticCorpus(train + test, seed=args.seed + 10_000)
    clips = [corpus[i] for i in range(len(corpus))]
    classes = corpus.classes["label"]
    labels = [classes[i] for i in corpus.labels["label"]]
    order = np.arange(train + test)
    fold = evaluation.Fold("unseen clips", order[:train], order[train:])
    rows = {
        "trained": encoder,
        "untrained": evaluation.untrained(encoder),
        "log_mel_statistics": evaluation.LogMelStatistics(),
    }
    scores = {
        name: evaluation.score(model.embed(clips), labels, [fold]).accuracy
        for name, model in rows.items()
    }
    return {**scores, "classes": len(classes), "clips": test}


def summary(output, folder, args, metrics, skipped):
    """The last lines on the screen."""
    lines = [
        f"{metrics['steps']} steps in {duration(metrics['seconds'])}, "
        f"{metrics['clips_per_second']:.0f} clips/s"
    ]
    if skipped:
        lines.append(
            f"{len(skipped)} files were skipped, see {folder / 'skipped.csv'}:"
        )
        lines += [f"  {file}: {reason}" for file, reason in skipped[:5]]
    if "probe" in metrics:
        probe = metrics["probe"]
        lines += [
            f"linear probe, {probe['classes']} classes of sounds, unseen clips",
            f"  this encoder          {probe['trained']:.3f}",
            f"  the same, untrained   {probe['untrained']:.3f}",
            f"  log-mel mean and std  {probe['log_mel_statistics']:.3f}",
        ]
    lines += [
        f"encoder  {output}",
        f"run      {folder}",
        "next     keras-audio-ssl embed "
        f"{output} --data YOUR_AUDIO --output embeddings.npz",
    ]
    return "\n".join(lines)


def versions():
    """What the run was made with."""
    import keras
    import numpy

    import keras_audio_ssl

    backend = keras.backend.backend()
    return {
        "keras_audio_ssl": keras_audio_ssl.__version__,
        "keras": keras.__version__,
        "backend": backend,
        backend: __import__(backend).__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }
