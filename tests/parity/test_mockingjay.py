"""Mockingjay, mel to linear, against s3prl's; see `transformer.py`."""

from tests.parity.transformer import TransformerParity

GOLDEN = "mockingjay"


class TestMockingjay(TransformerParity):
    METHOD = GOLDEN
