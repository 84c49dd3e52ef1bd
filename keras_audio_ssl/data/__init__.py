"""Reading audio: files, folders, manifests, arrays; batches for `fit`."""

from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import read_audio
from keras_audio_ssl.data.audio import read_audio_native
from keras_audio_ssl.data.audio import resample
