"""The page and the pictures of attention maps, from arrays alone."""

import base64
import csv
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from keras_audio_ssl.evaluation import AttentionStudy
from keras_audio_ssl.evaluation import ClipAttention
from keras_audio_ssl.viz import attention_page
from keras_audio_ssl.viz import pruning_curves
from keras_audio_ssl.viz import relation_map
from keras_audio_ssl.viz import write_attention
from keras_audio_ssl.viz.attention_page import BLANK
from keras_audio_ssl.viz.attention_page import pack
from keras_audio_ssl.viz.kit import TEMPLATES
from keras_audio_ssl.viz.pictures import frame_shades
from tests.viz.test_doctor_page import NASTY
from tests.viz.test_doctor_page import Page

pytestmark = pytest.mark.no_backend

RATE = 16000


def clip(layers=2, heads=3, frames=50, phones=True, name="clip.wav", whole=0):
    """A clip with maps of all kinds, and two phones."""
    rng = np.random.default_rng(0)
    at = np.arange(frames)
    far = np.abs(at[:, None] - at)
    maps = np.exp(
        rng.standard_normal((layers, heads, frames, frames))
        - far * rng.uniform(0, 1, (layers, heads, 1, 1))
    )
    maps = (maps / maps.sum(-1, keepdims=True)).astype("float32")
    study = AttentionStudy(["a", name, "never"] if phones else [])
    labels = np.where(at < 20, 0, np.where(at < 40, 1, -1))
    study.add(maps, labels)
    wave = 0.2 * np.sin(np.arange(round(frames / 100 * RATE)) / 9)
    seconds = max(whole, len(wave) / RATE)
    said = [(0.0, 0.2, "a"), (0.2, 0.4, name)] if phones else []
    return ClipAttention(
        name, name, wave.astype("float32"), RATE, seconds, 100.0, maps, study,
        said,
    )  # fmt: skip


def data_of(text):
    found = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', text
    )
    assert len(found) == 1
    return json.loads(found[0])


def test_the_page_holds_the_maps():
    made = clip()
    data = data_of(attention_page(made))
    maps = made.maps.reshape(6, 50, 50)
    assert (data["layers"], data["heads"], data["frames"]) == (2, 3, 50)
    for coded, scale, want in zip(
        data["maps"], data["scales"], maps, strict=True
    ):
        raw = np.frombuffer(base64.b64decode(coded), "uint8")
        assert raw.shape == (2500,) and raw.max() == 255
        got = scale * (raw.reshape(50, 50) / 255) ** 2
        # Half a step of the square root.
        close = np.sqrt(want / scale) * scale / 255 + scale / 255**2
        assert (np.abs(got - want) <= close).all()
    assert data["phones"] == [[0.0, 0.2, "a"], [0.2, 0.4, "clip.wav"]]
    relation = np.stack(
        [
            np.frombuffer(base64.b64decode(one), "<i2").reshape(3, 3)
            for one in data["relation"]
        ]
    )
    blank = np.isnan(made.study.relative)
    np.testing.assert_array_equal(relation == BLANK, blank)
    np.testing.assert_allclose(
        relation[~blank] / 100, made.study.relative[~blank], atol=0.0051
    )
    assert [row["category"] for row in data["rows"]] == list(
        made.study.categories
    )
    shades = np.frombuffer(base64.b64decode(data["spectrogram"]), "uint8")
    assert shades.size == data["bands"] * 50


@pytest.mark.parametrize("phones", [False, True])
def test_the_page_is_whole_and_needs_no_network(phones):
    text = attention_page(clip(phones=phones), "now")
    page = Page(text)
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert not re.findall(r"https?://|@import|url\(", text)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    # What the script looks for is there.
    script = (TEMPLATES / "attention.js").read_text()
    wanted = set(re.findall(r'\$\("([\w-]+)"\)', script))
    only = set() if phones else {"relation", "relation-text"}
    assert wanted - set(ids) == only
    for kind, count in (("rect", 18), ("circle", 6), ("tr", 6)):
        heads = [
            a["data-head"]
            for t, a in page.tags
            if t == kind and "data-head" in a
        ]
        assert len(heads) == count and set(heads) == set("012345")
    assert "".join(page.texts).count("global") >= 1
    # The browser runs this script, and no other.
    [own] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert own == script and "default-src 'none'" in text


