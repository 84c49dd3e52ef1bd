"""Random changes of waveforms and features; each draws, then applies."""

from keras_audio_ssl.augment.alteration import BandMasks
from keras_audio_ssl.augment.alteration import ChannelAlteration
from keras_audio_ssl.augment.alteration import ChunkAlteration
from keras_audio_ssl.augment.alteration import NoiseAlteration
from keras_audio_ssl.augment.alteration import TimeAlteration
from keras_audio_ssl.augment.alteration import VectorAlteration
from keras_audio_ssl.augment.crop import RandomCrop
from keras_audio_ssl.augment.crop import crop
from keras_audio_ssl.augment.fader import RandomLinearFader
from keras_audio_ssl.augment.fader import linear_fade
from keras_audio_ssl.augment.mixup import MixupMemory
from keras_audio_ssl.augment.mixup import log_mixup
from keras_audio_ssl.augment.resize_crop import RandomResizeCrop
from keras_audio_ssl.augment.resize_crop import crop_and_resize
from keras_audio_ssl.augment.resize_crop import resize_matrix
from keras_audio_ssl.augment.standardize import RunningNorm
from keras_audio_ssl.augment.standardize import standardize_batch
