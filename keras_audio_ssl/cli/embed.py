"""`keras-audio-ssl embed ENCODER`."""

import os
from pathlib import Path

from keras_audio_ssl.cli.common import Failure
from keras_audio_ssl.cli.common import Progress
from keras_audio_ssl.cli.common import add_data
from keras_audio_ssl.cli.common import finish
from keras_audio_ssl.cli.common import parse_levels
from keras_audio_ssl.cli.common import say


def add_arguments(parser):
    parser.add_argument(
        "encoder", metavar="ENCODER", help="a .keras file or a name"
    )
    add_data(parser, synthetic=False)
    parser.add_argument(
        "--output", required=True, help="emb.npz or emb.parquet"
    )
    parser.add_argument(
        "--window", type=float, metavar="S",
        help="seconds of a window; one vector a window",
    )  # fmt: skip
    parser.add_argument(
        "--hop", type=float, metavar="S", help="seconds between windows"
    )
    parser.add_argument(
        "--levels", help="read these levels, e.g. all or 0,2,-1 (Readout)"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--overwrite", action="store_true")


def run(args):
    output = Path(args.output)
    if output.suffix not in (".npz", ".parquet"):
        raise ValueError(
            f"--output must end in .npz or .parquet. Received: {output}"
        )
    if output.exists() and not args.overwrite:
        raise ValueError(f"{output} exists; replace it with --overwrite.")
    if args.hop and not args.window:
        raise ValueError("--hop needs --window.")
    for name in ("window", "hop"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            raise ValueError(f"--{name} must be positive.")
    from keras_audio_ssl import hub
    from keras_audio_ssl.encoders import Readout

    encoder = hub.load_encoder(args.encoder)
    if args.levels:
        encoder = Readout(encoder, parse_levels(args.levels))
    columns, skipped = embed_files(encoder, audio_files(args), args)
    write(output, columns, encoder)
    result = {
        "output": str(output),
        "vectors": len(columns["file"]),
        "dim": encoder.dim,
        "skipped": [{"file": f, "reason": r} for f, r in skipped],
    }
    lines = [f"{len(columns['file'])} vectors of {encoder.dim} in {output}"]
    if skipped:
        lines.append(f"{len(skipped)} files were skipped:")
        lines += [f"  {file}: {reason}" for file, reason in skipped[:20]]
    finish(args, result, "\n".join(lines))


def audio_files(args):
    """Paths of the folder, of the manifest, or the one file."""
    from keras_audio_ssl.data import from_folder
    from keras_audio_ssl.data import from_manifest

    path = Path(args.data)
    if not path.exists():
        raise ValueError(
            f"--data {args.data}: there is no such file or folder."
        )
    if path.is_dir():
        if args.where:
            raise ValueError("--where needs a manifest as --data.")
        data = from_folder(path, batch_size=1, shuffle=False)
    elif path.suffix.lower() == ".csv":
        data = from_manifest(
            path, batch_size=1, shuffle=False, where=args.where
        )
    else:
        return [str(path)], []
    return list(data.files), list(data.skipped)


def embed_files(encoder, files, args):
    """Columns `file`, (`start`,) `embedding`, and what was skipped."""
    import numpy as np

    from keras_audio_ssl.data import AudioError
    from keras_audio_ssl.data import read_audio

    files, skipped = files
    rows: dict[str, list] = {"file": [], "start": [], "embedding": []}
    group = 1 if args.window else args.batch_size
    with Progress("embedding", len(files), args.json) as progress:
        for at in range(0, len(files), group):
            part, waves = [], []
            for file in files[at : at + group]:
                try:
                    waves.append(read_audio(file, encoder.sample_rate))
                    part.append(file)
                except AudioError as error:
                    skipped.append((file, error.reason))
            starts = [0.0] * len(waves)
            if args.window and waves:
                part, starts, waves = windows(encoder, part[0], waves[0], args)
            if waves:
                vectors = encoder.embed(waves, batch_size=args.batch_size)
                rows["file"] += part
                rows["start"] += starts
                rows["embedding"] += list(vectors)
            progress.advance(min(group, len(files) - at))
    if not rows["file"]:
        raise Failure(
            f"nothing in {args.data} could be read; first: {skipped[:3]}"
        )
    if not args.window:
        del rows["start"]
    return {key: np.array(value) for key, value in rows.items()}, skipped


def windows(encoder, file, wave, args):
    """Cuts a clip into windows; the last one is padded with silence."""
    size = max(round(args.window * encoder.sample_rate), 1)
    hop = max(round((args.hop or args.window) * encoder.sample_rate), 1)
    starts = list(range(0, max(len(wave) - size + hop, 1), hop))
    cuts = [wave[s : s + size] for s in starts]
    seconds = [s / encoder.sample_rate for s in starts]
    return [file] * len(starts), seconds, cuts


def write(output, columns, encoder):
    """Writes the table whole or not at all."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    if output.suffix == ".npz":
        import zipfile

        import numpy as np

        # `np.savez` has no room for an array of the name `file`.
        with zipfile.ZipFile(part, "w") as archive:
            for name, column in columns.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                    np.lib.format.write_array(f, column, allow_pickle=False)
    else:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise Failure(
                "writing .parquet needs pyarrow: pip install pyarrow, or "
                "write .npz."
            ) from None
        table = pyarrow.table({k: list(v) for k, v in columns.items()})
        pyarrow.parquet.write_table(table, part)
    os.replace(part, output)
    say(f"wrote {output}")
