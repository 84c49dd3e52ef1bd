import sys

from keras_audio_ssl.cli import start

sys.exit(start())
