"""The front ends again: float64, numpy, one frame at a time."""

import numpy as np


def spectrum(
    wave,
    n_fft,
    win_length,
    hop_length,
    window,
    center=True,
    pad_mode="reflect",
    preemphasis=0.0,
    remove_dc=False,
):
    """Power spectrum `(frames, n_fft // 2 + 1)` of one clip."""
    x = np.asarray(wave, "float64")
    if center:
        x = np.pad(x, n_fft // 2, mode=pad_mode)
        side = (n_fft - win_length) // 2
        window = np.pad(window, (side, n_fft - win_length - side))
    length = len(window)
    rows = []
    for start in range(0, len(x) - length + 1, hop_length):
        frame = x[start : start + length].copy()
        if remove_dc:
            frame -= frame.mean()
        if preemphasis:
            before = np.concatenate([frame[:1], frame[:-1]])
            frame = frame - preemphasis * before
        rows.append(np.abs(np.fft.rfft(frame * window, n_fft)) ** 2)
    return np.array(rows)


def kaldi_bank(n_mels, n_fft, sample_rate, f_min, f_max):
    """Kaldi's triangles, entry by entry `(n_fft // 2 + 1, n_mels)`."""
    mel = lambda f: 1127.0 * np.log(1.0 + f / 700.0)
    edges = np.linspace(mel(f_min), mel(f_max), n_mels + 2)
    bank = np.zeros((n_fft // 2 + 1, n_mels))
    for k in range(n_fft // 2):
        at = mel(k * sample_rate / n_fft)
        for m in range(n_mels):
            left, centre, right = edges[m : m + 3]
            if left < at <= centre:
                bank[k, m] = (at - left) / (centre - left)
            elif centre < at < right:
                bank[k, m] = (right - at) / (right - centre)
    return bank


def deltas(x, width=5):
    """Regression over `width` frames, the ends repeated."""
    reach, last = width // 2, len(x) - 1
    out = np.zeros_like(x)
    for t in range(len(x)):
        for n in range(1, reach + 1):
            out[t] += n * (x[min(t + n, last)] - x[max(t - n, 0)])
    return out / (2 * sum(n * n for n in range(1, reach + 1)))


def cmvn(x, epsilon=1e-10, ddof=1):
    """Mean and deviation over time removed."""
    return (x - x.mean(0)) / (x.std(0, ddof=ddof) + epsilon)


def rms_level(wave):
    """s3prl's -25 dB."""
    wave = np.asarray(wave, "float64")
    return wave * 10 ** (-25 / 20) / (np.sqrt(np.mean(wave**2)) + 1e-10)


def signal(samples, seed=0, sample_rate=16000):
    """A chirp in noise, float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / sample_rate
    wave = 0.3 * np.sin(2 * np.pi * (200 * t + 1500 * t**2))
    return (wave + 0.05 * rng.standard_normal(samples)).astype("float32")
