"""Losses: pure functions on tensors, in float32."""

from keras_audio_ssl.losses.contrastive import contrastive_accuracy
from keras_audio_ssl.losses.contrastive import cosine_similarity
from keras_audio_ssl.losses.contrastive import nt_xent
from keras_audio_ssl.losses.contrastive import row_cross_entropy
from keras_audio_ssl.losses.contrastive import unit
from keras_audio_ssl.losses.distance import masked_l1
from keras_audio_ssl.losses.distance import masked_mean
from keras_audio_ssl.losses.distance import masked_mse
from keras_audio_ssl.losses.distance import unit_distance
from keras_audio_ssl.losses.information import block_toeplitz
from keras_audio_ssl.losses.information import log_determinant
from keras_audio_ssl.losses.information import orthogonality
from keras_audio_ssl.losses.information import predictive_information
from keras_audio_ssl.losses.information import window_covariance
from keras_audio_ssl.losses.monitors import embedding_std
from keras_audio_ssl.losses.mutual_information import bce_information
from keras_audio_ssl.losses.mutual_information import labelled_cross_entropy
from keras_audio_ssl.losses.mutual_information import mine_information
from keras_audio_ssl.losses.mutual_information import nce_information
