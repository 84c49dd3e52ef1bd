import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_audio_ssl import _child
from keras_audio_ssl.data import builders
from keras_audio_ssl.data import from_alignments
from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import from_huggingface
from keras_audio_ssl.data import from_manifest
from keras_audio_ssl.data import isolated
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.data.builders import from_file
from keras_audio_ssl.data.isolation import IsolatedFile
from keras_audio_ssl.data.isolation import parent
from tests.broken import kinds

pytestmark = pytest.mark.no_backend

ROOT = Path(__file__).parents[2]
# A decoder that has faults: what happens is in the name of the file.
FAULTY = """
import os
import signal
import sys
import time

from keras_audio_ssl._child import light_packages

light_packages("keras_audio_ssl.data.isolation.decoder")
from keras_audio_ssl.data.isolation import decoder

decoder.ALONE_SECONDS = 0
main, serve = decoder.main, decoder._serve

def faulty(answers):
    AudioFile = decoder.AudioFile

    def fault(name, when):
        if f"{when} crash" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if f"{when} exit" in name:
            os._exit(3)
        if f"{when} hang" in name:
            while True:
                pass
        if f"{when} babble" in name:
            os.write(answers, b"Wrong" * 100)
        if f"{when} huge" in name:
            os.write(answers, decoder.ANSWER.pack(b"W", 1 << 50))
        if f"{when} error" in name:
            raise RuntimeError("an error of ours\\x1b[31m")
        if f"{when} modules" in name:
            some = ("keras", "tensorflow", "jax", "torch", "site", "numpy")
            some = [module for module in some if module in sys.modules]
            raise decoder.AudioError(name, " ".join(some))
        if f"{when} second" in name and fault.opened > 1:
            os.kill(os.getpid(), signal.SIGSEGV)

    fault.opened = 0

    class Faulty(AudioFile):
        def __init__(self, file, *args, **kwargs):
            fault.opened += 1
            fault(str(file), "open")
            super().__init__(file, *args, **kwargs)

        def read(self, *args):
            fault(self.name, "read")
            return super().read(*args)

    decoder.AudioFile = Faulty
    serve(answers)

decoder._serve = faulty
"""


@pytest.fixture(autouse=True)
def fresh():
    end_all()
    parent._deadly.clear()
    yield
    end_all()


