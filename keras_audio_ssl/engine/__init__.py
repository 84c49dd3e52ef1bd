"""Keras plumbing that no author of a method opens."""

from keras_audio_ssl.engine.batches import ADAPT_CLIPS
from keras_audio_ssl.engine.batches import as_float32
from keras_audio_ssl.engine.batches import checked
from keras_audio_ssl.engine.batches import first_batches
from keras_audio_ssl.engine.batches import frame_mask
from keras_audio_ssl.engine.batches import in_tuples
from keras_audio_ssl.engine.batches import is_arrays
from keras_audio_ssl.engine.batches import rate_of
from keras_audio_ssl.engine.batches import steps_of
from keras_audio_ssl.engine.batches import waveform_and_lengths
from keras_audio_ssl.engine.batches import whole
from keras_audio_ssl.engine.checks import check_choice
from keras_audio_ssl.engine.finite import KeepFinite
from keras_audio_ssl.engine.finite import SkippedBatches
from keras_audio_ssl.engine.finite import unwrapped
from keras_audio_ssl.engine.model import Model
from keras_audio_ssl.engine.planned import Planned
from keras_audio_ssl.engine.recording import KERAS_ARGUMENTS
from keras_audio_ssl.engine.recording import Layer
from keras_audio_ssl.engine.recording import Recorded
from keras_audio_ssl.engine.recording import RecordedLayer
from keras_audio_ssl.engine.recording import Registered
from keras_audio_ssl.engine.schedules import WarmUpDecay
from keras_audio_ssl.engine.schedules import WarmUpRoot
from keras_audio_ssl.engine.step import FiniteStep
from keras_audio_ssl.engine.trained import Trained
