"""A short turn of `python -m tests.broken`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_audio_ssl import _child
from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data.audio import AudioError
from tests.broken import fuzz
from tests.broken import kinds
from tests.broken.__main__ import judge
from tests.broken.__main__ import read_skipped

pytestmark = pytest.mark.no_backend

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("isolate", [False, True])
def test_each_file_is_used_or_named(tmp_path, isolate):
    chosen = [*kinds.KINDS, *kinds.DURING]
    # Nothing is denied to root: see the test below.
    chosen.remove("no permission")
    made = kinds.make(tmp_path / "audio", 2, seed=1, kinds=chosen, goods=10)
    data = from_folder(
        tmp_path / "audio", 0.9, 4, isolate=isolate, min_seconds=0.05,
        drop_last=False,
    )  # fmt: skip
    kinds.disturb(made)
    for epoch in range(3):
        for step in range(len(data)):
            batch = data.batch(epoch, step)
            assert np.isfinite(batch["waveform"]).all()
    data.write_skipped(tmp_path / "skipped.csv")
    skipped = read_skipped(tmp_path / "skipped.csv")
    table, wrong = judge(made, skipped)
    assert not wrong
    assert len(table) >= 50 and len(skipped) == len(data.skipped) > 60


@pytest.mark.parametrize("number", range(len(kinds.ODD_NAMES)))
def test_any_name_can_be_read_in_the_table(tmp_path, number):
    class Choice:
        def integers(self, *bounds):
            return number

    path = kinds.put_oddly(tmp_path / "a", Choice(), b"no sound")
    kinds.good(tmp_path / "good", np.random.default_rng(0))
    data = from_folder(tmp_path, 0.5, 1)
    data.write_skipped(tmp_path / "skipped.csv")
    (name,) = read_skipped(tmp_path / "skipped.csv")
    assert name == kinds.named(path)


def test_what_is_not_named_is_found(tmp_path):
    made = kinds.make(tmp_path, 1, kinds=["text", "wrong rate"], goods=1)
    text, rate, _ = made
    assert judge(made, {str(text.path): "no sound"})[1] == []
    for skipped, what in (
        ({}, "not named"),
        ({str(text.path): ""}, "not why"),
        ({str(text.path): "no sound", str(rate.path): "x"}, "is named: x"),
    ):
        (wrong,) = judge(made, skipped)[1]
        assert what in wrong
    rate.wave[len(rate.wave) // 2] += 0.1
    (wrong,) = judge(made, {str(text.path): "no sound"})[1]
    assert "other samples" in wrong


def test_the_collection_is_the_same_for_a_seed(tmp_path):
    contents = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        made = kinds.make(
            tmp_path / name, 1, seed, ["hurt OGG", "cut MP3"], goods=1
        )
        contents.append(b"".join(item.path.read_bytes() for item in made))
    assert contents[0] == contents[1] != contents[2]


def test_a_file_without_permission_is_refused(tmp_path):
    path, _ = kinds.no_permission(tmp_path / "a", np.random.default_rng(0))
    code = f"""
import runpy
runpy.run_path({_child.__file__!r})["light_packages"]("keras_audio_ssl.data.a")
from keras_audio_ssl.data import audio
from keras_audio_ssl.data.isolation import parent
try:
    open({str(path)!r}, "rb").close()
except PermissionError:
    pass
else:
    print("nothing is denied to this user")
for opener in (audio.AudioFile, parent.IsolatedFile):
    try:
        opener({str(path)!r})
    except audio.AudioError as error:
        print(error.reason)
"""
    done = subprocess.run(
        [sys.executable, "-m", "tests.broken.humble", sys.executable, "-c",
         code], cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if "nothing is denied" in done.stdout:
        pytest.skip("nothing is denied to this user")
    assert done.stdout.splitlines() == ["Permission denied"] * 2, done.stderr


def test_mutants_are_read_or_refused(tmp_path):
    counts, bad = fuzz.fuzz(420, tmp_path, seed=7)
    assert not bad and not any(tmp_path.iterdir())
    assert {format for format, _ in counts} == {
        "WAV", "FLAC", "OGG", "MP3", "other",
    }  # fmt: skip
    for outcome in ("read", "refused"):
        assert sum(n for (_, o), n in counts.items() if o == outcome) > 60


def test_mutants_come_from_valid_files(tmp_path):
    usual, others = fuzz.seeds()
    assert (usual, others) == fuzz.seeds()
    for _, ending, content in usual + others:
        path = tmp_path / f"a{ending}"
        path.write_bytes(content)
        outcome, reason = fuzz.decode(path)
        # A coding that libsndfile itself cannot seek in, whatever it says.
        assert outcome == "read" or (b"DWVW" in content and "seek" in reason)
        if ending == ".ogg":
            again = bytearray(content)
            kinds.repair_pages(again)
            assert again == content
    contents = [content for _, _, content in usual + others]
    for number in range(40):
        mutant = fuzz.mutant(number, 0, (usual, others))
        assert mutant == fuzz.mutant(number, 0, (usual, others))
        assert mutant[2] not in contents


def test_what_comes_of_a_mutant_is_told_apart(tmp_path):
    class Opener:
        channels, rate, frames = 1, 16000, 1000
        problem, wave = None, np.zeros(1000, "float32")

        def __init__(self, path, facts=None):
            if self.problem:
                raise AudioError(path, self.problem)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def read(self, start, frames):
            return self.wave[start : start + frames]

    for outcome, problem in (
        ("crashed", "the decoder crashed (signal SIGSEGV)"),
        ("too long", "decoding takes too long: more than 1 s"),
        ("memory", "Unable to allocate 1 TiB"),
        ("refused", "no samples"),
    ):
        Opener.problem = problem
        assert fuzz.decode("a.wav", Opener) == (outcome, problem)
    Opener.problem = None
    assert fuzz.decode("a.wav", Opener) == ("read", "")
    for wave in (np.full(1000, np.nan, "float32"), np.zeros(999, "float32")):
        Opener.wave = wave
        with pytest.raises(AssertionError):
            fuzz.decode("a.wav", Opener)
