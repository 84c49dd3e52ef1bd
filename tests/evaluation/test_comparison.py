"""What an encoder is put beside."""

import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.evaluation import readings
from keras_audio_ssl.evaluation import untrained
from keras_audio_ssl.evaluation.comparison import reading_rows


@pytest.fixture(scope="module")
def encoder():
    return kas.COLA(preset="tiny").encoder


def own_weights(encoder):
    return [ops.convert_to_numpy(v) for v in encoder.weights]


def test_each_row_is_what_it_is_called(encoder):
    rows = []
    for row, one in readings(encoder, 2):
        rows.append(row)
        if row == "clip":
            assert one is encoder
        if row == "levels":
            assert one.encoder is encoder
        if row.endswith("_untrained"):
            fresh = one if row.startswith("clip") else one.encoder
            drawn = untrained(encoder, rows.count(row) - 1)
            for a, b in zip(
                own_weights(fresh), own_weights(drawn), strict=True
            ):
                np.testing.assert_array_equal(a, b)
    assert rows == reading_rows(encoder, 2) == [
        "log_mel", "clip", "levels", "clip_untrained", "levels_untrained",
        "clip_untrained", "levels_untrained",
    ]  # fmt: skip


def test_levels_are_left_out_where_they_are_joined_or_not_wanted(encoder):
    rows = ["log_mel", "clip", "clip_untrained", "clip_untrained"]
    joined = kas.Readout(encoder)
    for one, levels in ((joined, True), (encoder, False)):
        assert reading_rows(one, 2, levels) == rows
        assert [row for row, _ in readings(one, 2, levels)] == rows
