"""Log-mel of 64 clips of 1 s: ours, torch.stft with a matmul, librosa.

    KERAS_BACKEND=jax python benchmarks/logmel.py [--rounds 30]

All are called in turn, so that a busy moment hits them alike; each figure is
the shortest of its calls. A ratio below 1 is faster than torch.stft.
"""

import argparse
import time

import keras
import numpy as np

from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features import mel_filterbank

SAMPLE_RATE = 16000
SETTINGS = {
    "hop_length": 160,
    "n_mels": 64,
    "f_min": 60.0,
    "f_max": 7800.0,
}
OFFSET = 1e-6


def ours(waveforms, n_fft):
    """A call of our layer, compiled as the backend does."""
    layer = LogMel(n_fft=n_fft, win_length=None, log_add=OFFSET, **SETTINGS)
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        function = jax.jit(lambda x: layer(x))
        x = jax.numpy.asarray(waveforms)
        return lambda: jax.block_until_ready(function(x))
    if backend == "tensorflow":
        import tensorflow as tf

        function = tf.function(lambda x: layer(x))
        x = tf.constant(waveforms)
        return lambda: function(x).numpy()
    import torch

    x = keras.ops.convert_to_tensor(waveforms)

    def call():
        with torch.no_grad():
            y = layer(x)
        if y.is_cuda:
            torch.cuda.synchronize()
        return y.cpu()

    return call


def torch_stft(waveforms, n_fft):
    """A call of `torch.stft`, a squared magnitude, a matmul and a logarithm."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.as_tensor(waveforms, device=device)
    window = torch.hann_window(n_fft, device=device)
    bank = mel_filterbank(
        SAMPLE_RATE,
        n_fft,
        SETTINGS["n_mels"],
        SETTINGS["f_min"],
        SETTINGS["f_max"],
    )
    bank = torch.as_tensor(bank.T.astype("float32"), device=device)

    def call():
        with torch.no_grad():
            spectrum = torch.stft(
                x,
                n_fft,
                SETTINGS["hop_length"],
                window=window,
                center=True,
                pad_mode="reflect",
                return_complex=True,
            )
            power = spectrum.real.square() + spectrum.imag.square()
            y = torch.log(bank @ power + OFFSET)
        return y.cpu().transpose(1, 2)

    return call


def librosa_batched(waveforms, n_fft):
    """A call of librosa on all clips at once."""
    import librosa

    def call():
        power = librosa.feature.melspectrogram(
            y=waveforms,
            sr=SAMPLE_RATE,
            n_fft=n_fft,
            hop_length=SETTINGS["hop_length"],
            n_mels=SETTINGS["n_mels"],
            fmin=SETTINGS["f_min"],
            fmax=SETTINGS["f_max"],
            htk=True,
            norm=None,
            pad_mode="reflect",
        )
        return np.log(power + OFFSET).transpose(0, 2, 1)

    return call


def measure(n_fft, clips=64, seconds=1.0, rounds=30):
    """Times the three in turn.

    Args:
        n_fft: length of window and transform in samples.
        clips: how many clips a call takes.
        seconds: their length.
        rounds: calls of each.

    Returns:
        A dict: name to shortest time in seconds.
    """
    samples = int(seconds * SAMPLE_RATE)
    rng = np.random.default_rng(0)
    waveforms = 0.1 * rng.standard_normal((clips, samples)).astype("float32")
    calls = {
        "ours": ours(waveforms, n_fft),
        "torch.stft": torch_stft(waveforms, n_fft),
        "librosa": librosa_batched(waveforms, n_fft),
    }
    want = np.asarray(calls["librosa"]())
    for name, call in calls.items():
        off = np.abs(np.asarray(call()) - want).max()
        if off > 1e-3:
            raise AssertionError(f"{name} differs from librosa by {off:.2g}")
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            # Lets the threads of the one before go to sleep.
            time.sleep(0.01)
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    for n_fft in (1024, 400):
        best = measure(n_fft, args.clips, args.seconds, args.rounds)
        peer = best["torch.stft"]
        print(
            f"logmel n_fft={n_fft} {keras.config.backend()}: "
            + ", ".join(
                f"{name} {1e3 * t:.1f} ms ({t / peer:.2f})"
                for name, t in best.items()
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
