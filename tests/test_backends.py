"""A file written under one backend gives the same numbers under the others."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import keras
import numpy as np
import pytest

BACKENDS = [
    b
    for b in ("tensorflow", "jax", "torch")
    if importlib.util.find_spec(b) is not None
]

WORK = """
import json, sys
import numpy as np
import keras
import keras_audio_ssl as kas
from keras_audio_ssl.encoders import EfficientNetB0, Encoder
from keras_audio_ssl.features import recipe

folder, backend, others = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
assert keras.backend.backend() == backend
rng = np.random.default_rng(0)
clips = [(0.1 * rng.standard_normal(n)).astype("float32")
         for n in (16000, 9000, 24000)]
if others == [""]:
    keras.utils.set_random_seed(0)
    byol = kas.BYOLA(preset="tiny").encoder
    byol.frontend.adapt([np.stack([c[:9000] for c in clips])])
    npc = kas.NPC(preset="tiny", encoder={"output": "masked"})
    npc.compile()
    # So that statistics and weights are not the first ones.
    npc.fit(np.stack([c[:9000] for c in clips]), verbose=0)
    encoders = {
        "cola": kas.COLA(preset="tiny").encoder,
        "byol_a": byol,
        "byol_a_v2": kas.BYOLA(
        "v2", {"dim": 192}, preset="tiny").encoder,
        "apc": kas.APC(preset="tiny").encoder,
        "npc": npc.encoder,
        "lim": kas.LIM(preset="tiny").encoder,
        "multi_format": kas.MultiFormat(preset="tiny").encoder,
        "readout": kas.Readout(byol),
        "efficientnet": Encoder(recipe("cola"), EfficientNetB0()),
    }
    for name, encoder in encoders.items():
        encoder.save(f"{folder}/{backend}_{name}.keras")
    models = {"": encoders}
    model = kas.BYOLA(preset="tiny")
    model.compile()
    model.fit(np.stack([c[:9000] for c in clips]), verbose=0)
    model.save(f"{folder}/{backend}_model.keras")
else:
    names = ["cola", "byol_a", "byol_a_v2", "apc", "npc", "lim",
             "multi_format", "readout", "efficientnet"]
    models = {
        o: {n: kas.load_encoder(f"{folder}/{o}_{n}.keras") for n in names}
        for o in others
    }
    for o in others:
        model = keras.saving.load_model(f"{folder}/{o}_model.keras")
        assert int(model.updates) == 1
        model.fit(np.stack([c[:9000] for c in clips]), verbose=0)
        assert int(model.updates) == 2
out = {}
for origin, encoders in models.items():
    for name, encoder in encoders.items():
        out[f"{origin or backend}/{name}"] = encoder.embed(clips)
np.savez(f"{folder}/{backend}_{'reads' if others != [''] else 'wrote'}.npz",
         **out)
"""


def run(folder, backend, others=()):
    result = subprocess.run(
        [sys.executable, "-c", WORK, str(folder), backend, ",".join(others)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_files_open_on_every_backend(tmp_path):
    if len(BACKENDS) < 2:
        pytest.skip(f"one backend is installed: {json.dumps(BACKENDS)}")
    if keras.backend.backend() != BACKENDS[0]:
        pytest.skip(f"runs once, with the suite on {BACKENDS[0]}")
    # One of the longest tests, and among the last that are begun.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(run, tmp_path), BACKENDS))
        others = [[b for b in BACKENDS if b != own] for own in BACKENDS]
        list(pool.map(partial(run, tmp_path), BACKENDS, others))
    compared = 0
    for reader, writer in itertools.permutations(BACKENDS, 2):
        wrote = np.load(tmp_path / f"{writer}_wrote.npz")
        reads = np.load(tmp_path / f"{reader}_reads.npz")
        for key in wrote.files:
            scale = max(1.0, np.abs(wrote[key]).max())
            off = np.abs(wrote[key] - reads[key]).max() / scale
            assert off < 1e-4, (reader, key, off)
            compared += 1
    assert compared == 9 * len(BACKENDS) * (len(BACKENDS) - 1)
