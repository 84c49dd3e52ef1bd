import sys

from keras_audio_ssl.cli import main
from keras_audio_ssl.cli.memory import tune_memory


def start():
    """What `keras-audio-ssl` runs."""
    tune_memory()
    return main()


if __name__ == "__main__":
    sys.exit(start())
