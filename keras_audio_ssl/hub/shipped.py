"""SHA-256 of the package's encoders, and their bytes.

`weights/train.py` writes this file.
"""

SHIPPED = {
    # apc.keras
    "40719b3821c14f85a06a9a4736993a7f1df43784288c1e138fe7d142b0df9af3": 4227959,
    # byol_a.keras
    "9a620cedaf22d0c27c4f5a66648a86634960d19a6538ad3375b5b1057253e764": 2448291,
    # cola.keras
    "f35b9bb15a83648f22fe7172a4a27444cdc4f2f3b886dd08345e11b70000013b": 2447202,
    # mockingjay.keras
    "575e0a7915274708812ea3b193cadd5a291b639a3b1b570d1c095581be562230": 2819969,
    # temporal_gap.keras
    "6b3e6f7683f29a68d39f387beec2c3c38e29810322b83a9cc1c06051844ca850": 628820,
    # tera.keras
    "17d381f790ac25f8183730b221d9226b733a65369ec81660a244012601be37f7": 2819969,
}
