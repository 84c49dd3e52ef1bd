"""Reading audio: files, folders, manifests, arrays; batches for `fit`."""

from keras_audio_ssl.data.alignments import from_alignments
from keras_audio_ssl.data.alignments import spoken_words
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import resample
from keras_audio_ssl.data.builders import from_arrays
from keras_audio_ssl.data.builders import from_folder
from keras_audio_ssl.data.builders import from_huggingface
from keras_audio_ssl.data.builders import from_manifest
from keras_audio_ssl.data.clips.manifest import read_manifest
from keras_audio_ssl.data.dataset import AudioDataset
from keras_audio_ssl.data.dataset import TooFewClips
from keras_audio_ssl.data.isolation import isolated
from keras_audio_ssl.data.lengths import bucket
from keras_audio_ssl.data.reading import read_audio
from keras_audio_ssl.data.reading import read_audio_native
from keras_audio_ssl.data.synthetic import SyntheticCorpus
from keras_audio_ssl.data.synthetic import synthetic

__all__ = [
    "AudioDataset",
    "AudioError",
    "SyntheticCorpus",
    "TooFewClips",
    "bucket",
    "from_alignments",
    "from_arrays",
    "from_folder",
    "from_huggingface",
    "from_manifest",
    "isolated",
    "read_audio",
    "read_audio_native",
    "read_manifest",
    "resample",
    "spoken_words",
    "synthetic",
]
