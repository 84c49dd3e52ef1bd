"""Arrays in, figures out."""

from keras_audio_ssl.viz.figures import embedding_map
from keras_audio_ssl.viz.figures import log_mels
from keras_audio_ssl.viz.reconstruction import reconstruction
