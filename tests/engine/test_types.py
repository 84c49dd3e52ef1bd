import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from tests.contract import BACKEND
from tests.methods.denoising import Denoising


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64"])
def test_weights_in_other_types_are_refused_in_words(policy):
    with pytest.raises(ValueError, match=f"'{policy}'.*'mixed_bfloat16'"):
        Denoising(dtype=policy)


def test_another_default_type_is_refused_in_words():
    keras.config.set_floatx("float64")
    try:
        with pytest.raises(ValueError, match="set_floatx"):
            Denoising(dtype="float32")
    finally:
        keras.config.set_floatx("float32")


def test_metrics_of_labels_are_refused_in_words():
    for name in ("metrics", "loss"):
        with pytest.raises(ValueError, match=f"takes no `{name}`"):
            Denoising().compile(**{name: ["accuracy"]})


@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone has such a switch")
def test_jax_in_64_bit_trains():
    code = (
        "import numpy as np, keras, keras_audio_ssl as kas\n"
        "from tests.contract import batch, step\n"
        "for cls in (kas.COLA, kas.BYOLA, kas.APC):\n"
        "    model = cls(preset='tiny')\n"
        "    model.compile()\n"
        "    model.fit(batch(4), verbose=0)\n"
        "    assert np.isfinite(step(model, batch(4))['loss'])\n"
        "    assert model.encoder.embed(batch(2)['waveform']).shape[0] == 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JAX_ENABLE_X64": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_embed_of_a_data_set_leaves_no_clip_out():
    clips = [np.zeros(16000, "float32") + 0.01 * i for i in range(13)]
    data = kas.data.from_arrays(clips, seconds=0.5, batch_size=8)
    encoder = Denoising().encoder
    assert encoder.predict(data, verbose=0)["clip"].shape[0] == 13
