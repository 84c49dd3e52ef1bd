"""Layers that encoders and heads are built of."""

from keras_audio_ssl.blocks.bilinear import BilinearSimilarity
from keras_audio_ssl.blocks.bilinear import COLAHead
from keras_audio_ssl.blocks.conv import BatchNorm
from keras_audio_ssl.blocks.conv import ConvBlock
from keras_audio_ssl.blocks.conv import ConvNorm
from keras_audio_ssl.blocks.conv import mask_frames
from keras_audio_ssl.blocks.gru import GRU
from keras_audio_ssl.blocks.mlp import MLPHead
from keras_audio_ssl.blocks.pool import FramePool
from keras_audio_ssl.blocks.pool import pool_frames
from keras_audio_ssl.blocks.quantizer import GumbelQuantizer
from keras_audio_ssl.blocks.quantizer import codebook_perplexity
from keras_audio_ssl.blocks.seeds import fresh_seed
from keras_audio_ssl.blocks.target import ProjectedBackbone
from keras_audio_ssl.blocks.target import TargetNetwork
from keras_audio_ssl.blocks.transformer import PredictionHead
from keras_audio_ssl.blocks.transformer import SelfAttention
from keras_audio_ssl.blocks.transformer import TransformerBlock
from keras_audio_ssl.blocks.transformer import drop_out
from keras_audio_ssl.blocks.transformer import layer_norm
from keras_audio_ssl.blocks.transformer import normal_dense
from keras_audio_ssl.blocks.transformer import sinusoids
from keras_audio_ssl.blocks.transformer import softmax
from keras_audio_ssl.blocks.transformer import stack_frames
from keras_audio_ssl.blocks.transformer import unstack_frames
from keras_audio_ssl.engine import frame_mask
