"""The methods. One is a file, its test, an entry of this table and a name."""

import importlib
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from keras_audio_ssl.methods.apc import APC as APC
    from keras_audio_ssl.methods.audio2vec import Audio2Vec as Audio2Vec
    from keras_audio_ssl.methods.audio_albert import AudioALBERT as AudioALBERT
    from keras_audio_ssl.methods.byol_a import BYOLA as BYOLA
    from keras_audio_ssl.methods.clar import CLAR as CLAR
    from keras_audio_ssl.methods.cola import COLA as COLA
    from keras_audio_ssl.methods.dapc import DAPC as DAPC
    from keras_audio_ssl.methods.fonseca import Fonseca as Fonseca
    from keras_audio_ssl.methods.joint import Joint as Joint
    from keras_audio_ssl.methods.lim import LIM as LIM
    from keras_audio_ssl.methods.mam import MAM as MAM
    from keras_audio_ssl.methods.mockingjay import Mockingjay as Mockingjay
    from keras_audio_ssl.methods.mpc import MPC as MPC
    from keras_audio_ssl.methods.multi_format import MultiFormat as MultiFormat
    from keras_audio_ssl.methods.npc import NPC as NPC
    from keras_audio_ssl.methods.permutations import (
        Permutations as Permutations,
    )
    from keras_audio_ssl.methods.pretext import PretextModel as PretextModel
    from keras_audio_ssl.methods.speech2vec import Speech2Vec as Speech2Vec
    from keras_audio_ssl.methods.temporal_gap import TemporalGap as TemporalGap
    from keras_audio_ssl.methods.tera import TERA as TERA

# Registry name: file (or a module's full name), class, and arguments that
# make it this method.
METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "apc": ("apc", "APC", {}),
    "audio2vec_cbow": ("audio2vec", "Audio2Vec", {"task": "cbow"}),
    "audio2vec_skipgram": ("audio2vec", "Audio2Vec", {"task": "skipgram"}),
    "audio_albert": ("audio_albert", "AudioALBERT", {}),
    "byol_a": ("byol_a", "BYOLA", {}),
    "clar": ("clar", "CLAR", {}),
    "cola": ("cola", "COLA", {}),
    "dapc": ("dapc", "DAPC", {}),
    "fonseca": ("fonseca", "Fonseca", {}),
    "joint": ("joint", "Joint", {}),
    "lim": ("lim", "LIM", {}),
    "mam": ("mam", "MAM", {}),
    "mockingjay": ("mockingjay", "Mockingjay", {}),
    "mpc": ("mpc", "MPC", {}),
    "multi_format": ("multi_format", "MultiFormat", {}),
    "npc": ("npc", "NPC", {}),
    "permutations": ("permutations", "Permutations", {}),
    "speech2vec_cbow": ("speech2vec", "Speech2Vec", {"task": "cbow"}),
    "speech2vec_skipgram": (
        "speech2vec",
        "Speech2Vec",
        {"task": "skipgram"},
    ),
    "temporal_gap": ("temporal_gap", "TemporalGap", {}),
    "tera": ("tera", "TERA", {}),
}

__all__ = [
    "APC",
    "BYOLA",
    "CLAR",
    "COLA",
    "DAPC",
    "LIM",
    "MAM",
    "METHODS",
    "MPC",
    "NPC",
    "TERA",
    "Audio2Vec",
    "AudioALBERT",
    "Fonseca",
    "Joint",
    "Mockingjay",
    "MultiFormat",
    "Permutations",
    "PretextModel",
    "Speech2Vec",
    "TemporalGap",
]


def method_class(name: str) -> "type[PretextModel]":
    """The class of a registry name.

    Raises:
        ValueError: No method has this name.
    """
    if name not in METHODS:
        raise ValueError(
            f"Unknown method {name!r}. Known: {', '.join(sorted(METHODS))}"
        )
    file, cls, _ = METHODS[name]
    module = file if "." in file else f"{__name__}.{file}"
    return getattr(importlib.import_module(module), cls)


def make_method(name: str, **kwargs: Any) -> "PretextModel":
    """Makes a method by its registry name.

    Args:
        name: A key of `METHODS`.
        **kwargs: Arguments of its class, e.g. `preset="tiny"`.

    Example:
        >>> model = kas.methods.make_method("cola", preset="tiny")
    """
    return method_class(name)(**{**METHODS[name][2], **kwargs})


def settings_of(cls: Any) -> dict[str, Any]:
    """What a method's class takes, its own and then every method's, by name.

    A method made of another one (`**kwargs`) takes that one's too.
    """
    from keras_audio_ssl.engine import constructors

    own: dict[str, Any] = {}
    for _, parameters in constructors(cls):
        if "paper" in parameters:
            # What methods are made of gets its arguments from them.
            break
        for name, parameter in parameters.items():
            own.setdefault(name, parameter.default)
    for name in ("preset", "seed"):
        own.pop(name, None)
    for name in ("sample_rate", "augmentation", "dtype"):
        own[name] = own.pop(name, None)
    return own


if not TYPE_CHECKING:
    # Out of a type checker's sight, for which every name would be right.

    def __getattr__(name):
        if name == "PretextModel":
            module = importlib.import_module(f"{__name__}.pretext")
            return module.PretextModel
        for key, (_, cls, _) in METHODS.items():
            if cls == name:
                return method_class(key)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
