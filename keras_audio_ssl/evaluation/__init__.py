"""What embeddings are worth: probes, baselines, fine-tuning."""

from keras_audio_ssl.evaluation.attention import AttentionStudy
from keras_audio_ssl.evaluation.attention import ClipAttention
from keras_audio_ssl.evaluation.attention import attention_maps
from keras_audio_ssl.evaluation.attention import attention_study
from keras_audio_ssl.evaluation.attention import clip_attention
from keras_audio_ssl.evaluation.attention import head_categories
from keras_audio_ssl.evaluation.attention import head_metrics
from keras_audio_ssl.evaluation.attention import head_ranks
from keras_audio_ssl.evaluation.attention import head_reach
from keras_audio_ssl.evaluation.attention import phoneme_background
from keras_audio_ssl.evaluation.attention import phoneme_relation
from keras_audio_ssl.evaluation.attention import prune_heads
from keras_audio_ssl.evaluation.attention import within_span
from keras_audio_ssl.evaluation.baseline import LogMelStatistics
from keras_audio_ssl.evaluation.baseline import untrained
from keras_audio_ssl.evaluation.classifier import Classifier
from keras_audio_ssl.evaluation.embeddings import Embeddings
from keras_audio_ssl.evaluation.probes import probe
from keras_audio_ssl.evaluation.scoring import Fold
from keras_audio_ssl.evaluation.scoring import ProbeResult
from keras_audio_ssl.evaluation.scoring import score
from keras_audio_ssl.evaluation.tasks import TASKS
from keras_audio_ssl.evaluation.tasks import Task
from keras_audio_ssl.evaluation.tasks import run_task
from keras_audio_ssl.evaluation.tasks import run_tasks
