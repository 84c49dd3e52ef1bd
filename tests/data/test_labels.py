import os

import numpy as np
import pytest

from keras_audio_ssl.data import from_arrays
from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import from_huggingface
from keras_audio_ssl.data import from_manifest
from tests.data.test_sources import write

pytestmark = pytest.mark.no_backend

WAVES = np.full((40, 20), 0.1, "float32")


@pytest.fixture
def folder(tmp_path):
    for k in range(6):
        write(tmp_path / f"{k}.wav", seed=k)
    return tmp_path


def table(folder, labels, **options):
    rows = [f"{k}.wav,{label}\n" for k, label in enumerate(labels)]
    (folder / "m.csv").write_text("file,kind\n" + "".join(rows))
    options = {"label": "kind", "shuffle": False, **options}
    return from_manifest(folder / "m.csv", 0.05, 2, **options)


def chosen(data):
    """Names of the clips with a label."""
    names = [os.path.basename(name) for name in data.files]
    return {n for n, y in zip(names, data.labels, strict=True) if y >= 0}


def test_an_empty_cell_and_minus_one_are_no_label(folder):
    labels = ["b", "", "a", "-1", " ", "a"]
    data = table(folder, labels, unlabelled=True)
    assert data.classes == ["a", "b"]
    assert data.labels.tolist() == [1, -1, 0, -1, -1, 0]
    assert data.labels.dtype == np.int32
    assert [data.batch(0, s)[1].tolist() for s in range(3)] == [
        [1, -1],
        [0, -1],
        [-1, 0],
    ]
    other = table(folder, labels, unlabelled=True, classes=["b", "c", "a"])
    assert other.labels.tolist() == [0, -1, 2, -1, -1, 2]
    assert other.classes == ["b", "c", "a"]


def test_whole_numbers_stay_sorted_by_value(folder):
    data = table(folder, [10, -1, 9, "", 9, 100], unlabelled=True)
    assert data.classes == ["9", "10", "100"]
    assert data.labels.tolist() == [1, -1, 0, -1, 0, 2]


def test_classes_are_those_of_the_whole_column(folder):
    (folder / "m.csv").write_text(
        "file,kind,split\n0.wav,a,x\n1.wav,,x\n2.wav,b,y\n3.wav,,y\n"
    )
    read = lambda **options: from_manifest(
        folder / "m.csv", 0.05, 1, label="kind", shuffle=False, **options
    )
    data = read(where="split=x", unlabelled=True)
    assert data.classes == ["a", "b"] and data.labels.tolist() == [0, -1]
    data = read(where="split=x")
    assert data.classes == ["a", "b"] and data.labels.tolist() == [0]
    (folder / "m.csv").write_text("file,kind,split\n0.wav,a,x\n1.wav,,y\n")
    assert read(where="split=x").classes == ["a"]


@pytest.mark.parametrize("cell", ["", "  "])
def test_clips_without_label_are_left_out_and_counted(folder, cell, caplog):
    data = table(folder, ["a", " b", cell, "b ", cell])
    assert data.classes == ["a", "b"] and data.labels.tolist() == [0, 1, 1]
    assert data.skipped == [
        ("2.wav, line 4", "no label"),
        ("4.wav, line 6", "no label"),
    ]
    [said] = caplog.messages
    assert "left out 2 of 5 clips" in said and "unlabelled=True" in said
    with pytest.raises(ValueError, match="None of the 2 clips of .*m.csv has"):
        table(folder, [cell, cell])
    # -1 is a class like any other, as in tables of -1 and 1.
    assert table(folder, [-1, 1, -1]).classes == ["-1", "1"]


@pytest.mark.parametrize("classes", [None, ["a", "b"]])
def test_nothing_but_clips_without_label(folder, classes):
    with pytest.raises(ValueError, match="None of the 3 clips of .*m.csv has"):
        table(folder, ["", "-1", ""], unlabelled=True, classes=classes)


def test_a_class_cannot_be_named_as_no_label(folder):
    with pytest.raises(ValueError, match="must not hold.*'-1'"):
        table(folder, ["a", "-1"], unlabelled=True, classes=["-1", "a"])


