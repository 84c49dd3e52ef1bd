"""Encoders as files of other formats: ONNX, SavedModel and LiteRT."""

from keras_audio_ssl.export.formats import FORMATS as FORMATS
from keras_audio_ssl.export.formats import ExportError as ExportError
from keras_audio_ssl.export.formats import format_of as format_of
from keras_audio_ssl.export.write import export_model as export_model
