"""`keras-audio-ssl list`."""

from keras_audio_ssl.cli.common import finish
from keras_audio_ssl.methods import METHODS


def add_arguments(parser):
    pass


def run(args):
    from keras_audio_ssl.hub import FORMATS
    from keras_audio_ssl.hub import encoder_names
    from keras_audio_ssl.hub import read_card

    result = {
        "methods": {name: entry[1] for name, entry in sorted(METHODS.items())},
        "formats": sorted(FORMATS),
        "weights": {
            name: {k: read_card(name).get(k) for k in ("bytes", "summary")}
            for name in encoder_names()
        },
    }
    lines = ["Methods (pretrain METHOD)"]
    lines += [f"  {n:<24}{c}" for n, c in result["methods"].items()]
    lines += ["Checkpoint formats (import FORMAT)"]
    lines += [f"  {name}" for name in result["formats"]]
    lines += ["Weights (load_encoder NAME)"]
    for name, card in result["weights"].items():
        size = f"{card['bytes'] / 1e6:.1f} MB" if card["bytes"] else ""
        lines.append(f"  {name:<24}{size:<8}{card['summary'] or ''}".rstrip())
    if not result["weights"]:
        lines.append("  none yet")
    finish(args, result, "\n".join(lines))
