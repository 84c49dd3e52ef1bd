"""The samples of a file or an array: any part of them, at any rate."""

from keras_audio_ssl.data.audio.array import AudioArray
from keras_audio_ssl.data.audio.file import AudioFile
from keras_audio_ssl.data.audio.parts import read_all
from keras_audio_ssl.data.audio.parts import read_part
from keras_audio_ssl.data.audio.resampling import resample
from keras_audio_ssl.data.audio.resampling import resampled_length
from keras_audio_ssl.data.audio.source import AudioError
from keras_audio_ssl.data.audio.source import AudioSource

__all__ = [
    "AudioArray",
    "AudioError",
    "AudioFile",
    "AudioSource",
    "read_all",
    "read_part",
    "resample",
    "resampled_length",
]
