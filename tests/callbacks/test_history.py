"""A run's table that was damaged stops no resume."""

import pytest

from keras_audio_ssl.callbacks import HistoryCSV
from keras_audio_ssl.callbacks.history import read_table

pytestmark = pytest.mark.no_backend

HEAD = "step,loss,learning_rate,std\r\n"
ROWS = [f"{k},0.{k},0.001,{'' if k % 4 else '1e-05'}\r\n" for k in (2, 4, 6, 8)]


def table(path, content):
    path.write_bytes(content)
    said = []
    history = HistoryCSV(path, every=2, steps_done=6, say=said.append)
    history.on_train_begin()
    return history, said


def steps(path):
    return [int(r.split(",")[0]) for r in path.read_text().split()[1:]]


@pytest.mark.parametrize(
    "damage, kept",
    [
        (b"\xff\xfe8,1,1,\r\n", [2, 4, 6]),  # invalid UTF-8
        (bytes(4096), [2, 4, 6]),  # a tail of zeros
        (b"8,0.1\r\n", [2, 4, 6]),
        (b"4,0.1,0.1,\r\n", [2, 4, 6]),  # a step comes again
        (b"8,zero,0.1,\r\n", [2, 4, 6]),
        (b"-8,0.1,0.1,\r\n", [2, 4, 6]),
    ],
)
def test_a_damaged_table_is_set_aside_and_named(tmp_path, damage, kept):
    path = tmp_path / "history.csv"
    content = (HEAD + "".join(ROWS[:3])).encode() + damage
    history, said = table(path, content)
    aside = tmp_path / "history.damaged.csv"
    assert aside.read_bytes() == content
    [line] = said
    assert str(path) in line and aside.name in line and "3 of its rows" in line
    assert steps(path) == kept and history.columns[0] == "step"
    assert path.read_bytes().decode().startswith(HEAD)


@pytest.mark.parametrize("content", [b"\xff" * 50, bytes(50), b"loss\n1\n"])
def test_a_table_without_its_head_begins_anew(tmp_path, content):
    path = tmp_path / "history.csv"
    history, said = table(path, content)
    assert len(said) == 1 and not path.exists() and history.columns is None
    assert (tmp_path / "history.damaged.csv").read_bytes() == content


@pytest.mark.parametrize("torn", ["", "8,0.", "8"])
def test_a_row_that_was_torn_by_a_kill_is_no_damage(tmp_path, torn):
    path = tmp_path / "history.csv"
    history, said = table(path, (HEAD + "".join(ROWS) + torn).encode())
    assert said == [] and steps(path) == [2, 4, 6]
    path.write_bytes(b"")
    assert read_table(path) == (None, [], True)
