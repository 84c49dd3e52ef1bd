"""Saved encoders, and published checkpoints of other libraries."""

from typing import TYPE_CHECKING

from keras_audio_ssl._lazy import lazily

if TYPE_CHECKING:
    from keras_audio_ssl.hub.encoder_files import encoder_names as encoder_names
    from keras_audio_ssl.hub.encoder_files import from_preset as from_preset
    from keras_audio_ssl.hub.encoder_files import load_encoder as load_encoder
    from keras_audio_ssl.hub.encoder_files import load_model as load_model
    from keras_audio_ssl.hub.encoder_files import read_card as read_card
    from keras_audio_ssl.hub.encoder_files import save_encoder as save_encoder
    from keras_audio_ssl.hub.foreign.formats import FORMATS as FORMATS
    from keras_audio_ssl.hub.foreign.importing import (
        LicenceError as LicenceError,
    )
    from keras_audio_ssl.hub.foreign.importing import (
        import_checkpoint as import_checkpoint,
    )
    from keras_audio_ssl.hub.foreign.report import ImportReport as ImportReport
    from keras_audio_ssl.hub.untrusted.checkpoint import (
        read_checkpoint as read_checkpoint,
    )
    from keras_audio_ssl.hub.untrusted.errors import (
        CheckpointError as CheckpointError,
    )
else:
    # Out of a type checker's sight, for which every name would be right.
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "CheckpointError": "untrusted.errors",
            "FORMATS": "foreign.formats",
            "ImportReport": "foreign.report",
            "LicenceError": "foreign.importing",
            "encoder_names": "encoder_files",
            "from_preset": "encoder_files",
            "import_checkpoint": "foreign.importing",
            "load_encoder": "encoder_files",
            "load_model": "encoder_files",
            "read_card": "encoder_files",
            "read_checkpoint": "untrusted.checkpoint",
            "save_encoder": "encoder_files",
        },
    )
