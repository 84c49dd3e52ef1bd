"""A procedural corpus of labelled sounds and speech: no file, no download."""

from keras_audio_ssl.data.synthetic.corpus import SyntheticCorpus
from keras_audio_ssl.data.synthetic.corpus import synthetic

__all__ = ["SyntheticCorpus", "synthetic"]
