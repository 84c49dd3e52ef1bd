"""Layers that normalise first against s3prl's; see `transformer.py`."""

from tests.parity.transformer import TransformerParity

GOLDEN = "transformer_preln"


class TestPreNorm(TransformerParity):
    METHOD = "mockingjay"