@pytest.mark.parametrize(
    "labels, codes, classes",
    [
        ([2, -1, 0, -1], [2, -1, 0, -1], ["0", "1", "2"]),
        (["b", "", "a", "-1"], [1, -1, 0, -1], ["a", "b"]),
        (["b", None, "a", None], [1, -1, 0, -1], ["a", "b"]),
        ([1, None, 0, None], [1, -1, 0, -1], ["0", "1"]),
    ],
)
def test_arrays_and_rows(labels, codes, classes):
    data = from_arrays(WAVES[:4], labels, batch_size=1, unlabelled=True)
    assert data.labels.tolist() == codes and data.classes == classes
    rows = [
        {"audio": {"array": wave, "sampling_rate": 16000}, "kind": label}
        for wave, label in zip(WAVES[:4], labels, strict=True)
    ]
    data = from_huggingface(
        rows, label="kind", batch_size=1, unlabelled=True
    )  # fmt: skip
    assert data.labels.tolist() == codes and data.classes == classes


@pytest.mark.parametrize(
    "labels, unlabelled, message",
    [
        ([0, -1, 1], False, "0 to 1. Received: -1 to 1"),
        ([0, -2, 1], True, "0 to 1, or be -1. Received: -2 to 1"),
        ([0, 1.5, None], False, "integers or names. Received: float64"),
        ([True, False, True], False, "integers or names. Received: bool"),
        (["a", "-1", "b"], True, None),
        ([None, np.nan, ""], False, "None of the 3 clips of `y` has"),
        ([-1, -1, -1], True, "None of the 3 clips"),
    ],
)
def test_wrong_arrays(labels, unlabelled, message):
    make = lambda: from_arrays(
        WAVES[:3], labels, batch_size=1, unlabelled=unlabelled
    )
    if message is None:
        assert make().num_clips == 3
        return
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "labels, codes, classes",
    [
        (["b ", None, " b", "a", np.nan, "  "], [1, 1, 0], ["a", "b"]),
        ([2, None, 0, 1, None, None], [2, 0, 1], ["0", "1", "2"]),
        ([2.0, np.nan, 0.0, 1.0, np.nan, np.nan], [2, 0, 1], ["0", "1", "2"]),
        (["-1", "", "1", "1", "", ""], [0, 1, 1], ["-1", "1"]),
    ],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_labels_of_arrays_and_rows(labels, codes, classes, as_array, caplog):
    rows = [
        {"audio": {"array": wave, "sampling_rate": 16000}, "kind": label}
        for wave, label in zip(WAVES[:6], labels, strict=True)
    ]
    if as_array:
        kind = float if isinstance(labels[0], float) else object
        labels = np.array(labels, kind)
    for data, first in (
        (from_arrays(WAVES[:6], labels, batch_size=1), "array 1"),
        (from_huggingface(rows, label="kind", batch_size=1), "row 1"),
    ):
        assert data.labels.tolist() == codes and data.classes == classes
        assert [why for _, why in data.skipped] == ["no label"] * 3
        assert data.skipped[0][0] == first
        assert "left out 3 of 6 clips" in caplog.messages[-1]
        assert len(data.files) == 3 and first not in data.files


def test_missing_values_of_other_libraries():
    class NAType:
        """Of pandas: it cannot be compared."""

        def __bool__(self):
            raise TypeError

        def __ne__(self, other):
            return self

        __hash__ = object.__hash__

    data = from_arrays(WAVES[:3], ["a", NAType(), "b"], batch_size=1)
    assert data.labels.tolist() == [0, 1]


def test_blanks_are_none_of_a_table(folder):
    (folder / "m.csv").write_text(
        "file, kind ,split\n 0.wav, dog, train\n1.wav,dog ,train \n"
        "2.wav,cat, test\n3.wav,cat,train\n"
    )
    read = lambda **options: from_manifest(
        folder / "m.csv", 0.05, 1, label="kind", shuffle=False, **options
    )
    assert read().classes == ["cat", "dog"]
    assert read(where="split=train").labels.tolist() == [1, 1, 0]
    data = read(where={"split": " test"}, classes=["dog ", "cat"])
    assert data.labels.tolist() == [1] and data.classes == ["dog", "cat"]


