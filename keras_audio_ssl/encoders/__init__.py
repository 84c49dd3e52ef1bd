"""Encoders: waveform to representation; backbones: features to the same."""

from keras_audio_ssl.encoders.audio_ntt import AudioNTT
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.encoders.conv_transformer import MAMTransformer
from keras_audio_ssl.encoders.conv_transformer import MPCTransformer
from keras_audio_ssl.encoders.conv_waveform import WaveformConv
from keras_audio_ssl.encoders.efficientnet import EfficientNetB0
from keras_audio_ssl.encoders.encoder import Encoder
from keras_audio_ssl.encoders.joined import join_encoders
from keras_audio_ssl.encoders.keras_backbone import KerasBackbone
from keras_audio_ssl.encoders.latent import LatentStack
from keras_audio_ssl.encoders.make import BACKBONES
from keras_audio_ssl.encoders.make import encoder_settings
from keras_audio_ssl.encoders.make import make_encoder
from keras_audio_ssl.encoders.masked_conv import MaskedConvStack
from keras_audio_ssl.encoders.panns import CNN6
from keras_audio_ssl.encoders.panns import CNN14
from keras_audio_ssl.encoders.panns import Res1dNet31
from keras_audio_ssl.encoders.readout import Readout
from keras_audio_ssl.encoders.readout import WeightedSum
from keras_audio_ssl.encoders.recurrent import RecurrentStack
from keras_audio_ssl.encoders.sincnet import SincNet
from keras_audio_ssl.encoders.transformer import Transformer
from keras_audio_ssl.encoders.windowed import Windowed
