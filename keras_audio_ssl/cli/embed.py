"""`keras-audio-ssl embed ENCODER`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_audio_ssl import _long_clips
from keras_audio_ssl._files import written_whole
from keras_audio_ssl._optional import need
from keras_audio_ssl._text import some_skipped
from keras_audio_ssl._text import with_reason
from keras_audio_ssl._types import FilePath
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.cli.arguments import add_data
from keras_audio_ssl.cli.arguments import parse_levels
from keras_audio_ssl.cli.results import print_result
from keras_audio_ssl.cli.vector_journal import VectorJournal
from keras_audio_ssl.runs.lock import only_one
from keras_audio_ssl.runs.progress import Progress
from keras_audio_ssl.runs.progress import say
from keras_audio_ssl.runs.stopping import Failure

TOO_LARGE = "it takes more memory than there is"
# What PyTorch, TensorFlow and XLA say.
SHORT_OF_MEMORY = ("out of memory", "can't allocate", "cannot allocate",
                   "failed to allocate", "oom when allocating",
                   "resource_exhausted", "resourceexhausted")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl embed`."""
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
        "--hop", type=float, metavar="S",
        help="seconds between windows; by default --window",
    )  # fmt: skip
    parser.add_argument(
        "--levels",
        help="read these levels, e.g. all or 0,2,-1 (Readout); by default the "
        "encoder's own vector",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32,
        help="clips or windows that pass the network together",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output"
    )


