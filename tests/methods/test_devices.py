"""What negatives a step sees where its batch lies on several devices."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.contract import BACKEND

STEP = """
import keras
import numpy as np
import keras_audio_ssl as kas
from tests.contract import waves

if DEVICES > 1:
    assert len(keras.distribution.list_devices()) == DEVICES
    keras.distribution.set_distribution(keras.distribution.DataParallel())
keras.utils.set_random_seed(0)
layers = keras.Sequential([keras.Input((None, 48)), keras.layers.Dense(6)])
model = kas.CLAR(layers, augmentations=(), seconds=0.4, head=(8, 4))
model.compile(keras.optimizers.SGD(0.1))
# Two steps: the second's loss tells the first one's gradient.
losses = [
    model.fit(waves(8), batch_size=8, shuffle=False, verbose=0).history["loss"]
    for _ in range(2)
]
print("losses", *np.ravel(losses))
"""


@pytest.mark.skipif(BACKEND != "jax", reason="Keras: JAX's DataParallel")
def test_a_step_sees_the_negatives_of_all_devices():
    found = {}
    for devices in (1, 4):
        flags = f"--xla_force_host_platform_device_count={devices}"
        done = subprocess.run(
            [sys.executable, "-c", f"DEVICES = {devices}\n{STEP}"],
            env={**os.environ, "XLA_FLAGS": flags},
            capture_output=True,
            text=True,
        )
        lines = [x for x in done.stdout.splitlines() if x[:6] == "losses"]
        assert lines, done.stderr
        found[devices] = [float(x) for x in lines[0].split()[1:]]
    np.testing.assert_allclose(found[4], found[1], rtol=1e-4)
    # Eight clips, of which a device holds two: with its own alone, no loss
    # were above ln 3.
    assert found[4][0] > np.log(3) + 0.2
