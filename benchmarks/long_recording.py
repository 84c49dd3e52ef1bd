"""Embeds a recording of many hours and watches the memory.

    python benchmarks/long_recording.py [--hours 10] [--window 1] [--file F]

Writes a FLAC file of noise bursts where none is given, embeds its windows
with a small untrained encoder (`embed_stream`), and prints how far the memory
rose above what it was when the first window was done, how fast it went, and
whether some windows equal those that are read and embedded alone.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

import keras_audio_ssl as kas
from keras_audio_ssl.data import read_audio


def memory():
    """Resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return 4096 * pages


def write(path, hours, rate):
    """A mono FLAC file of noise that swells once a minute."""
    rng = np.random.default_rng(0)
    swell = np.sin(np.linspace(0, np.pi, 60 * rate)) ** 2
    with soundfile.SoundFile(path, "w", rate, 1, format="FLAC") as file:
        for _ in range(round(60 * hours)):
            noise = 0.1 * rng.standard_normal(60 * rate, "float32")
            file.write(noise * swell)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--rate", type=int, default=22050)
    parser.add_argument("--window", type=float, default=1.0)
    parser.add_argument("--hop", type=float)
    parser.add_argument("--file")
    args = parser.parse_args()
    encoder = kas.BYOLA(preset="tiny").encoder
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or Path(folder) / "long.flac"
        if not args.file:
            write(path, args.hours, args.rate)
        loaded, most, start, done = memory(), 0, None, []
        for seconds, vectors in encoder.embed_stream(
            path, args.window, args.hop
        ):
            now = memory()
            if start is None:
                begin, start = now, time.perf_counter()
            most = max(most, now)
            done += list(zip(seconds.tolist(), vectors[:, :4], strict=True))
        passed = time.perf_counter() - start
        hours = (done[-1][0] + args.window) / 3600
        picked = np.linspace(0, len(done) - 1, 20).astype(int)
        off = max(
            np.abs(
                encoder.embed(
                    read_audio(
                        path, encoder.sample_rate, done[i][0], args.window
                    )
                )[:4]
                - done[i][1]
            ).max()
            for i in picked
        )
    print(
        f"{hours:.2f} h, {len(done)} windows in {passed:.0f} s, "
        f"{hours * 3600 / passed:.0f} times real time\n"
        f"memory at most {(most - loaded) / 1e6:.0f} MB above the loaded "
        f"library, {(most - begin) / 1e6:.0f} MB above the first windows'\n"
        f"20 windows embedded alone differ by at most {off:.1e}"
    )


if __name__ == "__main__":
    main()
