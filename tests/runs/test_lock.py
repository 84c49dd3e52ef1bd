import errno
import os
import subprocess
import sys
import time

import pytest

from keras_audio_ssl._files import WriteError
from keras_audio_ssl.runs import lock
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


def test_a_lock_of_an_earlier_version_holds(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "x.lock"
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write("4711")
        file.flush()
        for _ in range(2):  # who is refused leaves the note as it is
            with (
                pytest.raises(ValueError, match=r"process 4711\b"),
                only_one(path),
            ):
                pass
    with only_one(path):
        pass


def test_the_holder_is_named_where_the_locked_byte_cannot_be_read(
    tmp_path, monkeypatch
):
    path = tmp_path / "x.lock"
    monkeypatch.setattr(lock, "UNREADABLE", b"0")
    with only_one(path):
        assert path.read_text() == f"0{os.getpid()}"
        with (
            pytest.raises(ValueError, match=rf"process {os.getpid()}\b"),
            only_one(path),
        ):
            pass


def test_where_there_are_no_locks_there_is_none(tmp_path, monkeypatch):
    def refuse(self, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.FileLock, "acquire", refuse)
    path = tmp_path / "x.lock"
    with only_one(path), only_one(path):
        assert not path.exists()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(
    tmp_path, monkeypatch
):
    def refuse(path, *options, **more):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lock.os, "open", refuse)
    with (
        pytest.raises(WriteError, match=r"x\.lock cannot be written: Read-on"),
        only_one(tmp_path / "x.lock"),
    ):
        pass


TURNS = """
import sys
from pathlib import Path
from keras_audio_ssl.runs.lock import only_one
folder, done = Path(sys.argv[1]), 0
print("ready", flush=True)
sys.stdin.readline()
while done < 40:
    try:
        with only_one(folder / "x.lock"):
            (folder / "inside").touch(exist_ok=False)
            (folder / "inside").unlink()
            done += 1
    except ValueError as error:
        assert "another run" in str(error), error
"""


def test_of_many_at_once_one_is_inside(tmp_path):
    several = [
        subprocess.Popen(
            [sys.executable, "-c", TURNS, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in several:
        assert process.stdout.readline() == "ready\n"
    for process in several:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in several:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert not list(tmp_path.iterdir())
