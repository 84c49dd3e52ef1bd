"""SavedModel and LiteRT, traced on TensorFlow and run by its runtimes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend import for_export
from keras_audio_ssl.export.checks import named
from keras_audio_ssl.export.formats import FORMATS

# Clips of a batch, tried in this order; None for any number. LiteRT has loops
# for states of known sizes alone.
BATCHES = {"tf_saved_model": (None, 1), "litert": (None, 1)}


def write(
    model: keras.Model,
    path: Path,
    name: str,
    batch: int | None,
    samples: int | None,
    longest: int,
    facts: dict[str, Any],
) -> None:
    """Writes a model; arguments as of `to_onnx.write`."""
    import tensorflow as tf

    lite = name == "litert"

    def serve(waveform: Tensor) -> dict[str, Tensor]:
        with for_export(FORMATS[name].transforms), added_axes(tf, lite):
            return named(model(waveform, training=False))

    module = tf.Module()
    module.values = [variable.value for variable in model.variables]
    spec = tf.TensorSpec((batch, samples), tf.float32, name="waveform")
    module.serve = tf.function(serve, input_signature=[spec])
    graph = module.serve.get_concrete_function()
    if lite:
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [graph], module
        )
        path.write_bytes(converter.convert())
        return
    for fact, value in facts.items():
        setattr(module, fact, tf.constant(value))
    tf.saved_model.save(
        module, str(path), signatures={"serving_default": graph}
    )


@contextlib.contextmanager
def added_axes(tf: Any, wanted: bool) -> Iterator[None]:
    """`x[:, None]` as an operation of its own, which LiteRT has."""
    if not wanted:
        yield
        return
    plain = tf.Tensor.__getitem__

    def getitem(x: Tensor, spec: Any, *args: Any, **kwargs: Any) -> Tensor:
        items = list(spec) if isinstance(spec, tuple) else [spec]
        if not any(item is None for item in items):
            return plain(x, spec, *args, **kwargs)
        given = sum(item is not None for item in items)
        if any(item is Ellipsis for item in items):
            place = next(i for i, item in enumerate(items) if item is Ellipsis)
            rest = [slice(None)] * (len(x.shape) - given + 1)
            items[place : place + 1] = rest
        x = plain(x, tuple(item for item in items if item is not None))
        axis = 0
        for item in items:
            if item is None:
                x = tf.expand_dims(x, axis)
            axis += item is None or isinstance(item, slice)
        return x

    tf.Tensor.__getitem__ = getitem
    try:
        yield
    finally:
        tf.Tensor.__getitem__ = plain


def run(
    path: Path, name: str, clips: list[np.ndarray]
) -> list[dict[str, np.ndarray]]:
    """What the file gives for waveforms: dicts of numpy arrays."""
    import tensorflow as tf

    if name == "litert":
        interpreter = interpreter_class(tf)(model_path=str(path))
        return [of_interpreter(interpreter, clip) for clip in clips]
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    return [
        {k: v.numpy() for k, v in serve(waveform=tf.constant(clip)).items()}
        for clip in clips
    ]


def interpreter_class(tf: Any) -> type[Any]:
    """LiteRT's interpreter, or the one that TensorFlow had before."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return tf.lite.Interpreter
    return Interpreter


def of_interpreter(interpreter: Any, clip: np.ndarray) -> dict[str, np.ndarray]:
    """What an interpreter makes of a waveform, by the outputs' names."""
    (place,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(place["index"], clip.shape)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return dict(runner(waveform=clip))
