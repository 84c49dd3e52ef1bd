import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="session")
def audio(tmp_path_factory):
    """A folder with twelve clips of tones in noise, and one broken file."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    t = np.arange(20000) / 16000
    for i in range(12):
        wave = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 3000) * t)
        wave += 0.01 * rng.standard_normal(len(t))
        soundfile.write(folder / f"{i}.wav", wave, 16000)
    (folder / "text.wav").write_text("no audio")
    return folder
