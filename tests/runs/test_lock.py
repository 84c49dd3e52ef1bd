import os
import subprocess
import sys
import time

import pytest

from keras_audio_ssl.runs.lock import only_one

pytestmark = pytest.mark.no_backend

HOLD = """
import sys
sys.argv[0] = "keras-audio-ssl"
from keras_audio_ssl.runs.lock import only_one
with only_one(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A lock file and another process that holds it."""
    path = tmp_path / "x.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.communicate()


def test_the_second_is_refused_at_once_and_told_of_the_first(holder):
    path, process = holder
    begin = time.monotonic()
    with (
        pytest.raises(ValueError, match=rf"process {process.pid}\b"),
        only_one(path),
    ):
        pass
    assert time.monotonic() - begin < 1
    assert path.exists()


def test_what_a_killed_run_left_is_taken_over(holder):
    path, process = holder
    process.kill()
    process.wait()
    assert path.read_text() == str(process.pid)
    with only_one(path):
        pass
    assert not path.exists()


def test_nothing_stays_behind(tmp_path):
    with only_one(tmp_path / "new" / "x.lock"):
        assert (tmp_path / "new" / "x.lock").exists()
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), only_one(tmp_path / "x.lock"):
        raise KeyError
    assert not list(tmp_path.iterdir())
    with only_one(tmp_path / "new" / "x.lock"):
        (tmp_path / "new" / "result").touch()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["result"]


def test_a_lock_is_no_file_of_anyone_else(tmp_path):
    theirs, path = tmp_path / "theirs", tmp_path / ".x.lock"
    theirs.write_text("12")
    for plant in (
        lambda: path.symlink_to(theirs),
        lambda: path.symlink_to(tmp_path / "nowhere"),
        lambda: os.link(theirs, path),
        lambda: path.write_text("my own notes"),
        lambda: os.mkfifo(path),
    ):
        plant()
        with (
            pytest.raises(ValueError, match=r"\.x\.lock.*no lock of a run"),
            only_one(path),
        ):
            pass
        assert path.is_symlink() or path.exists()
        path.unlink()
    assert theirs.read_text() == "12"
    assert not (tmp_path / "nowhere").exists()
    # One that a killed run left.
    path.write_text("12")
    with only_one(path):
        assert path.read_text() == str(os.getpid())