def run(args: argparse.Namespace) -> None:
    """Writes a table of vectors, or goes on with one that was interrupted.

    Raises:
        ValueError: An argument is wrong, the output exists, or another run is
            writing it.
        Failure: Nothing can be read, or it was interrupted.
    """
    output = Path(args.output)
    if output.suffix not in (".npz", ".parquet"):
        raise ValueError(
            f"--output must end in .npz or .parquet. Received: {output}"
        )
    if output.suffix == ".parquet":
        need("pyarrow", "writing .parquet, and not .npz,")
    if args.hop and not args.window:
        raise ValueError("--hop needs --window.")
    for name in ("window", "hop"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            raise ValueError(f"--{name} must be positive.")
    with only_one(output.with_name(f".{output.name}.lock")):
        if output.exists() and not args.overwrite:
            raise ValueError(f"{output} exists; replace it with --overwrite.")
        from keras_audio_ssl.data import isolated

        with isolated(args.isolate):
            embed(args, output)


def embed(args: argparse.Namespace, output: Path) -> None:
    """A run, from the arguments to the table."""
    from keras_audio_ssl import hub
    from keras_audio_ssl.encoders import Readout

    encoder = hub.load_encoder(args.encoder)
    if args.levels:
        encoder = Readout(encoder, parse_levels(args.levels))
    clips, unread = audio_files(args)
    files = clips.files
    journal = VectorJournal(
        output.with_name(f".{output.name}.partial"),
        settings_of(args, clips),
        encoder.dim,
        say,
    )
    whole_batches(journal, len(files), args)
    if len(journal):
        say(f"going on after {len(journal)} vectors of an interrupted run")
    try:
        long = embed_files(encoder, clips, journal, args)
        skipped = unread + [(files[i], why) for i, why in journal.skipped]
        if not len(journal):
            journal.remove()
            raise Failure(
                f"nothing in {args.data} could be read; first: "
                + some_skipped(skipped)
            )
        count = len(journal)
        write(output, files, journal, with_start=bool(args.window))
    except KeyboardInterrupt:
        raise Failure(
            f"interrupted after {len(journal)} vectors; the same command "
            "goes on from there."
        ) from None
    finally:
        journal.close()
    journal.remove()
    result = {
        "output": str(output),
        "vectors": count,
        "dim": encoder.dim,
        "skipped": [{"file": f, "reason": r} for f, r in skipped],
    }
    lines = [f"{count} vectors of {encoder.dim} in {output}"]
    if long:
        result["in_blocks"] = long
        lines.append(
            f"{long} clips are longer than {_long_clips.LONG_SECONDS} s: "
            "their vectors are means over blocks of at most "
            f"{_long_clips.BLOCK_SECONDS} s (--window gives a vector a window)"
        )
    if skipped:
        lines.append(f"{len(skipped)} files were skipped:")
        lines += [f"  {with_reason(*pair)}" for pair in skipped[:20]]
    print_result(args, result, "\n".join(lines))


def settings_of(args: argparse.Namespace, clips: Any) -> dict[str, Any]:
    """What the vectors depend on: an encoder's file, the clips, how read."""
    from keras_audio_ssl.hub.encoder_files import find_encoder

    path = find_encoder(args.encoder)
    return {
        "encoder": [str(path), *size_and_time(path)],
        "files": [
            [file, *size_and_time(file), clips.part(i)]
            for i, file in enumerate(clips.files)
        ],
        "blocks": [_long_clips.LONG_SECONDS, _long_clips.BLOCK_SECONDS],
        "batch_size": args.batch_size,
        "window": args.window,
        "hop": args.hop,
        "levels": args.levels,
    }


def size_and_time(path: FilePath) -> list[int]:
    """Bytes of a file and when it was changed; nothing where it is gone."""
    try:
        stat = os.stat(path)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def audio_files(args: argparse.Namespace) -> tuple[Any, list[tuple[str, str]]]:
    """Clips of the folder, of the manifest, or the one file.

    Returns:
        An `AudioDataset`, and `(file, reason)` of what cannot be read.
    """
    from keras_audio_ssl.data import from_folder
    from keras_audio_ssl.data import from_manifest
    from keras_audio_ssl.data.builders import from_file
    from keras_audio_ssl.data.clips.folder import is_table

    path = Path(args.data)
    if not path.exists():
        raise ValueError(
            f"--data {args.data}: there is no such file or folder."
        )
    if path.is_dir():
        if args.where:
            raise ValueError("--where needs a manifest as --data.")
        data = from_folder(path, batch_size=1, shuffle=False)
    elif is_table(path):
        data = from_manifest(
            path, batch_size=1, shuffle=False, where=args.where
        )
        if args.window and any(map(data.part, range(data.num_clips))):
            raise ValueError(
                f"--window reads whole files, and {path} names parts of "
                "files (start, end): leave one of them out."
            )
    else:
        if args.where:
            raise ValueError("--where needs a manifest as --data.")
        try:
            data = from_file(path)
        except ValueError as error:
            raise Failure(str(error)) from None
    return data, list(data.skipped)


def embed_files(
    encoder: Any, clips: Any, journal: VectorJournal, args: argparse.Namespace
) -> int:
    """Writes the vectors of all clips that the journal has not.

    Returns:
        How many of them were cut into blocks.
    """
    from keras_audio_ssl.data import AudioError

    last = dict(journal.rows.tolist())
    done = set(last)
    if args.window and last:
        # This one may have more windows.
        done.remove(max(last))
    done.update(number for number, _ in journal.skipped)
    left = [i for i in range(clips.num_clips) if i not in done]
    group = 1 if args.window else args.batch_size
    long = 0
    with Progress("embedding", len(left), args.json) as progress:
        for at in range(0, len(left), group):
            numbers, waves = [], []
            for number in left[at : at + group]:
                try:
                    if args.window:
                        embed_windows(
                            encoder, clips, journal, number, last, args
                        )
                        continue
                    rate = encoder.sample_rate
                    # One second more tells whether there is more.
                    most = _long_clips.LONG_SECONDS
                    wave = clips.read_clip(number, rate, most + 1)
                    if len(wave) > most * rate:
                        vector = embed_long(encoder, clips, number)
                        journal.add(number, 0.0, vector[None])
                        long += 1
                    else:
                        waves.append(wave)
                        numbers.append(number)
                except AudioError as error:
                    journal.skip(number, error.reason)
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    journal.skip(number, TOO_LARGE)
            embed_group(encoder, numbers, waves, journal, args)
            progress.advance(min(group, len(left) - at))
    return long


def embed_windows(
    encoder: Any,
    clips: Any,
    journal: VectorJournal,
    number: int,
    last: dict[float, float],
    args: argparse.Namespace,
) -> None:
    """Writes the vectors of a file's windows, from the last one on."""
    hop = args.hop or args.window
    start = last[number] + hop if number in last else 0.0
    stream = encoder.embed_stream(
        clips.files[number], args.window, hop, start, args.batch_size
    )
    for seconds, vectors in stream:
        journal.add(number, seconds, vectors)


def embed_long(encoder: Any, clips: Any, number: int) -> Tensor:
    """The mean of the vectors of a clip's blocks, which are equally long."""
    import numpy as np

    seconds = clips.clip_seconds(number)
    count = _long_clips.block_count(seconds)
    total = np.zeros(encoder.dim)
    for k in range(count):
        wave = clips.read_clip(
            number,
            encoder.sample_rate,
            seconds / count,
            start=k * seconds / count,
        )
        total += encoder.embed(wave)
    return (total / count).astype("float32")


def embed_group(
    encoder: Any,
    numbers: list[int],
    waves: list[Tensor],
    journal: VectorJournal,
    args: argparse.Namespace,
) -> None:
    """Writes the vectors of short clips; one by one where they are too many.

    What one of them needs too much of must not lose the others.
    """
    if not waves:
        return
    try:
        vectors = encoder.embed(waves, batch_size=args.batch_size)
    except Exception as error:
        if not out_of_memory(error):
            raise
        if len(waves) == 1:
            journal.skip(numbers[0], TOO_LARGE)
            return
        for number, wave in zip(numbers, waves, strict=True):
            embed_group(encoder, [number], [wave], journal, args)
        return
    for number, vector in zip(numbers, vectors, strict=True):
        journal.add(number, 0.0, vector[None])


def out_of_memory(error: Exception) -> bool:
    """Whether an error of any library says that memory is short."""
    text = f"{type(error).__name__} {error}".lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in SHORT_OF_MEMORY
    )


