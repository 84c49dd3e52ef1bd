"""Augmentations in the graph against audiomentations and its PyTorch kin.

    python benchmarks/augmentations.py [NAME ...] [--rounds 7] [--json FILE]

What this package and `audiomentations` or `torch-audiomentations` both have,
with the same ranges, on the same batch in memory, applied to every clip. Here
and in `torch-audiomentations` a batch is one call; `audiomentations` takes
clips one by one. Each contender has a process of its own, and they take turns.
Printed is the median over the rounds of the time of a batch, and of the ratio
to each of the others in the same round, with the smallest and the largest:
below 1 is quicker than it. A package that is not installed is skipped.

For time by core rather than by machine, begin the command with `taskset -c 0`.
"""

import argparse
import json
import statistics
import time
from importlib.util import find_spec

import run as harness

RATE, CLIPS, SAMPLES = 16000, 64, 16000

# Of each, what the three call it: class and arguments, None for none. Whole
# numbers are drawn here where they draw any (semitones), and factors where
# they draw decibels.
AUGMENTATIONS = {
    "gain": (
        ("Gain", {"low": 0.5, "high": 2.0}),
        ("Gain", {"min_gain_db": -6.02, "max_gain_db": 6.02}),
        ("Gain", {"min_gain_in_db": -6.02, "max_gain_in_db": 6.02}),
    ),
    "white_noise": (
        ("WhiteNoise", {"low": 0, "high": 19}),
        ("AddGaussianSNR", {"min_snr_db": 0.0, "max_snr_db": 19.0}),
        (
            "AddColoredNoise",
            {
                "min_snr_in_db": 0.0,
                "max_snr_in_db": 19.0,
                "min_f_decay": 0.0,
                "max_f_decay": 0.0,
            },
        ),
    ),
    "faint_noise": (
        ("FaintNoise", {"std": 0.001}),
        ("AddGaussianNoise", {"min_amplitude": 1e-3, "max_amplitude": 1e-3}),
        None,
    ),
    "silence": (
        ("Silence", {"samples": SAMPLES // 8}),
        (
            "TimeMask",
            {"min_band_part": 0.0, "max_band_part": 0.125, "fade_duration": 0},
        ),
        None,
    ),
    "time_shift": (
        ("TimeShift", {"low": -8000, "high": 7999}),
        (
            "Shift",
            {
                "min_shift": -8000,
                "max_shift": 7999,
                "shift_unit": "samples",
                "fade_duration": 0,
            },
        ),
        (
            "Shift",
            {"min_shift": -8000, "max_shift": 7999, "shift_unit": "samples"},
        ),
    ),
    "pitch_shift": (
        ("PitchShift", {"low": -4, "high": 4}),
        ("PitchShift", {"min_semitones": -4.0, "max_semitones": 4.0}),
        (
            "PitchShift",
            {"min_transpose_semitones": -4, "max_transpose_semitones": 4},
        ),
    ),
    "time_stretch": (
        ("TimeStretch", {"low": 0.8, "high": 1.25}),
        ("TimeStretch", {"min_rate": 0.8, "max_rate": 1.25}),
        None,
    ),
}
# Other ways of `audiomentations`: its own is Signalsmith's, in C++.
LIBROSA = {"method": "librosa_phase_vocoder"}
VOCODED = ("pitch_shift", "time_stretch")
PEERS = {
    "audiomentations": "audiomentations",
    "audiomentations, librosa": "audiomentations",
    "torch-audiomentations": "torch_audiomentations",
}


def batch():
    import numpy as np

    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((CLIPS, SAMPLES))).astype("float32")


def here(name):
    """`run(n)`: n batches by this package's layer, compiled where it can be."""
    import keras

    import keras_audio_ssl as kas

    kind, arguments = AUGMENTATIONS[name][0]
    layer = getattr(kas.augment, kind)(**arguments)
    seed = keras.random.SeedGenerator(0)
    x = keras.ops.convert_to_tensor(batch())
    if keras.config.backend() == "jax":
        import jax

        @jax.jit
        def stateless(state, x):
            with keras.StatelessScope([(seed.state, state)]) as scope:
                y = layer(x, seed=seed)
            return y, scope.get_current_value(seed.state)

        def run(n):
            state = seed.state.value
            for _ in range(n):
                y, state = stateless(state, x)
            y.block_until_ready()
            seed.state.assign(state)

        return run
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda x: layer(x, seed=seed))

        def run(n):
            for _ in range(n):
                y = compiled(x)
            y.numpy()

        return run
    import torch

    def run(n):
        with torch.inference_mode():
            for _ in range(n):
                y = layer(x, seed=seed)
            y.numpy(force=True)

    return run