def test_names_from_strangers_stay_text():
    text = attention_page(clip(name=NASTY, whole=60), NASTY)
    for bad in ("\x1b", "\u202e", "\udcff", "<script>alert"):
        assert bad not in text
    page = Page(text)
    scripts = [a for t, a in page.tags if t == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
    assert sum("alert('x')" in t for t in page.texts) >= 3
    assert "alert('x')" in data_of(text)["phones"][1][2]


def test_the_size_is_that_of_the_maps():
    few, many = (len(attention_page(clip(1, h, 60))) for h in (2, 12))
    weights = 10 * 60 * 60
    assert 4 / 3 * weights < many - few < 4 / 3 * weights + 10 * 2500


def test_a_long_clip_says_so():
    assert "Of its 60.0 s, the first 0.5 s are shown" in attention_page(
        clip(whole=60)
    )
    assert 'id="cut"' not in attention_page(clip())


def test_a_map_of_one_frame():
    text = attention_page(clip(frames=1, phones=False))
    Page(text)
    assert data_of(text)["frames"] == 1


def test_weights_of_nothing_are_nothing():
    assert pack(np.zeros((2, 2)))[1] == 1.0


def test_a_column_of_the_spectrogram_is_its_frame():
    # A click in the middle of frame 30.
    wave = np.zeros(RATE // 2)
    wave[round(30.5 * 160)] = 1.0
    shades = frame_shades(wave, RATE, 50, 100.0)
    assert shades.shape == (80, 50)
    assert shades.astype(int).sum(0).argmax() == 30


def test_what_is_written(tmp_path):
    done = []
    made = clip(phones=True, name="$a_b$ <c>.wav")
    written = write_attention(
        made, tmp_path / "new", "now", lambda *n: done.append(n)
    )
    names = sorted(p.name for p in (tmp_path / "new").iterdir())
    assert sorted(p.name for p in written) == names
    assert done == [(i, 8) for i in range(1, 9)]
    # An encoder with fewer heads takes the place of one with more.
    write_attention(clip(1, 2), tmp_path / "new")
    left = (tmp_path / "new").glob("layer_*")
    assert sorted(p.name for p in left) == [
        "layer_01_head_01.png", "layer_01_head_02.png",
    ]  # fmt: skip
    write_attention(made, tmp_path / "new")
    heads = [f"layer_{i:02}_head_{h:02}.png" for i in (1, 2) for h in (1, 2, 3)]
    assert set(names) == {
        "attention.html", "heads.csv", "heads.json", "heads.png",
        "metrics.png", *heads,
    }  # fmt: skip
    for name in names:
        if name.endswith(".png"):
            data = Path(tmp_path, "new", name).read_bytes()
            assert data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 5000
    with open(tmp_path / "new" / "heads.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table = json.loads((tmp_path / "new" / "heads.json").read_text())
    assert len(rows) == len(table["heads"]) == 6
    for row, entry, want in zip(rows, table["heads"], made.rows(), strict=True):
        assert entry == want
        assert row["category"] == want["category"]
        assert float(row["diagonality"]) == want["diagonality"]
    assert table["frames"] == 50 and table["frame_rate"] == 100.0


def test_other_figures(tmp_path):
    made = clip()
    relation_map(made.study.relative[0], ["a", "b$", "c"], "title").savefig(
        tmp_path / "relation.png"
    )
    figure = pruning_curves(
        {"global first": [(0, 0.9), (1, 0.8)], "last": [(0, 0.9), (1, 0.5)]},
        "accuracy",
    )
    [axes] = figure.axes
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 2]
    figure.savefig(tmp_path / "curves.png")
    with pytest.raises(ValueError, match="`curves`"):
        pruning_curves({})
