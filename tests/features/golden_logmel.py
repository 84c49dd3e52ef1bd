"""Comparisons with the golden log-mels that two parity files share."""

import numpy as np

from keras_audio_ssl.features import mel_filterbank
from keras_audio_ssl.features import recipe
from keras_audio_ssl.features import scale_amplitude
from tests.features.helpers import numpy

# Every float32 transform is off by more than these limits in bins 100 dB
# below the loudest; the definitions are compared in float64.
EXACT = {"precision": "float64"}


def byol_a(golden):
    """Compares the `logmel/*` arrays of `byol_a.npz`."""
    waves = [k for k in golden.keys if k.startswith("logmel/wav")]
    for key, name in (
        ("logmel/librosa_reflect", "byol_a"),
        ("logmel/nnaudio", "byol_a"),
        ("logmel/torchaudio", "byol_a_torchaudio"),
    ):
        if not waves or not golden.has(key):
            continue
        want = golden[key].T
        loud = want > -10
        for settings in (EXACT, {}):
            frontend = recipe(name, n_mels=want.shape[1], **settings)
            got = numpy(frontend(golden[waves[0]][None]))[0]
            if loud.any():
                golden.near(got, want, atol=1e-3, where=loud, what=key)
            if settings and not loud.all():
                golden.near(got, want, atol=5e-3, where=~loud, what=key)


def cola(golden):
    """Compares the `logmel/*` arrays of `cola.npz`."""
    wave, key = "logmel/wav_16k_1s", "logmel/log_mel_time_by_band"
    if golden.has(wave, key):
        loud = golden[key] > -9
        n_mels = golden[key].shape[1]
        for settings in (EXACT, {}):
            frontend = recipe("cola", n_mels=n_mels, **settings)
            got = numpy(frontend(golden[wave][None]))[0]
            golden.close(got, key, atol=1e-3, where=loud)
    if golden.has(wave):
        scaled = numpy(scale_amplitude(golden[wave][None], "l2"))
        golden.close(
            np.linalg.norm(scaled),
            "logmel/wav_l2_normalised_norm",
            atol=1e-5,
        )
    frontend = recipe("cola")
    if golden.has("logmel/mel_matrix"):
        want = golden["logmel/mel_matrix"]
        bank = mel_filterbank(
            frontend.sample_rate,
            2 * (want.shape[0] - 1),
            frontend.n_mels,
            frontend.f_min,
            frontend.f_max,
            frontend.mel_scale,
            frontend.mel_norm,
        )
        # Some folders hold the first columns only.
        golden.near(bank[:, : want.shape[1]], want, atol=2e-5)
    if golden.has("logmel/silence_value"):
        silence = numpy(frontend(np.zeros((1, 16000), "float32")))
        golden.close(
            [silence.min(), silence.max()],
            "logmel/silence_value",
            atol=1e-5,
        )
