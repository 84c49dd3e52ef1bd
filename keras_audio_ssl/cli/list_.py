"""`keras-audio-ssl list`."""

import argparse
from typing import Any

from keras_audio_ssl.cli.results import print_result
from keras_audio_ssl.methods import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl list`."""
    parser.add_argument(
        "method",
        nargs="?",
        choices=sorted(METHODS),
        metavar="METHOD",
        help="its settings, with defaults, for --set",
    )


def run(args: argparse.Namespace) -> None:
    """Prints all names there are, or one method's settings."""
    result, text = about(args.method) if args.method else everything()
    print_result(args, result, text)


def everything() -> tuple[dict[str, Any], str]:
    """All names there are."""
    from keras_audio_ssl.hub import FORMATS
    from keras_audio_ssl.hub import encoder_names
    from keras_audio_ssl.hub import read_card

    result: dict[str, Any] = {
        "methods": {name: entry[1] for name, entry in sorted(METHODS.items())},
        "formats": sorted(FORMATS),
        "weights": {
            name: {k: read_card(name).get(k) for k in ("bytes", "summary")}
            for name in encoder_names()
        },
    }
    lines = ["Methods (pretrain METHOD; list METHOD for its settings)"]
    lines += [f"  {n:<24}{c}" for n, c in result["methods"].items()]
    lines += ["Checkpoint formats (import FORMAT)"]
    lines += [f"  {name}" for name in result["formats"]]
    lines += ["Weights (load_encoder NAME)"]
    for name, card in result["weights"].items():
        size = f"{card['bytes'] / 1e6:.1f} MB" if card["bytes"] else ""
        lines.append(f"  {name:<24}{size:<8}{card['summary'] or ''}".rstrip())
    if not result["weights"]:
        lines.append("  none yet")
    return result, "\n".join(lines)


def about(name: str) -> tuple[dict[str, Any], str]:
    """A method's settings, its encoder's, and its plans."""
    import inspect

    from keras_audio_ssl.encoders import encoder_settings
    from keras_audio_ssl.methods import make_method
    from keras_audio_ssl.methods import method_class
    from keras_audio_ssl.methods import settings_of

    cls = method_class(name)
    settings = {
        key: None if default is inspect.Parameter.empty else default
        for key, default in settings_of(cls).items()
        if key != "encoder"
    }
    encoder = make_method(name, preset="tiny").encoder
    # `PretextModel` takes it for all of them.
    settings["sample_rate"] = encoder.sample_rate
    result: dict[str, Any] = {
        "method": name,
        "class": cls.__name__,
        "summary": (cls.__doc__ or "").strip().splitlines()[0],
        "settings": settings,
        "encoder": encoder_settings(encoder),
        "presets": cls.PRESETS,
        "training": cls.TRAINING,
    }
    lines = [
        f"{name} (kas.{cls.__name__}): {result['summary']}",
        "Settings (--set NAME=VALUE), with the paper's values",
        *(f"  {key:<24}{value!r}" for key, value in settings.items()),
        "Settings of its encoder (--set encoder.NAME=VALUE), with the values "
        "of the preset 'tiny'",
        *(f"  {key:<24}{value!r}" for key, value in result["encoder"].items()),
        "Presets, and how they train",
    ]
    for preset, plan in cls.TRAINING.items():
        lines.append(f"  {preset:<8}{as_arguments(plan)}")
        # Its `seconds` may be a segment's, where the plan's are a clip's.
        if changed := cls.PRESETS.get(preset):
            lines.append(f"  {'':<8}with the settings {as_arguments(changed)}")
    return result, "\n".join(lines)


def as_arguments(settings: dict[str, Any]) -> str:
    """Settings as they stand in a call: `name=value, ...`."""
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())
