"""What a run comes to: model, data, steps."""

import copy
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import NamedTuple

from keras_audio_ssl.runs.arguments import Arguments

# Without a preset the steps make so many passes over the audio, at least the
# tiny preset's steps and at most so many times as many (half an hour or less
# on two cores), or with an accelerator at least these and at most the paper's.
PASSES, AT_MOST = 30, 10
ACCELERATED_PASSES, ACCELERATED_STEPS = 100, 2000


class Plan(NamedTuple):
    """A run before it begins.

    Args:
        model: The `PretextModel`, not compiled.
        data: `AudioDataset`, epochs without end.
        steps: Steps in all.
    """

    model: Any
    data: Any
    steps: int

    def compile_model(self) -> None:
        """Compiles the model with its own optimizer, for these steps."""
        self.model.compile(total_steps=self.steps)


def prepare(arguments: Arguments, encoder: Any = None) -> Plan:
    """Makes the model, opens the data, counts the steps.

    Args:
        arguments: Those of the run.
        encoder: In place of the one that `init_from` names, if it is given.

    Raises:
        ValueError: The method has no such preset or setting, or the data
            cannot be used.
    """
    from keras_audio_ssl.methods import method_class

    cls = method_class(arguments.method)
    check_settings(cls, arguments.settings)
    if arguments.alignments is not None and not cls.needs_segments:
        raise ValueError(
            "`alignments` is for methods that learn from words. Received: "
            f"{arguments.method}"
        )
    if arguments.preset != "paper" and arguments.preset not in cls.PRESETS:
        raise ValueError(
            f"`preset` must be paper or {', '.join(cls.PRESETS)}. "
            f"Received: {arguments.preset}"
        )
    model = make_model(arguments, cls, encoder)
    training = cls.TRAINING[arguments.preset]
    if isinstance(arguments.data, (str, os.PathLike)):
        data = open_stream(arguments, training, model.encoder, shortest(model))
    else:
        data = as_stream(arguments.data, model.encoder)
    if data.seconds is not None and data.seconds < shortest(model):
        raise ValueError(
            f"`seconds` must be at least {shortest(model):.3f} for this "
            f"method. Received: {data.seconds}"
        )
    if arguments.epochs:
        steps = arguments.epochs * len(data)
    elif arguments.steps or not arguments.fitted:
        steps = arguments.steps or training["steps"]
    else:
        steps = fitting_steps(data, training, arguments.preset)
    return Plan(model, data, int(steps))


def settled(
    arguments: Arguments, before: dict[str, Any] | None = None
) -> Arguments:
    """The arguments with a preset, if none was asked for.

    Args:
        arguments: Those of the run.
        before: What the run that goes on was begun with: its preset and its
            steps stay, on whatever machine.

    Returns:
        `Arguments`.
    """
    import keras_audio_ssl.backend as backend

    if arguments.preset is not None:
        return arguments
    if before and before.get("preset"):
        steps = arguments.steps or (
            None if arguments.epochs else before.get("steps")
        )
        return replace(arguments, preset=before["preset"], steps=steps)
    preset = "paper" if backend.is_accelerated() else "tiny"
    return replace(arguments, preset=preset, fitted=True)


def fitting_steps(data: Any, training: dict[str, Any], preset: str) -> int:
    """Steps that are worth making on so much audio.

    Args:
        data: `AudioDataset`.
        training: The preset's plan.
        preset: Its name.
    """
    crops = data.num_clips
    if data.seconds:
        crops = max(crops, data.hours * 3600 / data.seconds)
    one = crops / data.batch_size
    if preset == "paper":
        least, most = ACCELERATED_STEPS, training["steps"]
        return round(min(max(ACCELERATED_PASSES * one, least), most))
    least = training["steps"]
    return round(min(max(PASSES * one, least), AT_MOST * least))


def make_model(arguments: Arguments, cls: Any, encoder: Any) -> Any:
    """The method's model, new."""
    from keras_audio_ssl.hub import load_encoder
    from keras_audio_ssl.methods import make_method
    from keras_audio_ssl.methods import settings_of

    settings = dict(arguments.settings)
    if "classes" in settings_of(cls):
        classes = classes_of(arguments)
        if classes is not None:
            settings.setdefault("classes", classes)
    if arguments.init_from:
        if encoder is None:
            encoder = load_encoder(arguments.init_from)
        settings["encoder"] = encoder
    return make_method(
        arguments.method,
        preset=arguments.preset,
        seed=arguments.seed,
        **settings,
    )