def audiomentations(name, **options):
    """`run(n)`: n batches, clip by clip."""
    import audiomentations as peer

    kind, arguments = AUGMENTATIONS[name][1]
    transform = getattr(peer, kind)(p=1.0, **arguments, **options)
    x = batch()

    def run(n):
        for _ in range(n):
            for clip in x:
                transform(samples=clip, sample_rate=RATE)

    return run


def torch_audiomentations(name):
    """`run(n)`: n batches."""
    import torch
    import torch_audiomentations as peer

    kind, arguments = AUGMENTATIONS[name][2]
    transform = getattr(peer, kind)(
        p=1.0, sample_rate=RATE, output_type="tensor", **arguments
    )
    x = torch.from_numpy(batch())[:, None]

    def run(n):
        with torch.inference_mode():
            for _ in range(n):
                transform(x)

    return run


def contenders(name, backends):
    """Name, function, options and backend of each that can be compared."""
    for backend in backends:
        if find_spec(backend):
            yield backend, "here", {}, backend
        else:
            print(f"  {backend:<26} skipped: not installed")
    for peer, module in PEERS.items():
        has = AUGMENTATIONS[name][1 if module == "audiomentations" else 2]
        options = {}
        if peer.endswith("librosa"):
            if name not in VOCODED:
                continue
            options = LIBROSA
        if not has:
            print(f"  {peer:<26} has none")
        elif not find_spec(module):
            print(f"  {peer:<26} skipped: `pip install {module}`")
        else:
            yield peer, module, options, "torch"


def duel(name, backends, rounds):
    """Seconds a batch of each contender, one a round."""
    running = {}
    try:
        for who, function, options, backend in contenders(name, backends):
            running[who] = harness.Contender(
                "augmentations", function, {"name": name, **options}, backend
            )
            running[who].steps = min(running[who].steps, 200)
        for _ in range(rounds):
            for contender in running.values():
                time.sleep(0.1)
                contender.run()
    finally:
        for contender in running.values():
            contender.close()
    return {who: contender.times for who, contender in running.items()}


def report(times, backends):
    """Prints the times, and our ratios to each of the others."""
    peers = [who for who in times if who in PEERS]
    for who, mine in times.items():
        words = f"  {who:<26} {1e3 * statistics.median(mine):9.2f} ms"
        if who in backends:
            for peer in peers:
                ratios = sorted(
                    a / b for a, b in zip(mine, times[peer], strict=True)
                )
                words += (
                    f"   {statistics.median(ratios):6.2f} "
                    f"[{ratios[0]:.2f}, {ratios[-1]:.2f}] of {peer}"
                )
        print(words, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help=", ".join(AUGMENTATIONS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backends", nargs="+", default=harness.BACKENDS)
    parser.add_argument("--json", help="file to append every time to")
    args = parser.parse_args()
    for name in args.names:
        if name not in AUGMENTATIONS:
            parser.error(f"unknown {name!r}: {', '.join(AUGMENTATIONS)}")
    print(f"{CLIPS} clips of {SAMPLES / RATE:g} s; {harness.machine()}")
    for name in args.names or AUGMENTATIONS:
        print(f"\n{name}", flush=True)
        times = duel(name, args.backends, args.rounds)
        report(times, args.backends)
        if args.json:
            with open(args.json, "a") as file:
                file.write(json.dumps({name: times}) + "\n")


if __name__ == "__main__":
    main()
