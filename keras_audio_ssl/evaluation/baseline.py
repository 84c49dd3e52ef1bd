"""What a pretrained encoder must beat: statistics, and itself untrained."""

import random
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import KerasBackbone
from keras_audio_ssl.encoders import Readout
from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features import front_ends


class LogMelStatistics(Readout):
    """Mean and standard deviation over time of a log-mel spectrogram.

    An encoder without a single weight: it is embedded, probed and saved as
    any other. Its frames are those of the log-mel.

    Args:
        n_mels: Mel bands, default 64; a clip vector has twice as many values.
        sample_rate: Hz, default 16000.

    Example:
        >>> kas.evaluation.LogMelStatistics().embed("clip.flac").shape
        (128,)
    """

    def __init__(
        self, n_mels: int = 64, sample_rate: int = 16000, **kwargs: Any
    ) -> None:
        # A window of 64 ms: it tells notes apart that 25 ms does not.
        window = 2 ** round(np.log2(0.064 * sample_rate))
        frontend = LogMel(
            sample_rate=sample_rate,
            n_fft=window,
            win_length=window,
            hop_length=round(sample_rate / 100),
            n_mels=n_mels,
            f_max=min(7800.0, sample_rate / 2),
            log_add=1e-6,
        )
        bands = KerasBackbone(
            keras.layers.Identity(), n_mels, exact_lengths=True
        )
        encoder = Encoder(frontend, bands)
        super().__init__(encoder, pooling=("mean", "std"), **kwargs)


def untrained(encoder: Encoder, seed: int = 0) -> Encoder:
    """The same encoder with fresh random weights.

    Its front ends keep their statistics, which are measured, not learnt.

    Args:
        encoder: Any `Encoder`; it is left as it is.
        seed: Seed of the weights, default 0.

    Returns:
        A new encoder of the same class and settings.

    Example:
        >>> random_one = kas.evaluation.untrained(encoder)
        >>> random_one.dim == encoder.dim
        True
    """
    config = keras.saving.serialize_keras_object(encoder)
    # Keras' initializers take their seeds from Python's generator.
    state = random.getstate()
    random.seed(seed)
    try:
        fresh = keras.saving.deserialize_keras_object(config)
    finally:
        random.setstate(state)
    for new, old in zip(front_ends(fresh), front_ends(encoder), strict=True):
        for weight, value in zip(new.weights, old.weights, strict=True):
            weight.assign(ops.convert_to_numpy(value))
    return fresh
