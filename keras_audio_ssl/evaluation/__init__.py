"""What embeddings are worth: probes, baselines, fine-tuning."""

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
