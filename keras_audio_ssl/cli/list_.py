"""`keras-audio-ssl list`."""

from keras_audio_ssl.cli.common import finish
from keras_audio_ssl.methods import METHODS


def add_arguments(parser):
    pass


def run(args):
    from keras_audio_ssl.hub import FORMATS
    from keras_audio_ssl.hub import encoder_names

    result = {
        "methods": {name: entry[1] for name, entry in sorted(METHODS.items())},
        "formats": sorted(FORMATS),
        "weights": sorted(encoder_names()),
    }
    lines = ["Methods (pretrain METHOD)"]
    lines += [f"  {n:<24}{c}" for n, c in result["methods"].items()]
    lines += ["Checkpoint formats (import FORMAT)"]
    lines += [f"  {name}" for name in result["formats"]]
    lines += ["Weights (load_encoder NAME)"]
    lines += [f"  {name}" for name in result["weights"] or ["none yet"]]
    finish(args, result, "\n".join(lines))
