"""Keras callbacks for pretraining runs."""

from keras_audio_ssl.callbacks.checkpoint import Checkpoint
from keras_audio_ssl.callbacks.checkpoint import ResumableCheckpoint
from keras_audio_ssl.callbacks.cost import StepCost
from keras_audio_ssl.callbacks.cost import cost_in_words
from keras_audio_ssl.callbacks.cost import peak_memory
from keras_audio_ssl.callbacks.history import HistoryCSV
from keras_audio_ssl.callbacks.history import TensorBoard
from keras_audio_ssl.callbacks.monitor import EmbeddingMonitor
from keras_audio_ssl.callbacks.pictures import ReconstructionPictures
from keras_audio_ssl.callbacks.resume import checkpoints
from keras_audio_ssl.callbacks.resume import differences
from keras_audio_ssl.callbacks.resume import last_checkpoint
from keras_audio_ssl.callbacks.steps import StepCallback
from keras_audio_ssl.engine import SkippedBatches
