"""The published formats that can be imported: a table."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from typing import NamedTuple

NTT = (
    "NTT's licence for evaluation only: internal use to test the paper's "
    "method; no distribution, no modification or translation, no disclosure "
    "to third parties"
)
THEIRS = "that of whoever published the file"


class Format(NamedTuple):
    """A line of the table: the file and function of a format's importer."""

    file: str
    function: str
    title: str
    licence: str = THEIRS
    # Whether the user must say to have read the licence.
    restricted: bool = False
    # What makes the function's importer this format's; settings override.
    settings: Mapping[str, Any] = MappingProxyType({})


FORMATS: dict[str, Format] = {
    "apc_official": Format(
        "apc", "apc_official", "APC and VQ-APC, the authors' repositories"
    ),
    "apc_s3prl": Format(
        "apc", "apc_s3prl", "APC and VQ-APC, s3prl and the NPC repository"
    ),
    "audio_albert_s3prl": Format(
        "transformer",
        "transformer_s3prl",
        "Audio ALBERT, s3prl",
        settings={"method": "audio_albert"},
    ),
    "audio_ntt2020": Format(
        "audio_ntt", "audio_ntt", "BYOL-A v1, NTT's files", NTT, True
    ),
    "audio_ntt2022": Format(
        "audio_ntt",
        "audio_ntt",
        "BYOL-A v2, NTT's files",
        NTT,
        True,
        {"version": "v2"},
    ),
    "byol_s": Format(
        "audio_ntt",
        "audio_ntt",
        "BYOL-S, files of serab-byols",
        "MIT",
        settings={"mel_scale": "htk", "win_length": 400},
    ),
    "clar_official": Format(
        "contrastive", "clar", "CLAR, the authors' repository", "MIT"
    ),
    "dapc_official": Format(
        "dapc", "dapc_official", "DAPC, the authors' repository"
    ),
    "fonseca_official": Format(
        "contrastive",
        "fonseca",
        "Fonseca et al. (uclser20), the authors' repository",
        "MIT",
    ),
    "mockingjay_s3prl": Format(
        "transformer",
        "transformer_s3prl",
        "Mockingjay, s3prl and the first release",
        settings={"method": "mockingjay"},
    ),
    "npc_official": Format("npc", "npc", "NPC, the authors' repository"),
    "npc_s3prl": Format("npc", "npc", "NPC, s3prl"),
    "panns_cnn14": Format(
        "panns", "panns_cnn", "CNN14 of PANNs, the authors' files"
    ),
    "panns_cnn6": Format(
        "panns",
        "panns_cnn",
        "CNN6 of PANNs, the authors' files",
        settings={"network": "cnn6"},
    ),
    "panns_res1dnet31": Format(
        "panns", "panns_res1dnet31", "Res1dNet31 of PANNs, the authors' files"
    ),
    "sincnet": Format(
        "sincnet", "sincnet", "SincNet, the authors' repository", "MIT"
    ),
    "tera_s3prl": Format(
        "transformer",
        "transformer_s3prl",
        "TERA, s3prl",
        settings={"method": "tera"},
    ),
}
