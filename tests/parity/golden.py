"""Golden arrays of the reference implementations, for `tests/parity`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(
    os.environ.get("KERAS_AUDIO_SSL_PARITY", Path(__file__).with_name("data"))
)


class Golden:
    """Arrays of one reference, and a count of what was compared with them.

    A test asks `has(...)` before it uses keys; `close` and `equal` compare.
    `finish` fails a test that compared nothing.
    """

    def __init__(self, name):
        path = FOLDER / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"no golden arrays at {path}")
        self.name = name
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}
        self.keys = set(self.arrays)
        configs = json.loads((FOLDER / "configs.json").read_text())
        self.config = configs.get(name, {})
        self.compared = 0

    def __getitem__(self, key):
        return self.arrays[key]

    def has(self, *keys):
        """Whether the folder has all of these keys."""
        return self.keys.issuperset(keys)

    def group(self, prefix):
        """The arrays below `prefix/`, by the rest of their key."""
        start = prefix + "/"
        return {
            k[len(start) :]: self.arrays[k]
            for k in self.arrays
            if k.startswith(start)
        }

    def close(self, got, key, atol=0.0, rtol=0.0, where=None):
        """Asserts |got - golden| <= atol + rtol * |golden|, if it is there."""
        if key not in self.keys:
            return
        want = self.arrays[key]
        self.near(got, want, atol, rtol, where, key)

    def near(self, got, want, atol=0.0, rtol=0.0, where=None, what=""):
        """Asserts that `got` is near an array derived from golden ones."""
        got, want = np.asarray(got, "float64"), np.asarray(want, "float64")
        assert got.shape == want.shape, (what, got.shape, want.shape)
        assert np.isfinite(got).all(), f"{what}: not finite"
        if where is not None:
            assert np.any(where), f"{what}: nothing to compare"
            got, want = got[where], want[where]
        excess = np.abs(got - want) - (atol + rtol * np.abs(want))
        assert excess.max() <= 0, (
            f"{what}: off by {np.abs(got - want).max():.3g}, "
            f"allowed {atol:.3g} + {rtol:.3g} |x|"
        )
        self.compared += 1

    def equal(self, got, key):
        """Asserts equality with the array under `key`, if it is there."""
        if key not in self.keys:
            return
        np.testing.assert_array_equal(np.asarray(got), self.arrays[key])
        self.compared += 1

    def finish(self):
        assert self.compared, f"{self.name}: nothing was compared"


def recipe_weights(golden, group):
    """The weights of which only seed, names, kinds and shapes are stored."""
    rng = np.random.RandomState(int(golden[f"{group}/seed"]))
    weights = {}
    lists = [golden[f"{group}/{k}"].tolist() for k in ("keys", "kinds")]
    for key, kind, shape in zip(*lists, golden[f"{group}/shapes"].tolist()):
        shape = tuple(int(n) for n in shape.split(","))
        if kind == "bn_var":
            array = 0.5 + rng.random_sample(shape)
        else:
            array = rng.standard_normal(shape)
            array *= {
                "matrix": np.sqrt(2 / np.prod(shape[1:])),
                "bias": 0.05,
            }.get(kind, 0.1)
            array += kind == "bn_gamma"
        weights[key] = array.astype("float32")
    if golden.has(f"{group}/abs_sum"):
        sums = [np.abs(w.astype("float64")).sum() for w in weights.values()]
        golden.close(sums, f"{group}/abs_sum", rtol=1e-9)
    return weights


@pytest.fixture
def golden(request):
    """The golden arrays named by the module's `GOLDEN`; see `Golden`."""
    arrays = Golden(request.module.GOLDEN)
    yield arrays
    if request.node.stash.get(PASSED, False):
        arrays.finish()


PASSED = pytest.StashKey[bool]()
