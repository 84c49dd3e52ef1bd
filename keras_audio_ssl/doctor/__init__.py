"""What is in a folder or a manifest of audio, before training on it."""

from keras_audio_ssl.doctor.facts import Facts
from keras_audio_ssl.doctor.facts import examine
from keras_audio_ssl.doctor.files import list_audio
from keras_audio_ssl.doctor.files import survey
from keras_audio_ssl.doctor.findings import Diagnosis
from keras_audio_ssl.doctor.findings import Settings
from keras_audio_ssl.doctor.summary import summarize
