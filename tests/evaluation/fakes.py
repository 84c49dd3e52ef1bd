"""A small corpus of tones, and an encoder that hears their pitch."""

import csv

import numpy as np
import soundfile

RATE = 8000


class BandEncoder:
    """Energy of 16 bands; as much of the contract as probes need."""

    sample_rate = RATE
    frame_rate = 50.0

    def __init__(self):
        self.calls = 0

    def embed(self, waves):
        self.calls += len(waves)
        return np.array([bands(wave) for wave in waves], "float32")

    def embed_frames(self, waves):
        size = int(RATE / self.frame_rate)
        return [
            np.array(
                [
                    bands(wave[i : i + size])
                    for i in range(0, len(wave) - size + 1, size)
                ],
                "float32",
            )
            for wave in waves
        ]


def bands(wave):
    power = np.abs(np.fft.rfft(wave, 512)[:256]) ** 2
    return np.log(power.reshape(16, 16).sum(axis=1) + 1e-3)


def tone(hz, seconds=0.3, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * hz * time + 6 * rng.random())
    return (wave + 0.02 * rng.standard_normal(len(wave))).astype("float32")


def write_corpus(folder, classes=3, speakers=4, takes=2):
    """Writes tones and a manifest; returns its path."""
    rows = []
    for k in range(classes):
        for speaker in range(speakers):
            for take in range(takes):
                name = f"{k}_{speaker}_{take}.wav"
                wave = tone(400 + 700 * k + 40 * speaker, seed=len(rows))
                soundfile.write(folder / name, wave, RATE)
                part = "test" if speaker == 0 else "train"
                rows.append([name, f"class{k}", f"s{speaker}", part, "x"])
    return write_table(
        folder / "manifest.csv",
        ["file", "label", "speaker", "split", "same"],
        rows,
    )


def write_table(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path
