"""An encoder of each family as each format.

    python -m tests.export.families onnx
    python -m tests.export.families litert cnn14 joined

Not part of the suite, which has a few of them: writing all takes minutes. The
format chooses Keras' backend, as in an export.
"""

import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

# Backbone, front end and settings; the methods of the package have others.
NETWORKS = {
    "cnn14": ("byol_a", {"filters": [4, 8, 8, 8, 16, 16]}),
    "cnn6": ("byol_a", {"filters": [4, 8, 8, 16]}),
    "conv160": ("multi_format_waveform", {"units": 32}),
    "crnn": ("fonseca", {}),
    "efficientnet_b0": ("byol_a", {}),
    "patch_cnn": ("cola", {}),
    "res1dnet31": ("waveform", {}),
    "resnet18": ("byol_a", {}),
    "resnet18_1d": ("waveform", {}),
    "sincnet": ("lim", {}),
    "slice_cnn": ("audio2vec", {}),
    "vgg": ("fonseca", {}),
}


def of_method(name, **settings):
    """The tiny encoder of a method."""
    from keras_audio_ssl.methods import make_method

    return make_method(name, preset="tiny", **settings).encoder


def of_network(name):
    """An encoder of `NETWORKS`."""
    from keras_audio_ssl.encoders import make_encoder

    frontend, settings = NETWORKS[name]
    return make_encoder(settings, {"backbone": name, "frontend": frontend})


def readout():
    from keras_audio_ssl.encoders import Readout

    return Readout(of_method("byol_a"))


def weighted_sum():
    from keras_audio_ssl.encoders import WeightedSum

    return WeightedSum(of_method("apc"))


def keras_model():
    """A Keras model of a user's."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(8),
        ]
    )
    return of_method("cola", encoder=model)


def half_precision():
    """An encoder that was trained so; a file of it computes in float32."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return of_method("byol_a")
    finally:
        keras.config.set_dtype_policy(before)


def families():
    """Name to a function that makes the encoder."""
    from functools import partial

    from keras_audio_ssl.methods import METHODS

    makers = {name: partial(of_method, name) for name in METHODS}
    makers |= {name: partial(of_network, name) for name in NETWORKS}
    makers |= {
        f.__name__: f
        for f in (readout, weighted_sum, keras_model, half_precision)
    }
    return makers


def check(encoder, name, folder):
    """Writes and checks an export in this process; raises where it fails."""
    from keras_audio_ssl.export.child import load
    from keras_audio_ssl.export.child import write_checked
    from keras_audio_ssl.export.formats import FORMATS

    file = Path(folder) / "encoder.keras"
    encoder.save(file)
    draft = Path(folder) / f"draft{FORMATS[name].suffix}"
    facts = {"sample_rate": encoder.sample_rate}
    request = {"format": name, "samples": None, "facts": facts}
    write_checked(load(file, []), draft, request)
    return draft


def main(arguments):
    formats = importlib.import_module("keras_audio_ssl.export.formats")
    name, *wanted = arguments
    os.environ["KERAS_BACKEND"] = formats.FORMATS[name].backend
    makers, failed = families(), []
    for family in wanted or makers:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(makers[family](), name, folder)
                result = "ok"
            except Exception as error:
                failed.append(family)
                result = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - start
        print(f"{name} {family}: {result} ({seconds:.0f} s)", flush=True)
    sys.exit(f"{len(failed)} failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
