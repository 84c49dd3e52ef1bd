"""TERA against the network of s3prl; see `transformer.py`."""

from tests.parity.transformer import TransformerParity

GOLDEN = "tera"


class TestTERA(TransformerParity):
    METHOD = GOLDEN
