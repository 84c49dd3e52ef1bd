"""From audio without labels to an encoder's file."""

import contextlib
import json
import random
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_audio_ssl._types import FilePath
from keras_audio_ssl.runs.arguments import Arguments
from keras_audio_ssl.runs.folder import claim
from keras_audio_ssl.runs.folder import config_file
from keras_audio_ssl.runs.folder import contents_file
from keras_audio_ssl.runs.folder import drop_drafts
from keras_audio_ssl.runs.folder import empty
from keras_audio_ssl.runs.folder import is_finished
from keras_audio_ssl.runs.folder import metrics_file
from keras_audio_ssl.runs.folder import refuse
from keras_audio_ssl.runs.folder import write_json
from keras_audio_ssl.runs.lock import only_one
from keras_audio_ssl.runs.plan import Plan
from keras_audio_ssl.runs.plan import prepare
from keras_audio_ssl.runs.plan import settled
from keras_audio_ssl.runs.report import Run
from keras_audio_ssl.runs.report import close
from keras_audio_ssl.runs.report import export_files
from keras_audio_ssl.runs.report import finished
from keras_audio_ssl.runs.resuming import make_ready
from keras_audio_ssl.runs.training import measure
from keras_audio_ssl.runs.training import train


def pretrain(
    method: str,
    data: Any,
    output: FilePath,
    *,
    preset: str | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    workers: int = 2,
    init_from: FilePath | None = None,
    checkpoint_every: int = 500,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    estimate: bool = False,
    where: Any = None,
    alignments: FilePath | None = None,
    label: str | None = None,
    label_fraction: float = 1.0,
    isolate: bool = False,
    settings: dict[str, Any] | None = None,
    say: Callable[[str], object] = print,
    progress: bool = True,
) -> Run:
    """Trains an encoder on audio without labels, and keeps it in a file.

    Beside the encoder `X.keras` the folder `X.run` is left: `config.json`,
    `files.csv`, `history.csv`, `skipped.csv`, `metrics.json` and
    `checkpoints/`. The same call again goes on with a run that was
    interrupted, to the bit. Ctrl-C, SIGTERM and SIGHUP save between two
    steps, if this is the main thread; a second one interrupts at once.

    Args:
        method: Its registry name, a key of `kas.METHODS`.
        data: A folder, a manifest (CSV), `"synthetic"`, or an `AudioDataset`
            at the encoder's sample rate, which is read from its first epoch
            on, over and over.
        output: The encoder's file, ending in `.keras`.
        preset: Size of the model and of the training: `"paper"` or one of
            the method's `PRESETS`. By default what the machine can afford,
            `"paper"` with an accelerator and `"tiny"` without, and `steps`
            that follow the hours of audio.
        epochs: Passes over the data, in place of `steps`.
        steps: Batches in all; by default the preset's, if one is given.
        batch_size: Clips in a batch; by default the preset's, or all clips
            where there are fewer.
        seconds: Longest cut of a clip; by default the preset's.
        seed: Of weights, draws and the order of the data that are opened
            here, 0 by default.
        workers: Threads that decode data that are opened here, 2 by default.
        init_from: Encoder to start from, as for `load_encoder`; by default
            random weights.
        checkpoint_every: Steps between checkpoints, 500 by default.
        resume: `True` to refuse to begin anew, and to go on with a run that
            came to its end, for more steps.
        overwrite: `True` to delete what is there.
        tensorboard: `True` to write the history for TensorBoard too.
        estimate: `True` to time a few steps and write nothing.
        where: Rows of the manifest, as for `from_manifest`.
        alignments: Where words begin and end, a file or folder as for
            `kas.data.from_alignments`, for methods that learn from words;
            without, they are looked for beside the audio.
        label: Column of the manifest with labels, for methods that use them;
            an empty cell or -1 is a clip without label. A method whose class
            takes `classes` is given their names. For a method that learns
            from words, the column of the words in a table of alignments.
        label_fraction: Share of the labels that is used, of each class, the
            same ones for the same `seed`; 1.0 by default.
        isolate: `True` to decode in child processes, as for `from_folder`.
        settings: Further arguments of the method's class, Keras' `dtype`
            too: `{"dtype": "mixed_bfloat16"}` trains in half precision.
        say: Called with lines of words on how it goes.
        progress: `False` for no bar and no lines that count the steps.

    Returns:
        `Run`, with `encoder`, `metrics`, `output` and `folder`; for an
        estimate without encoder, and its costs as `metrics`.

    Raises:
        ValueError: An argument is wrong, something is there already, or what
            goes on is another run; nothing was changed. `kas.runs.Failure`,
            a kind of it, where the training failed, and
            `kas.runs.Interrupted` where it was stopped.
        OSError: A file cannot be written; says how far it came.

    Example:
        A folder of recordings without labels::

            run = kas.pretrain("byol_a", "my_audio", "byol_a.keras", epochs=100)
            run.encoder.embed("clip.flac")
    """
    arguments = Arguments(
        method,
        data,
        Path(output),
        preset=preset,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        seconds=seconds,
        seed=seed,
        workers=workers,
        init_from=init_from,
        checkpoint_every=checkpoint_every,
        resume=resume,
        overwrite=overwrite,
        tensorboard=tensorboard,
        where=where,
        alignments=alignments,
        label=label,
        label_fraction=label_fraction,
        isolate=isolate,
        settings=dict(settings or {}),
        say=say,
        progress=progress,
    )
    if estimate:
        return cost_of(arguments)
    with only_one(arguments.lock):
        begun = claim(arguments.output, arguments.folder, resume, overwrite)
        with seeded(arguments.seed):
            return carry_out(arguments, begun)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds what initializers draw from; then it is as it was before."""
    # Before the seed: what Keras imports draws a number.
    import keras  # noqa: F401
    import numpy as np

    before = random.getstate(), np.random.get_state()
    # Not `keras.utils.set_random_seed`, which loads TensorFlow under every
    # backend; Keras' initializers take their seeds from here.
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def cost_of(arguments: Arguments) -> Run:
    """The `Run` of an estimate."""
    arguments = settled(arguments)
    with seeded(arguments.seed):
        plan = prepare(arguments)
        plan.compile_model()
        cost, words = measure(plan, arguments)
    return Run(None, cost, arguments.output, arguments.folder, words)


def carry_out(arguments: Arguments, begun: bool) -> Run:
    """A run, from the arguments to the encoder's file."""
    from keras_audio_ssl.callbacks.resume import read_record
    from keras_audio_ssl.callbacks.resume import write_contents

    folder = arguments.folder
    before = read_record(config_file(folder)) if begun else None
    arguments = settled(arguments, before)
    plan, steps_done, config = make_ready(arguments, before)
    outputs = list(export_files(plan.model, arguments.output))
    if arguments.overwrite:
        empty(outputs, folder)
    elif not begun:
        for path in outputs:
            if path.exists():
                refuse(path)
    if steps_done == plan.steps and is_finished(outputs, folder):
        arguments.say(
            f"All {steps_done} steps are done: {arguments.output} is up to "
            "date."
        )
        metrics = json.loads(metrics_file(folder).read_text())
        encoder = plan.model.encoder
        return finished(encoder, metrics, plan.data.skipped, arguments)
    drop_drafts([*outputs, config_file(folder), contents_file(folder)])
    # The last file of a run says that its encoder is up to date.
    metrics_file(folder).unlink(missing_ok=True)
    # Not before here: what was refused leaves nothing behind.
    if not begun:
        write_contents(contents_file(folder), plan.data)
    write_json(config_file(folder), config)
    begin = time.monotonic()
    if steps_done < plan.steps:
        plan.data.start(*divmod(steps_done, len(plan.data)))
        announce(arguments, plan, steps_done)
        train(plan, steps_done, arguments)
    seconds = time.monotonic() - begin
    return close(plan, steps_done, seconds, arguments)


def announce(arguments: Arguments, plan: Plan, steps_done: int) -> None:
    """Says what begins now, and what is odd about how loud the data are."""
    import keras_audio_ssl.backend as backend
    from keras_audio_ssl.data.levels import odd_levels

    chosen = ""
    if arguments.fitted:
        device = "a GPU or TPU" if backend.is_accelerated() else "a CPU"
        chosen = f", as this is {device}"
    arguments.say(
        f"{arguments.method} ({arguments.preset}{chosen}), "
        f"{plan.model.count_params():,} parameters, on "
        f"{plan.data.num_clips:,} clips: steps {steps_done + 1} to "
        f"{plan.steps} of {plan.data.batch_size} clips, "
        f"{backend.name()}"
    )
    if arguments.data != "synthetic":
        for line in odd_levels(plan.data):
            arguments.say(line)
