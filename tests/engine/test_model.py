import numpy as np
import pytest

import keras_audio_ssl as kas
from tests.contract import BACKEND
from tests.contract import waves


@pytest.mark.skipif(BACKEND != "tensorflow", reason="what TensorFlow traces")
@pytest.mark.parametrize("way", ["fit", "train_on_batch"])
@pytest.mark.parametrize("classifier", [False, True])
def test_a_step_is_traced_once(way, classifier):
    calls, x = [], waves(4)
    model = kas.COLA(preset="tiny")
    y = ()
    if classifier:
        model = kas.Classifier(model.encoder, classes=2)
        y = (np.array([0, 1, 0, 1]),)
    real = model.compute_loss

    def counted(*args, **kwargs):
        calls.append(kwargs)
        return real(*args, **kwargs)

    model.compute_loss = counted
    # With an optimizer of one's own it trains no head before.
    model.compile("adam")
    if way == "fit":
        model.fit(x, *y, batch_size=2, verbose=0)
    else:
        model.train_on_batch(x, *y)
    assert len(calls) == 1
