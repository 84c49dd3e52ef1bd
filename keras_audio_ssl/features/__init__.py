"""Waveform to features: log-mel, MFCC, spectra, their normalisation."""

from keras_audio_ssl.features.framing import frame_signal
from keras_audio_ssl.features.framing import pad_reflect
from keras_audio_ssl.features.framing import reflect_index
from keras_audio_ssl.features.framing import window_function
from keras_audio_ssl.features.frontend import FrontEnd
from keras_audio_ssl.features.frontend import front_ends
from keras_audio_ssl.features.layers import MFCC
from keras_audio_ssl.features.layers import LogMel
from keras_audio_ssl.features.layers import LogSpectrum
from keras_audio_ssl.features.layers import Waveform
from keras_audio_ssl.features.mel import hz_to_mel
from keras_audio_ssl.features.mel import mel_filterbank
from keras_audio_ssl.features.mel import mel_to_hz
from keras_audio_ssl.features.polar import MagnitudePhaseMel
from keras_audio_ssl.features.recipes import RECIPES
from keras_audio_ssl.features.recipes import recipe
from keras_audio_ssl.features.statistics import deltas
from keras_audio_ssl.features.statistics import scale_amplitude
from keras_audio_ssl.features.statistics import utterance_norm

__all__ = [
    "MFCC",
    "RECIPES",
    "FrontEnd",
    "LogMel",
    "LogSpectrum",
    "MagnitudePhaseMel",
    "Waveform",
    "deltas",
    "frame_signal",
    "front_ends",
    "hz_to_mel",
    "mel_filterbank",
    "mel_to_hz",
    "pad_reflect",
    "recipe",
    "reflect_index",
    "scale_amplitude",
    "utterance_norm",
    "window_function",
]
