"""What a run was begun with, held against what it is now."""

import os

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.callbacks.resume import changed_files
from keras_audio_ssl.callbacks.resume import read_record
from keras_audio_ssl.callbacks.resume import write_contents
from keras_audio_ssl.data import from_folder

pytestmark = pytest.mark.no_backend


@pytest.fixture
def folder(tmp_path):
    for k in range(6):
        soundfile.write(tmp_path / f"{k}.wav", np.full(800, 0.1), 16000)
    return tmp_path


def test_files_that_changed_are_named(folder):
    table = folder / "files.csv"
    write_contents(table, from_folder(folder, 0.01, 1))
    assert len(table.read_text().splitlines()) == 7
    same = changed_files(table, from_folder(folder, 0.01, 1))
    assert same == "other parts of the files"
    os.unlink(folder / "0.wav")
    for name in ("1.wav", "new.wav"):
        soundfile.write(folder / name, np.full(900, 0.1), 16000)
    assert changed_files(table, from_folder(folder, 0.01, 1)) == (
        f"1 files new: {folder / 'new.wav'}; "
        f"1 files gone or unreadable: {folder / '0.wav'}; "
        f"1 files of another size: {folder / '1.wav'}"
    )


def test_a_name_with_a_carriage_return_is_the_same_file(folder):
    os.rename(folder / "0.wav", folder / "a\rb.wav")
    table = folder / "files.csv"
    write_contents(table, from_folder(folder, 0.01, 1))
    same = changed_files(table, from_folder(folder, 0.01, 1))
    assert same == "other parts of the files"


def test_a_damaged_record_is_named(tmp_path):
    path = tmp_path / "run.json"
    assert read_record(path) == {}
    path.write_text('{"model": ')
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        read_record(path)
