"""What the commands share: data, settings, results."""

import json
from pathlib import Path


def finish(args, result, text):
    """Prints a command's result, as JSON or in words."""
    if args.json:
        print(json.dumps(result, indent=2, default=str))
    else:
        print(text)


def add_data(parser, required=True, synthetic=True):
    """Adds `--data`, `--where` and `--isolate`."""
    kinds = "folder or manifest (CSV)" + (
        ", or 'synthetic'" if synthetic else ""
    )
    parser.add_argument("--data", required=required, help=kinds)
    parser.add_argument(
        "--where",
        action="append",
        metavar="COLUMN=VALUE",
        help="rows of the manifest to take; repeat for more conditions",
    )
    add_isolate(parser)


def add_isolate(parser):
    """Adds `--isolate`."""
    parser.add_argument(
        "--isolate",
        action="store_true",
        help="decode in child processes: a file that crashes the decoder is "
        "skipped",
    )


def open_data(args, **kwargs):
    """The data set that `--data` and `--where` name.

    Raises:
        ValueError: It does not exist, or `--where` without a manifest.
    """
    from keras_audio_ssl import data

    if args.data == "synthetic":
        if args.where:
            raise ValueError("--where needs a manifest as --data.")
        return data.synthetic(**kwargs)
    path = Path(args.data)
    kwargs["isolate"] = args.isolate
    if path.is_dir():
        if args.where:
            raise ValueError(
                f"--where needs a manifest as --data. Received: {path}, a "
                "folder."
            )
        return data.from_folder(path, **kwargs)
    if not path.exists():
        raise ValueError(
            f"--data {args.data}: there is no such file or folder."
        )
    return data.from_manifest(path, where=args.where, **kwargs)


def parse_settings(pairs):
    """`key=value` pairs as keyword arguments; values are JSON or text.

    Raises:
        ValueError: A pair without `=`.
    """
    settings = {}
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key.isidentifier():
            raise ValueError(f"--set takes key=value. Received: {pair!r}")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def parse_levels(text):
    """`all`, or `0,2,-1` as a list.

    Raises:
        ValueError: Something else.
    """
    if text == "all":
        return text
    try:
        return [int(i) for i in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--levels takes all, or numbers like 0,2,-1. Received: {text}"
        ) from None


def check_settings(function, settings):
    """Refuses settings that the function does not take.

    Raises:
        ValueError: Names the unknown key and what there is.
    """
    import inspect

    known = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in ("self", "preset", "seed")
        # Some methods have encoders with names, others take objects only.
        and (p.name != "encoder" or isinstance(p.default, str))
    ]
    for key in settings:
        if key not in known:
            raise ValueError(
                f"--set {key}: there is no such setting. Known: "
                f"{', '.join(known)}"
            )
