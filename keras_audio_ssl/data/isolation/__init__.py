"""Files that are decoded in this process or, where asked for, in a child."""

from keras_audio_ssl.data.isolation.opening import isolated
from keras_audio_ssl.data.isolation.opening import open_audio
from keras_audio_ssl.data.isolation.parent import IsolatedFile

__all__ = ["IsolatedFile", "isolated", "open_audio"]
