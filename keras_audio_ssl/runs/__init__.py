"""Runs: from audio to an encoder's file, and what is left beside it."""

from typing import TYPE_CHECKING

from keras_audio_ssl._lazy import lazily

if TYPE_CHECKING:
    from keras_audio_ssl.runs.pretraining import pretrain as pretrain
    from keras_audio_ssl.runs.report import Run as Run
    from keras_audio_ssl.runs.stopping import Failure as Failure
    from keras_audio_ssl.runs.stopping import Interrupted as Interrupted
else:
    # Out of a type checker's sight, for which every name would be right.
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "Failure": "stopping",
            "Interrupted": "stopping",
            "Run": "report",
            "pretrain": "pretraining",
        },
    )