def kept(labels, fraction, seed=0, **options):
    size = len(labels)
    data = from_arrays(
        WAVES[:size], labels, batch_size=1, label_fraction=fraction, seed=seed,
        **options,
    )  # fmt: skip
    return data.labels


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_each_class_keeps_its_share(fraction):
    labels = np.repeat([0, 1, 2, 3], [20, 10, 9, 1])
    got = kept(labels, fraction)
    assert set(got[got != labels]) <= {-1}
    for number, size in enumerate([20, 10, 9, 1]):
        expected = max(1, round(fraction * size))
        assert (got == number).sum() == expected


def test_a_larger_share_keeps_what_a_smaller_one_does():
    labels = np.arange(40) % 3
    shares = [kept(labels, f) >= 0 for f in (0.05, 0.2, 0.5, 0.8, 1.0)]
    for small, large in zip(shares, shares[1:], strict=False):
        assert (large | ~small).all() and large.sum() > small.sum()


def test_the_choice_is_the_seeds():
    labels = np.arange(40) % 2
    first = kept(labels, 0.3, seed=1)
    np.testing.assert_array_equal(kept(labels, 0.3, seed=1), first)
    others = [kept(labels, 0.3, seed=s).tolist() for s in (0, 2, 2**64 - 1)]
    assert first.tolist() not in others
    # It is fixed for all versions: runs are resumed, results compared.
    assert np.flatnonzero(first >= 0).tolist() == [
        2, 9, 11, 13, 15, 16, 26, 28, 29, 34, 35, 36,
    ]  # fmt: skip


def test_no_clip_without_label_gets_one():
    labels = np.arange(40) % 4 - 1
    got = kept(labels, 0.5, unlabelled=True)
    assert (got[labels < 0] == -1).all()
    assert [(got == k).sum() for k in range(3)] == [5, 5, 5]


def test_the_choice_goes_with_the_names(folder, tmp_path_factory):
    labels = ["a", "b", "a", "b", "a", "b"]
    first = table(folder, labels, label_fraction=0.5)
    assert len(chosen(first)) == 4
    # In another order,
    lines = (folder / "m.csv").read_text().splitlines()
    (folder / "r.csv").write_text("\n".join(lines[:1] + lines[:0:-1]))
    again = from_manifest(
        folder / "r.csv", 0.05, 2, label="kind", label_fraction=0.5
    )
    assert again.files != first.files and chosen(again) == chosen(first)
    # elsewhere,
    elsewhere = tmp_path_factory.mktemp("other")
    for k in range(6):
        write(elsewhere / f"{k}.wav", seed=k)
    assert chosen(table(elsewhere, labels, label_fraction=0.5)) == (
        chosen(first)
    )
    # and of usable files only.
    lost = sorted(chosen(first))[0]
    (folder / lost).write_bytes(b"")
    less = table(folder, labels, label_fraction=0.67)
    for number in (0, 1):
        size = sum(k % 2 == number and f"{k}.wav" != lost for k in range(6))
        assert (less.labels == number).sum() == round(0.67 * size)


def test_parts_of_one_file_are_told_apart(folder):
    rows = [f"0.wav,{0.01 * k:.2f},{0.01 * k + 0.01:.2f},a" for k in range(8)]
    (folder / "m.csv").write_text("\n".join(["file,start,end,kind", *rows]))
    masks = {
        tuple(
            from_manifest(
                folder / "m.csv", None, 2, label="kind", label_fraction=0.5,
                seed=seed,
            ).labels
        )
        for seed in range(6)
    }  # fmt: skip
    assert len(masks) > 3 and {mask.count(0) for mask in masks} == {4}


def test_signature_tells_labels_apart():
    labels = np.arange(40) % 2
    make = lambda y=labels, **options: from_arrays(
        WAVES, y, batch_size=4, **options
    ).signature()
    assert make() == make()
    signatures = [
        make(),
        make(label_fraction=0.5),
        make(label_fraction=0.25),
        make(1 - labels),
        make(classes=["x", "y"]),
        make(None),
    ]
    for k, one in enumerate(signatures):
        assert one not in signatures[:k]
    assert make(label_fraction=0.5)["label_fraction"] == 0.5


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, "1", None, np.nan])
def test_wrong_fraction(fraction):
    with pytest.raises(ValueError, match="`label_fraction` must be above 0"):
        kept([0, 1], fraction)


def test_a_fraction_of_no_labels(folder):
    with pytest.raises(ValueError, match="`label_fraction` must be 1.0 .*0.5"):
        from_folder(folder, 0.05, 2, label_fraction=0.5)
