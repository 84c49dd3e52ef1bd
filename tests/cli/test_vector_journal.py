"""The journal of `embed`: what is damaged is named and done again."""

import json
import zlib

import numpy as np
import pytest

from keras_audio_ssl.cli.vector_journal import VectorJournal

pytestmark = pytest.mark.no_backend

DIM = 8


def filled(folder, said=None, settings="a"):
    say = [].append if said is None else said.append
    return VectorJournal(folder, settings, DIM, say)


@pytest.fixture
def folder(tmp_path):
    journal = filled(tmp_path / "j")
    rng = np.random.default_rng(0)
    for number in range(40):
        if number % 10 == 3:
            journal.skip(number, "broken\n\udcff")
        else:
            rows = rng.normal(size=(2, DIM))
            journal.add(number, [0.0, 0.5], rows.astype("float32"))
    assert len(journal) == 72
    journal.close()
    return tmp_path / "j"


def test_an_intact_journal_is_read_back(folder):
    said = []
    journal = filled(folder, said)
    rows, vectors = journal.columns()
    assert said == [] and len(journal) == 72 and vectors.shape == (72, DIM)
    want = np.random.default_rng(0).normal(size=(72, DIM)).astype("float32")
    np.testing.assert_array_equal(vectors, want)
    assert rows[:3].tolist() == [[0, 0], [0, 0.5], [1, 0]]
    assert journal.skipped == [[k, "broken\n\udcff"] for k in (3, 13, 23, 33)]
    journal.cut(10, 13)
    assert len(journal) == 10 and [k for k, _ in journal.skipped] == [3]
    journal.close()


@pytest.mark.parametrize("name", ["rows", "vectors.f32"])
@pytest.mark.parametrize("at", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("damage", ["zeros", "bit", "cut"])
def test_what_follows_a_damaged_row_is_done_again(folder, name, at, damage):
    path = folder / name
    content = bytearray(path.read_bytes())
    place = int(at * len(content))
    if damage == "zeros":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    elif damage == "bit":
        content[place] ^= 4
    else:
        del content[place:]
    path.write_bytes(content)
    said = []
    journal = filled(folder, said)
    good = place // (20 if name == "rows" else 4 * DIM)
    assert len(journal) == len(journal.rows) == good
    want = np.random.default_rng(0).normal(size=(72, DIM)).astype("float32")
    got = journal.columns()[1]
    np.testing.assert_array_equal(got, want[: len(got)])
    if damage != "cut":  # as a killed process leaves it
        [line] = said
        assert str(folder) in line and f"{72 - len(got)} of 72" in line
    # What is written now follows what is whole.
    journal.add(99, [1.0], np.ones((1, DIM)))
    journal.close()
    journal = filled(folder, said)
    assert journal.rows[-1].tolist() == [99, 1]
    journal.close()


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe\n", b"null\n", b"00000000 [1, 2]\n", b"\0" * 30]
)
def test_damaged_side_files_are_named(folder, damage):
    said = []
    path = folder / "skipped.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + damage + b"".join(lines[2:]))
    journal = filled(folder, said)
    assert [k for k, _ in journal.skipped] == [3]
    [line] = said
    assert str(path) in line and len(journal) == 72
    journal.close()
    said.clear()
    (folder / "settings").write_bytes(damage)
    journal = filled(folder, said)
    assert len(journal) == 0 and journal.skipped == []
    [line] = said
    assert str(folder / "settings") in line
    journal.close()


def test_other_settings_begin_anew_without_a_word(folder):
    said = []
    journal = filled(folder, said, "b")
    assert len(journal) == 0 and said == []
    journal.remove()
    assert not folder.exists()


def test_a_line_holds_its_own_check_sum(folder):
    check, _, text = (folder / "skipped.jsonl").read_bytes().partition(b" ")
    line = text.splitlines()[0]
    assert int(check, 16) == zlib.crc32(line) and json.loads(line)[0] == 3