def end_all():
    # Datasets may still read ahead, between two files when they are looked at.
    ended = False
    while not ended:
        wait_until(lambda: len(parent._idle) == len(parent._children))
        parent._end_all()
        time.sleep(0.05)
        ended = not parent._children


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """A folder of files whose decoder has the faults in their names."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(parent, "CHILD", "faulty")
    folder = tmp_path / "audio"
    folder.mkdir()
    return folder


def write(path, seconds=0.5, rate=16000, channels=1, seed=0, **kwargs):
    wave = kinds.tone(np.random.default_rng(seed), seconds, rate, channels)
    soundfile.write(path, wave, rate, **kwargs)
    return path


def children():
    return {child._process.pid for child in parent._children}


def pid(audio):
    return audio._child._process.pid


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_those_of_a_file_read_directly(tmp_path, ending, channels):
    path = write(tmp_path / f"a.{ending}", 1.0, 22050, channels)
    for file in (path, str(path), path.read_bytes()):
        with AudioFile(file) as a, IsolatedFile(file) as b:
            for name in ("rate", "channels", "format", "floating", "frames",
                         "facts", "name"):  # fmt: skip
                assert getattr(a, name) == getattr(b, name), name
            for start, frames in ((0, a.frames), (777, 5000), (20000, 1),
                                  (a.frames - 9, 9), (30, 0)):  # fmt: skip
                x, y = a.read(start, frames), b.read(start, frames)
                assert y.dtype == "float32" and y.flags.writeable
                np.testing.assert_array_equal(x, y)
                np.testing.assert_array_equal(
                    a.read_channels(start, frames),
                    b.read_channels(start, frames),
                )
            facts = b.facts
        with (
            AudioFile(file, facts=facts) as a,
            IsolatedFile(file, facts=facts) as b,
        ):
            np.testing.assert_array_equal(a.read(0, 100), b.read(0, 100))


def test_errors_are_those_of_a_file_read_directly(tmp_path):
    seen = 0
    for made in kinds.make(tmp_path / "c", 1, goods=1):
        reasons = []
        for cls in (AudioFile, IsolatedFile):
            try:
                with cls(made.path) as audio:
                    audio.read(0, min(audio.frames, 1 << 20))
                reasons.append(None)
            except AudioError as error:
                assert error.file == str(made.path)
                reasons.append(error.reason)
        assert reasons[0] == reasons[1], made
        seen += reasons[0] is not None
    assert seen > 20


def test_a_path_is_relative_to_where_the_parent_is(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path.parent)
    with IsolatedFile(path):
        child = children()
    monkeypatch.chdir(tmp_path)
    with IsolatedFile("a.wav") as audio:
        assert audio.frames == 8000 and children() == child


def test_one_child_for_each_file_that_is_open_and_no_leak(tmp_path):
    path = write(tmp_path / "a.wav")
    for _ in range(5):
        with IsolatedFile(path) as a:
            a.read(0, 10)
    assert len(children()) == 1
    before = len(os.listdir("/proc/self/fd"))
    (child,) = children()
    for _ in range(30):
        with IsolatedFile(path):
            pass
        with pytest.raises(AudioError):
            IsolatedFile(tmp_path / "missing.wav")
    assert len(os.listdir("/proc/self/fd")) == before
    with IsolatedFile(path):  # which it has not begun before it closed others
        assert len(os.listdir(f"/proc/{child}/fd")) < 12
    with IsolatedFile(path) as a, IsolatedFile(path) as b:
        assert len(children()) == 2 and pid(a) != pid(b)
        del a  # closed by whoever collects garbage
    ended = children()
    end_all()
    assert not any(Path(f"/proc/{child}").exists() for child in ended)


def test_it_cannot_be_read_when_closed(tmp_path):
    audio = IsolatedFile(write(tmp_path / "a.wav"))
    audio.close()
    audio.close()
    with pytest.raises(ValueError, match="closed"):
        audio.read(0, 1)


def test_the_child_does_not_load_keras(faulty):
    with pytest.raises(AudioError) as error:
        IsolatedFile(write(faulty / "open modules.wav"))
    assert error.value.reason == "numpy"


@pytest.mark.parametrize(
    "fault, reason",
    [
        ("crash", "the decoder crashed (signal SIGSEGV)"),
        ("exit", "the decoder crashed (exit code 3)"),
        ("babble", "the decoder crashed (an impossible answer)"),
        ("huge", "the decoder crashed (an impossible answer)"),
        ("error", "cannot be read: RuntimeError: an error of ours\\x1b[31m"),
    ],
)
@pytest.mark.parametrize("when", ["open", "read"])
def test_a_fault_of_the_decoder_costs_one_file(faulty, when, fault, reason):
    bad = write(faulty / f"{when} {fault}.wav")
    good = write(faulty / "good.wav")
    for _ in range(2):
        with IsolatedFile(good) as audio:
            audio.read(0, 100)
        with (
            pytest.raises(AudioError) as error,
            IsolatedFile(bad) as audio,
        ):
            audio.read(0, 100)
        assert error.value.file == str(bad)
        assert error.value.reason == reason
    with IsolatedFile(good) as audio:
        np.testing.assert_array_equal(
            audio.read(0, 8000), read_audio(good, 16000)
        )


def test_a_file_is_not_blamed_for_another(faulty):
    """The child that crashes at the second file it opens, whatever it is."""
    with IsolatedFile(write(faulty / "good.wav")):
        pass
    path = write(faulty / "open second.wav")
    with IsolatedFile(path) as audio:
        assert audio.frames == 8000
        first = pid(audio)
        os.kill(first, signal.SIGKILL)
        # It had no other file: it is this one's fault, or the system's.
        with pytest.raises(AudioError, match="SIGKILL"):
            audio.read(0, 10)


def test_a_child_that_is_killed_between_two_files_costs_none(tmp_path):
    path = write(tmp_path / "a.wav")
    for _ in range(3):
        with IsolatedFile(path) as audio:
            killed = pid(audio)
        os.kill(killed, signal.SIGKILL)
        time.sleep(0.05)
    with IsolatedFile(path) as audio:
        audio.close()
    with IsolatedFile(path) as audio:
        os.kill(pid(audio), signal.SIGKILL)
        np.testing.assert_array_equal(
            audio.read(0, 8000), read_audio(path, 16000)
        )
    assert len(children()) == 1


@pytest.mark.parametrize("when", ["open", "read"])
def test_a_decoder_that_does_not_answer_costs_one_file(
    faulty, monkeypatch, when
):
    monkeypatch.setattr(parent, "SECONDS", 0.5)
    bad = write(faulty / f"{when} hang.wav")
    good = write(faulty / "good.wav")
    begin = time.monotonic()
    with (
        pytest.raises(AudioError, match="takes too long"),
        IsolatedFile(bad) as audio,
    ):
        audio.read(0, 100)
    assert 0.4 < time.monotonic() - begin < 5
    with IsolatedFile(good) as audio:
        assert len(audio.read(0, 100)) == 100
    # It is not waited for in each epoch, as long as it is the same file.
    begin = time.monotonic()
    with pytest.raises(AudioError, match="takes too long"):
        IsolatedFile(bad)
    assert time.monotonic() - begin < 0.2
    write(bad, seconds=0.7)
    with pytest.raises(AudioError), IsolatedFile(bad) as audio:
        assert when == "read"
        audio.read(0, 100)
    assert time.monotonic() - begin > 0.5


def test_a_bomb_costs_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(parent, "MEMORY", 360 << 20)
    bomb = tmp_path / "bomb.flac"
    bomb.write_bytes(kinds.hours_of_silence())
    with IsolatedFile(bomb) as audio:
        assert audio.frames == 3 * 3600 * 8000
        assert not audio.read(50_000_000, 1000).any()
        with pytest.raises(AudioError, match="allocate"):
            audio.read(0, audio.frames)
        assert not audio.read(50_000_000, 1000).any()
        monkeypatch.setattr(parent, "MEMORY", 200 << 20)
        with pytest.raises(AudioError, match="too many"):
            audio.read(0, audio.frames)


def test_a_child_that_cannot_start_is_no_fault_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "ends_at_once.py").write_text("import sys; sys.exit(7)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(parent, "CHILD", "ends_at_once")
    with pytest.raises(OSError, match="could be started.*exit code 7"):
        IsolatedFile(write(tmp_path / "a.wav"))


def test_children_without_work_are_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(parent, "IDLE_SECONDS", 0.2)
    with IsolatedFile(write(tmp_path / "a.wav")):
        (child,) = children()
        time.sleep(1.0)
        assert children() == {child}
    wait_until(lambda: not children() and not Path(f"/proc/{child}").exists())
    wait_until(lambda: parent._watcher is None)
    with IsolatedFile(tmp_path / "a.wav") as audio:
        assert audio.frames == 8000


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_many_threads_read_what_one_does(tmp_path):
    paths = [write(tmp_path / f"{i}.wav", seed=i) for i in range(4)]
    expected = [read_audio(path, 16000) for path in paths]
    wrong = []

    def work(k):
        for i in range(40):
            n = (i + k) % 4
            with IsolatedFile(paths[n]) as audio:
                if not np.array_equal(audio.read(0, 8000), expected[n]):
                    wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(children()) <= 6


def script(code, tmp_path, **kwargs):
    """A program of its own that has children, started."""
    head = f"""
    import os, runpy, signal, sys, time
    # Without Keras, as it takes its time.
    runpy.run_path({_child.__file__!r})["light_packages"]("keras_audio_ssl.data.a")
    from keras_audio_ssl.data.isolation import parent
    from keras_audio_ssl.data.reading import read_audio
    from keras_audio_ssl.data.isolation import IsolatedFile
    path = {str(tmp_path / "a.wav")!r}
    """
    write(tmp_path / "a.wav")
    code = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        cwd=ROOT, **kwargs,
    )  # fmt: skip


def test_an_interrupt_is_for_the_parent_alone(tmp_path):
    program = script(
        """
        caught = []
        signal.signal(signal.SIGINT, lambda *args: caught.append(1))
        with IsolatedFile(path) as audio:
            child = audio._child._process.pid
            print(child, flush=True)
            while not caught:
                time.sleep(0.01)
            time.sleep(0.3)
            print(len(audio.read(0, 8000)), audio._child._process.pid == child)
        """,
        tmp_path,
        start_new_session=True,
    )
    child = int(program.stdout.readline())
    # As the terminal does; and as a scheduler that warns all processes.
    os.kill(child, signal.SIGTERM)
    os.kill(child, signal.SIGINT)
    os.killpg(program.pid, signal.SIGINT)
    assert program.communicate(timeout=60)[0].split() == ["8000", "True"]
    assert program.returncode == 0
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize("busy", [False, True])
def test_children_end_with_a_parent_that_is_killed(faulty, tmp_path, busy):
    name = write(faulty / ("read hang.wav" if busy else "good.wav"))
    program = script(
        f"""
        sys.path.insert(0, {str(tmp_path)!r})
        parent.CHILD, parent.SECONDS = {parent.CHILD!r}, 2.0
        audio = IsolatedFile({str(name)!r})
        print(audio._child._process.pid, flush=True)
        audio.read(0, 10)
        time.sleep(60)
        """,
        tmp_path,
    )
    child = int(program.stdout.readline())
    time.sleep(0.3)
    program.kill()
    program.communicate()
    wait_until(lambda: not is_running(child))


def is_running(number):
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    # Whoever has inherited it may leave it a zombie.
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def test_nothing_is_left_of_a_program_that_ends(tmp_path):
    program = script(
        """
        import threading
        def work():
            with IsolatedFile(path) as audio:
                audio.read(0, 10)
                print(audio._child._process.pid, flush=True)
                time.sleep(0.5)
        threads = [threading.Thread(target=work) for _ in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        left = IsolatedFile(path)
        """,
        tmp_path,
        stderr=subprocess.PIPE,
    )
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0 and not err
    numbers = out.split()
    assert len(set(numbers)) == 3
    assert not any(Path(f"/proc/{number}").exists() for number in numbers)


def test_a_fork_has_children_of_its_own(tmp_path):
    program = script(
        """
        expected = read_audio(path, 16000)
        with IsolatedFile(path) as idle:
            pass
        with IsolatedFile(path) as audio:
            fork = os.fork()
            same = (audio.read(0, 8000) == expected).all()
            with IsolatedFile(path) as other:
                same &= (other.read(0, 8000) == expected).all()
            mine = {child._process.pid for child in parent._children}
            print(bool(same), len(mine), *mine, flush=True)
            if fork:
                code = os.waitpid(fork, 0)[1]
        if fork:
            print(code, (read_audio(path, 16000) == expected).all())
        else:
            sys.exit(0)
        """,
        tmp_path,
    )
    out, _ = program.communicate(timeout=60)
    lines = [line.split() for line in out.splitlines()]
    assert program.returncode == 0 and len(lines) == 3
    assert [line[:2] for line in lines[:2]] == [["True", "2"]] * 2
    assert len({*lines[0][2:], *lines[1][2:]}) == 4
    assert lines[2] == ["0", "True"]


def test_batches_are_those_without_isolation(tmp_path):
    kinds.make(tmp_path / "c", 2, kinds=["cut FLAC", "NaN", "text"], goods=10)
    options = {
        "seconds": 0.4,
        "batch_size": 5,
        "seed": 3,
        "sample_rate": 8000,
    }
    direct = from_folder(tmp_path / "c", **options)
    apart = from_folder(tmp_path / "c", isolate=True, **options)
    assert children()
    assert apart.skipped == direct.skipped and len(direct.skipped) == 6
    for a, b in zip(direct, apart, strict=True):
        np.testing.assert_array_equal(a["waveform"], b["waveform"])
        np.testing.assert_array_equal(a["lengths"], b["lengths"])


@pytest.mark.parametrize("isolate", [False, True])
def test_every_source_of_files_is_decoded_apart_if_asked(
    tmp_path, monkeypatch, isolate
):
    monkeypatch.setattr("keras_audio_ssl.data.checks.CHECK_FILES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name)
    table = tmp_path / "words.csv"
    table.write_text(
        "file,start,end,word\n"
        "a.wav,0,0.2,no\na.wav,0.2,0.4,yes\nb.wav,0,0.2,no\nb.wav,0.2,0.4,no\n"
    )

    def look_up(*args):
        raise AssertionError("the index was not used")

    options = {"batch_size": 2, "isolate": isolate}
    for source, where, more in (
        (from_folder, tmp_path, {}),
        (from_file, tmp_path / "a.wav", {"batch_size": 1}),
        (from_manifest, table, {}),
        # Now that it is in the index.
        (from_manifest, table, {"seconds": 0.1}),
        (from_alignments, tmp_path, {"alignments": table}),
    ):
        if "seconds" in more:
            monkeypatch.setattr(builders, "scan_manifest", look_up)
        end_all()
        data = source(where, **{**options, **more})
        end_all()
        data.batch(0, 0)
        assert bool(children()) == isolate, (source, more)


def test_a_crash_is_named_among_the_skipped_files(faulty):
    for i in range(4):
        write(faulty / f"{i}.wav")
    bad = write(faulty / "read crash.wav")
    data = from_folder(faulty, 0.2, 5, isolate=True)
    for _ in range(3):
        for batch in data:
            assert np.abs(batch["waveform"]).max(axis=1).min() > 0.1
    (skipped,) = data.skipped
    assert skipped == (str(bad), "the decoder crashed (signal SIGSEGV)")


def test_rows_with_bytes_are_decoded_apart(tmp_path):
    path = write(tmp_path / "a.flac")
    rows = [{"audio": {"bytes": path.read_bytes(), "path": "a"}}] * 3
    options = {"seconds": 0.2, "batch_size": 3, "seed": 1}
    direct = from_huggingface(rows, **options).batch(0, 0)
    assert not children()
    apart = from_huggingface(rows, isolate=True, **options).batch(0, 0)
    assert children()
    np.testing.assert_array_equal(direct["waveform"], apart["waveform"])


def test_inside_of_isolated_all_readers_decode_apart(tmp_path):
    path = write(tmp_path / "a.flac", 1.0, 22050)
    direct = read_audio(path, 16000, start=0.2, seconds=0.5)
    assert not children()
    with isolated(False):
        read_audio(path)
    assert not children()
    with isolated():
        apart = read_audio(path, 16000, start=0.2, seconds=0.5)
        with isolated(False):
            assert len(children()) == 1
    np.testing.assert_array_equal(direct, apart)
    end_all()
    read_audio(path)
    assert not children()
