"""Arrays in, figures and pages out."""

from keras_audio_ssl.viz.attention_files import write_attention
from keras_audio_ssl.viz.attention_page import attention_page
from keras_audio_ssl.viz.figures import attention_grid
from keras_audio_ssl.viz.figures import attention_map
from keras_audio_ssl.viz.figures import embedding_map
from keras_audio_ssl.viz.figures import log_mels
from keras_audio_ssl.viz.figures import metric_bars
from keras_audio_ssl.viz.figures import pruning_curves
from keras_audio_ssl.viz.figures import relation_map
from keras_audio_ssl.viz.permutation import permutation
from keras_audio_ssl.viz.reconstruction import reconstruction
