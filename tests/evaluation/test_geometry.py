import numpy as np
import pytest

from keras_audio_ssl import losses
from keras_audio_ssl.evaluation import geometry


def embedding_std(x):
    return float(losses.embedding_std(x.astype("float32")))


@pytest.fixture
def cloud():
    return np.random.default_rng(0).standard_normal((400, 16))


def test_a_point_and_a_full_sphere(cloud):
    point = np.ones((400, 16))
    assert embedding_std(point) == 0
    assert geometry.effective_rank(point) == 1
    assert geometry.uniformity(point) == 0
    assert abs(embedding_std(cloud) * 4 - 1) < 0.01
    assert geometry.effective_rank(cloud) > 15.5
    # exp(-4) times the mean of exp(4 cos) over a sphere in 16 dimensions.
    cosines = np.linspace(-1, 1, 20001)
    density = (1 - cosines**2) ** (13 / 2)
    want = np.log((np.exp(-4 + 4 * cosines) * density).sum() / density.sum())
    assert abs(geometry.uniformity(cloud) - want) < 0.02


def test_offset_and_scale_of_the_cloud(cloud):
    # All in one cone, as rectified features are: the rank sees through it.
    cone = cloud + 30
    assert embedding_std(cone) * 4 < 0.05
    assert geometry.effective_rank(cone) > 14
    assert geometry.effective_rank(cloud * 7) == pytest.approx(
        geometry.effective_rank(cloud)
    )


def test_effective_rank_counts_directions(cloud):
    flat = cloud.copy()
    flat[:, 3:] = 0
    assert 2.8 < geometry.effective_rank(flat) <= 3


def test_alignment_and_neighbours(cloud):
    assert geometry.alignment(cloud, 3 * cloud) < 1e-12
    assert geometry.alignment(cloud, -cloud) == pytest.approx(4)
    labels = np.arange(400) % 5
    assert abs(geometry.neighbour_accuracy(cloud, labels) - 0.2) < 0.08
    centres = np.random.default_rng(1).standard_normal((5, 16))
    near = centres[labels] + 0.1 * cloud
    assert geometry.neighbour_accuracy(near, labels) == 1
    # Each clip is not its own neighbour.
    assert geometry.neighbour_accuracy(cloud[:2], np.array([0, 1])) == 0


def test_wrong_shapes_are_named(cloud):
    for function in (
        geometry.effective_rank,
        geometry.uniformity,
    ):
        with pytest.raises(ValueError, match=r"\(clips, dim\).*\(16,\)"):
            function(cloud[0])
    with pytest.raises(ValueError, match="finite"):
        geometry.effective_rank(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="one shape"):
        geometry.alignment(cloud, cloud[:, :3])
    with pytest.raises(ValueError, match=r"each of 400 clips.*\(3,\)"):
        geometry.neighbour_accuracy(cloud, np.zeros(3))
    with pytest.raises(ValueError, match="two clips"):
        geometry.uniformity(cloud[:1])
