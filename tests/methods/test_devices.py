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


REPLICAS = """
import keras
import numpy as np
import tensorflow as tf
import keras_audio_ssl as kas
from tests.contract import waves

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)

# A segment is the whole clip, so that nothing is drawn.
x = waves(8, 1.0)

def losses(devices, gather):
    strategy = tf.distribute.MirroredStrategy(
        devices, cross_device_ops=tf.distribute.ReductionToOneDevice())
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = kas.COLA(
            encoder={"backbone": "recurrent", "units": 6, "layers": 1},
            embedding_dim=6, noise=0.0, gather_negatives=gather)
        model.compile(keras.optimizers.SGD(20.0))
    # Two steps: the second's loss tells the first one's gradient.
    return [
        model.fit(x, batch_size=8, shuffle=False, verbose=0)
        .history["loss"][0] for _ in range(2)
    ]

two = ["CPU:0", "CPU:1"]
print("losses", *losses(two[:1], False), *losses(two, True),
      *losses(two, False))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_replicas_see_each_others_negatives_if_told():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPLICAS],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    lines = [x for x in done.stdout.splitlines() if x[:6] == "losses"]
    assert lines, done.stderr[-3000:]
    one, gathered, apart = np.reshape(
        [float(x) for x in lines[0].split()[1:]], (3, 2)
    )
    np.testing.assert_allclose(gathered, one, rtol=1e-4)
    assert (apart < one - 0.2).all(), "four clips are told apart more easily"
    assert abs(one[1] - one[0]) > 1e-2
