"""Audio ALBERT against the network of s3prl; see `transformer.py`."""

from tests.parity.transformer import TransformerParity

GOLDEN = "audio_albert"


class TestAudioALBERT(TransformerParity):
    METHOD = GOLDEN
