"""Saved encoders, and published checkpoints of other libraries."""

from typing import TYPE_CHECKING

from keras_audio_ssl._lazy import lazily

if TYPE_CHECKING:
    from keras_audio_ssl.hub.checkpoint import (
        read_checkpoint as read_checkpoint,
    )
    from keras_audio_ssl.hub.importers import FORMATS as FORMATS
    from keras_audio_ssl.hub.importers import LicenceError as LicenceError
    from keras_audio_ssl.hub.importers import (
        import_checkpoint as import_checkpoint,
    )
    from keras_audio_ssl.hub.load import encoder_names as encoder_names
    from keras_audio_ssl.hub.load import from_preset as from_preset
    from keras_audio_ssl.hub.load import load_encoder as load_encoder
    from keras_audio_ssl.hub.load import load_model as load_model
    from keras_audio_ssl.hub.load import read_card as read_card
    from keras_audio_ssl.hub.load import save_encoder as save_encoder
    from keras_audio_ssl.hub.report import ImportReport as ImportReport
    from keras_audio_ssl.hub.unpickle import CheckpointError as CheckpointError
else:
    # Out of a type checker's sight, for which every name would be right.
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "CheckpointError": "unpickle",
            "FORMATS": "importers",
            "ImportReport": "report",
            "LicenceError": "importers",
            "encoder_names": "load",
            "from_preset": "load",
            "import_checkpoint": "importers",
            "load_encoder": "load",
            "load_model": "load",
            "read_card": "load",
            "read_checkpoint": "checkpoint",
            "save_encoder": "load",
        },
    )
