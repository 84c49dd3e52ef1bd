"""`python -m keras_audio_ssl`, the command line."""

from keras_audio_ssl.cli import start

start()
