"""The run that is disturbed, and how it is held against an undisturbed one."""

import os
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import soundfile

METHODS = ("cola", "byol_a", "apc")


def make_audio(folder, clips=10):
    """A folder of tones in noise."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    t = np.arange(20000) / 16000
    for i in range(clips):
        wave = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 3000) * t)
        wave += 0.01 * rng.standard_normal(len(t))
        soundfile.write(folder / f"{i}.wav", wave, 16000)
    return folder


def arguments(method, audio, output, steps):
    """A run over several epochs that saves after every step."""
    return [
        "pretrain", method, "--data", str(audio), "--preset", "tiny",
        "--steps", str(steps), "--batch-size", "4", "--seconds", "1",
        "--checkpoint-every", "1", "--workers", "1", "--output", str(output),
        "--json",
    ]  # fmt: skip


def pretrain(argv, log=os.devnull):
    """The command, in this process; exit code, and what it said."""
    from keras_audio_ssl.cli import main

    with open(log, "w") as file:
        before = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = file
        try:
            code = main(argv)
        finally:
            sys.stdout, sys.stderr = before
    return code, "" if log == os.devnull else Path(log).read_text()


def result(output):
    """All arrays of a finished run: encoder, model, optimizer, generators."""
    output = Path(output)
    newest = sorted(
        (output.with_suffix(".run") / "checkpoints").glob("step_*.keras")
    )[-1]
    arrays = {"name": newest.name}
    for path in (output, newest):
        with (
            zipfile.ZipFile(path) as archive,
            archive.open("model.weights.h5") as member,
            h5py.File(member) as file,
        ):

            def take(name, node, path=path):
                if isinstance(node, h5py.Dataset):
                    arrays[f"{path.suffix}{len(arrays)}/{name}"] = node[()]

            file.visititems(take)
    history = output.with_suffix(".run") / "history.csv"
    arrays["history"] = history.read_bytes()
    return arrays


def differing(a, b):
    """Names of what two results do not share, to the bit."""
    names = [
        name
        for name in a.keys() & b.keys()
        if not np.array_equal(a[name], b[name])
    ]
    return sorted({*names, *(a.keys() ^ b.keys())})
