"""What the clips are: files, parts of files, arrays, rows of data sets."""

from keras_audio_ssl.data.clips.arrays import ArrayClips
from keras_audio_ssl.data.clips.arrays import RowClips
from keras_audio_ssl.data.clips.base import Clips
from keras_audio_ssl.data.clips.base import Skipped
from keras_audio_ssl.data.clips.files import FileClips

__all__ = ["ArrayClips", "Clips", "FileClips", "RowClips", "Skipped"]
