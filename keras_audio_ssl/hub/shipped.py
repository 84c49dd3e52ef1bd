"""SHA-256 of the package's encoders, and their bytes.

`weights/train.py` writes this file.
"""

SHIPPED = {
    # apc.keras
    "40719b3821c14f85a06a9a4736993a7f1df43784288c1e138fe7d142b0df9af3": 4227959,
    # audio2vec_cbow.keras
    "0c29267343c3affcbb89409870d2d2f26cd697ca30225445b3f0768c905adccc": 244983,
    # audio2vec_skipgram.keras
    "3ee50a377cbe5a52175ebb24a3bfd19384762d044abc05d585e4025d98478db1": 244983,
    # audio_albert.keras
    "1b4863ffa87dbb1a95ddd38b9cc4b519f1d183f4a75dc90365a78c671dbcb04d": 1898406,
    # byol_a.keras
    "9a620cedaf22d0c27c4f5a66648a86634960d19a6538ad3375b5b1057253e764": 2448291,
    # clar.keras
    "22f30613f928c1056f74ca58ecc09e239d8db88a8bcda2330cab9b7b5f2285aa": 349173,
    # cola.keras
    "f35b9bb15a83648f22fe7172a4a27444cdc4f2f3b886dd08345e11b70000013b": 2447202,
    # dapc.keras
    "0a00b62a099fe84ee4590650f94dc6f9923814af46a20280322661897bf1c615": 1933942,
    # fonseca.keras
    "245777b2ecf75d81a19e41f9bfdbf61bb5aecc74b3674166f4bdb616d35f575f": 481341,
    # lim.keras
    "387f538824e8f30d87ae3c4aab3eb6855a6f83b58939f0a32d17c3966fcff84e": 645424,
    # mam.keras
    "17bc46cda18ba09bc9d0bbd8734bd8676ef6c34b1f84afbcede9470f0eb5c966": 4346608,
    # mockingjay.keras
    "0daf96dc24e3d327d1b953adf68d9b4bccca8b536f8770e6b8ebc75f5ae2ba10": 2819973,
    # mpc.keras
    "e77ddc6cb067aae79fd904dbf1bbaf0379617968b91b9bc6b78442fe76e7664f": 2944142,
    # multi_format.keras
    "8a2c4140b0b811f939ed847605c7990c523c17537941fda59540221c1838f6b3": 582979,
    # npc.keras
    "f9a283960f7cd230bd31c450aa529e3fb5105a6de9b29402f32f6b7159cf2e3b": 4161043,
    # permutations.keras
    "23999043af629df5bd7befca098301b20dd7c6f073b39ea7a98f7598d2209b04": 581320,
    # small.keras
    "b36dbc4a4b2c64bc33e6ecc0cb73b42bd1884f84319d1897acf78957510d1844": 2448894,
    # speech2vec_cbow.keras
    "cdca90dd64b55c9de98798ca0e2e4a4664fc1f97892390d01a0b62cb209655f4": 125560,
    # speech2vec_skipgram.keras
    "00c6d12d95b43c17cd20ddf92ae6387f52e4bd7a56e323cd09d83548e541051e": 125560,
    # synthetic.keras
    "26d6af1c8866c61641ff770edf8c0ebb35d588150f195031cc838c13a3e92491": 2448889,
    # temporal_gap.keras
    "6b3e6f7683f29a68d39f387beec2c3c38e29810322b83a9cc1c06051844ca850": 628820,
    # tera.keras
    "f2827bdc2fb042f709ed1b4428d60c15a189b6013680fd273d1422625a5bd415": 2819973,
}