def shortest(model: Any) -> float:
    """Seconds of the shortest clip that the method can use."""
    return model.min_samples / model.encoder.sample_rate


def classes_of(arguments: Arguments) -> Any:
    """Names of the classes of the data, if it has labels."""
    if not isinstance(arguments.data, (str, os.PathLike)):
        return arguments.data.classes
    return arguments.label and open_data(arguments, batch_size=1).classes


def open_stream(
    arguments: Arguments,
    training: dict[str, Any],
    encoder: Any,
    min_seconds: float,
) -> Any:
    """The data; a batch that was not asked for shrinks to what there is."""
    from keras_audio_ssl.data import TooFewClips

    seconds = arguments.seconds
    if seconds is None and training["seconds"] is not None:
        # The preset's are of its own model, and others may need more.
        seconds = max(training["seconds"], min_seconds)
    options = {
        "batch_size": arguments.batch_size or training["batch_size"],
        "seconds": seconds,
        "sample_rate": encoder.sample_rate,
        "seed": arguments.seed,
        "workers": arguments.workers,
        "min_seconds": min_seconds,
        "repeat": True,
    }
    try:
        return open_data(arguments, **options)
    except TooFewClips as error:
        if arguments.batch_size is not None:
            raise
        arguments.say(
            f"Batches of {error.clips} clips instead of the preset's "
            f"{options['batch_size']}: there are no more."
        )
        options["batch_size"] = error.clips
    return open_data(arguments, **options)


def open_data(arguments: Arguments, **options: Any) -> Any:
    """The data set that `data` and `where` name."""
    from keras_audio_ssl import data
    from keras_audio_ssl.methods import method_class

    path = Path(arguments.data)
    synthetic = arguments.data == "synthetic"
    words = method_class(arguments.method).needs_segments
    if synthetic or path.is_dir():
        for name in ("where", "label"):
            # The words' is the name of a column of the alignments.
            in_table = name == "label" and words and not synthetic
            if getattr(arguments, name) and not in_table:
                raise ValueError(
                    f"`{name}` needs a manifest as `data`. Received: "
                    f"{arguments.data}"
                )
    if synthetic:
        if arguments.alignments is not None:
            raise ValueError(
                "`alignments` needs a folder or a manifest as `data`. "
                f"Received: {arguments.data}"
            )
        if words:
            options |= {"kind": "speech", "segments": True}
        return data.synthetic(**options)
    options["isolate"] = arguments.isolate
    if not words and path.is_dir():
        return data.from_folder(path, **options)
    if not path.exists():
        raise ValueError(f"`data`: there is no such file or folder: {path}")
    if words:
        options |= {"where": arguments.where, "label": arguments.label}
        return data.from_alignments(path, arguments.alignments, **options)
    if arguments.label is not None:
        options |= {
            "label": arguments.label,
            "label_fraction": arguments.label_fraction,
            "unlabelled": True,
        }
    return data.from_manifest(path, where=arguments.where, **options)


def as_stream(data: Any, encoder: Any) -> Any:
    """A data set's epochs without end, from its first one.

    The data set itself stays as it is.
    """
    from keras_audio_ssl.data import AudioDataset

    if not isinstance(data, AudioDataset):
        raise ValueError(
            "`data` must be a folder, a manifest, 'synthetic' or an "
            f"AudioDataset. Received: {type(data).__name__}"
        )
    if data.sample_rate != encoder.sample_rate:
        raise ValueError(
            f"`data` must be at the encoder's {encoder.sample_rate} Hz. "
            f"Received: {data.sample_rate} Hz"
        )
    stream = copy.copy(data)
    stream.repeat = True
    stream.start(0)
    return stream


def check_settings(cls: Any, settings: Iterable[str]) -> None:
    """Refuses settings that a method does not take.

    Raises:
        ValueError: Names the unknown key and what there is.
    """
    from keras_audio_ssl.methods import settings_of

    known = settings_of(cls)
    for key in settings:
        if key not in known:
            raise ValueError(
                f'`settings["{key}"]`: there is no such setting. Known: '
                f"{', '.join(known)}; of the encoder encoder.NAME"
            )
