"""What is said of how far something has come, away from a terminal."""

import time

import pytest

from keras_audio_ssl.runs.progress import Progress

pytestmark = pytest.mark.no_backend


@pytest.fixture
def at(monkeypatch):
    """Sets the clock, seconds."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda second: now.__setitem__(0, float(second))


def test_a_line_after_two_seconds_and_every_ten(at):
    lines = []
    with Progress("reading", 100, say=lines.append) as progress:
        for second in range(1, 26):
            at(second)
            progress.advance(note="a.wav")
    assert [line.split(",")[0] for line in lines] == [
        "reading: 2/100", "reading: 12/100", "reading: 22/100",
    ]  # fmt: skip
    assert lines[0] == "reading: 2/100, 1:38 left a.wav"


def test_what_is_compiled_first_is_no_part_of_the_time_that_is_left(at):
    lines = []
    with Progress("training", 101, say=lines.append) as progress:
        at(60)
        progress.advance(note="loss 3.0")
        for step in range(1, 11):
            at(60 + step)
            progress.advance(note="loss 2.0")
    # After one step nobody knows.
    assert lines == [
        "training: 1/101 loss 3.0", "training: 11/101, 1:30 left loss 2.0",
    ]  # fmt: skip


def test_work_between_two_things_is_told_too(at):
    lines = []
    with Progress("embedding", 4, say=lines.append) as progress:
        progress.advance(4)
        for second in (5, 16):
            at(second)
            progress.advance(0, f"scored {second}/20")
    assert lines == [
        "embedding: 4/4 scored 5/20", "embedding: 4/4 scored 16/20",
    ]  # fmt: skip


def test_quiet_is_quiet(at):
    lines = []
    with Progress("reading", 9, quiet=True, say=lines.append) as progress:
        at(30)
        progress.advance(9)
    assert lines == []