def whole_batches(
    journal: VectorJournal, count: int, args: argparse.Namespace
) -> None:
    """Drops what is left of a batch, so that the same batches come again.

    A vector's last bit depends on what it was computed with.
    """
    numbers = journal.rows[:, 0]
    if args.window:
        if len(numbers):
            rows = (
                len(numbers) - (numbers == numbers[-1]).sum() % args.batch_size
            )
            journal.cut(rows, count)
        return
    done = {*numbers.tolist(), *(number for number, _ in journal.skipped)}
    undone = next((i for i in range(count) if i not in done), count)
    if undone < count:
        undone -= undone % args.batch_size
    journal.cut(int((numbers < undone).sum()), undone)


def write(
    output: Path, files: Sequence[str], journal: VectorJournal, with_start: bool
) -> None:
    """Writes the table whole or not at all."""
    import numpy as np

    rows, vectors = journal.columns()
    # A folder's files may be done in another order after an interruption.
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    if (order != np.arange(len(order))).any():
        rows, vectors = rows[order], vectors[order]
    columns = {"file": np.array([files[int(i)] for i in rows[:, 0]])}
    if with_start:
        columns["start"] = rows[:, 1]
    columns["embedding"] = vectors
    with written_whole(output) as draft:
        if output.suffix == ".npz":
            write_npz(draft, columns)
        else:
            write_parquet(draft, columns)
    say(f"wrote {output}")


def write_npz(path: Path, columns: dict[str, Any]) -> None:
    """Writes columns as `.npz`, whatever their names."""
    import zipfile

    import numpy as np

    # `np.savez` has no room for an array of the name `file`.
    with zipfile.ZipFile(path, "w") as archive:
        for name, column in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, column, allow_pickle=False)


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    """Writes columns as Parquet; names that are no UTF-8 are escaped."""
    import pyarrow
    import pyarrow.parquet

    # Names that are no UTF-8 have no place in such a table.
    names = [
        str(name).encode("utf-8", "backslashreplace").decode()
        for name in columns["file"]
    ]
    table = pyarrow.table(
        {**{k: list(v) for k, v in columns.items()}, "file": names}
    )
    pyarrow.parquet.write_table(table, path)
