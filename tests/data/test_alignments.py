"""Utterances whose words' places others have written down."""

import csv

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.data import from_alignments
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data import spoken_words
from keras_audio_ssl.data import synthetic

pytestmark = pytest.mark.no_backend

RATE = 8000
WORDS = {
    "a/1": [(0.1, 0.3, "one"), (0.3, 0.45, "two"), (0.6, 0.9, 'th"ree')],
    "a/2": [(0.05, 0.2, "four"), (0.25, 0.5, "one")],
}
LENGTHS = {"a/1": 1.0, "a/2": 0.8}


def write_audio(folder, **lengths):
    """Ramps, whose every sample tells where it lies."""
    for name, seconds in {**LENGTHS, **lengths}.items():
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = round(seconds * RATE)
        wave = np.arange(1, samples + 1, dtype="float32") / 20000
        soundfile.write(path, wave, RATE, "FLOAT")
    return folder


def with_silence(name):
    """The words of an utterance and what is between them, without gaps."""
    at, found = 0.0, []
    for start, end, word in [*WORDS[name], (LENGTHS[name],) * 2 + ("",)]:
        if start > at:
            found.append((at, start, ""))
        if end > start:
            found.append((start, end, word))
        at = end
    return found


def long_textgrid(path, tiers, encoding="utf-8"):
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", "xmax = 1", "tiers? <exists>"]
    lines += [f"size = {len(tiers)}", "item []:"]
    for n, (name, rows) in enumerate(tiers.items(), 1):
        lines += [f"    item [{n}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0"]
        lines += ["        xmax = 1", f"        intervals: size = {len(rows)}"]
        for k, (start, end, word) in enumerate(rows, 1):
            word = word.replace('"', '""')
            lines += [
                f"        intervals [{k}]:",
                f"            xmin = {start}",
            ]
            lines += [
                f"            xmax = {end}",
                f'            text = "{word}"',
            ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def short_textgrid(path, tiers):
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0"]
    lines += ["1", "<exists>", str(len(tiers))]
    for name, rows in tiers.items():
        lines += ['"IntervalTier"', f'"{name}"', "0", "1", str(len(rows))]
        for start, end, word in rows:
            word = word.replace('"', '""')
            lines += [str(start), str(end), f'"{word}"']
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def textgrids(folder, writer=long_textgrid, **options):
    for name in WORDS:
        rows = with_silence(name)
        phones = [(0, 0.5, "ph"), (0.5, 1, "on")]
        tiers = {"phones": phones, "words": rows}
        writer(folder / f"{name}.TextGrid", tiers, **options)
    return folder


def write_csv(path, rows, label="label"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["file", "start", "end", label], *rows])
    return path


def table(folder, label="label", ending=".wav"):
    return write_csv(
        folder / "words.csv",
        [
            (name + ending, start, end, word)
            for name in WORDS
            for start, end, word in with_silence(name)
        ],
        label,
    )


def ctm(folder):
    lines = [";; a comment"]
    for name in WORDS:
        for start, end, word in with_silence(name):
            word = word or "<eps>"
            lines.append(f"{name} 1 {start} {end - start:.6f} {word} 0.98")
    path = folder / "words.ctm"
    path.write_text("\n".join(lines))
    return path


def librispeech(folder):
    lines = []
    for name in WORDS:
        rows = with_silence(name)
        words = ",".join(word for _, _, word in rows)
        ends = ",".join(str(end) for _, end, _ in rows)
        lines.append(f'{name.split("/")[1]} "{words}" "{ends}"')
    path = folder / "a" / "12-34.alignment.txt"
    path.write_text("\n".join(lines))
    return path


def in_utf16(folder):
    return textgrids(folder, encoding="utf-16")


def short(folder):
    return textgrids(folder, short_textgrid)


def elsewhere(folder):
    # In a folder of their own, as an aligner leaves them.
    return textgrids(folder.parent / "aligned", short_textgrid)


def of_syllables(folder):
    return table(folder, "syllable")


def of_words(folder):
    return table(folder, "word", "")


WRITERS = [textgrids, in_utf16, short, elsewhere, table, of_syllables,
           of_words, ctm, librispeech]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS, ids=lambda w: w.__name__)
def test_every_format_says_the_same(write, tmp_path):
    folder = write_audio(tmp_path / "audio")
    data = from_alignments(
        folder, write(folder), batch_size=2, sample_rate=RATE, shuffle=False
    )
    assert not data.skipped
    x = data.batch(0, 0)
    assert x["segments"].shape == (2, 3, 2)
    assert x["segments"].dtype == np.int32
    for found, words in zip(x["segments"], WORDS.values(), strict=True):
        want = [(round(s * RATE), round(e * RATE)) for s, e, _ in words]
        np.testing.assert_array_equal(found[: len(want)], want)
        assert not found[len(want) :].any()
    spoken = list(spoken_words(data))
    words = [word for rows in WORDS.values() for _, _, word in rows]
    assert [word for _, word in spoken] == words
    place = round(0.25 * RATE)
    wave, _ = spoken[-1]
    np.testing.assert_allclose(wave[0] * 20000, place + 1, rtol=1e-5)
    assert len(wave) == round(0.25 * RATE)


@pytest.mark.parametrize("beside", [textgrids, ctm, librispeech])
def test_alignments_beside_the_audio_are_found(beside, tmp_path):
    folder = write_audio(tmp_path)
    beside(folder)
    assert from_alignments(folder, batch_size=2).num_clips == 2


def test_a_folder_without_alignments_is_told_what_to_give(tmp_path):
    folder = write_audio(tmp_path)
    sentence = r"give `alignments`, .*TextGrid.*CTM.*alignment\.txt.*CSV"
    with pytest.raises(ValueError, match=sentence):
        from_alignments(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=sentence):
        from_alignments(folder, tmp_path / "empty")
    with pytest.raises(ValueError, match="no such file: .*nowhere"):
        from_alignments(folder, tmp_path / "nowhere")
    (tmp_path / "x.txt").write_text("hello\n")
    with pytest.raises(ValueError, match=r"x\.txt is no alignment"):
        from_alignments(folder, tmp_path / "x.txt")


@pytest.mark.parametrize("rate", [8000, 16000, 5512])
def test_crops_hold_the_words_that_lie_in_them_whole(rate, tmp_path):
    folder = write_audio(tmp_path)
    data = from_alignments(
        folder, table(folder), 0.5, 2, sample_rate=rate, seed=1
    )
    # From 0.3 on, two words fit into half a second; three never do.
    assert data.batch(0, 0)["segments"].shape == (2, 2, 2)
    seen = set()
    for epoch in range(40):
        x = data.batch(epoch, 0)
        for wave, length, segments in zip(
            x["waveform"], x["lengths"], x["segments"], strict=True
        ):
            assert (segments[:, 1] <= length).all()
            for start, end in segments[segments[:, 1] > 0]:
                # Where it lies in its file, and how long it is.
                at = wave[start] * 20000 / RATE
                seconds = (end - start) / rate
                known = [
                    (begin, word)
                    for words in WORDS.values()
                    for begin, stop, word in words
                    if abs(begin - at) < 0.002
                    and abs(stop - begin - seconds) < 1.5 / rate
                ]
                assert len(known) == 1
                seen.add(known[0])
            count = (segments[:, 1] > 0).sum()
            assert not segments[count:].any()
    assert len(seen) == 5


def test_what_cannot_be_used_is_named(tmp_path):
    folder = write_audio(tmp_path, unaligned=0.5, silent=0.5, single=0.5)
    (folder / "broken.wav").write_bytes(b"RIFFnonsense")
    rows = [
        ("a/1.wav", 0.1, 0.3, "good"),
        ("a/1.wav", 0.05, 0.08, "unsorted"),
        ("a/1.wav", 0.25, 0.4, "overlapping"),
        ("a/1.wav", 0.2, 0.22, "inside"),
        ("a/1.wav", "", 0.5, "startless"),
        ("a/1.wav", "x", 0.5, "wordy"),
        ("a/1.wav", "nan", 0.5, "nan"),
        ("a/1.wav", 0.5, 0.5, "empty"),
        ("a/1.wav", 0.6, 0.5, "backward"),
        ("a/1.wav", -0.1, 0.5, "negative"),
        ("a/1.wav", 0.45, 1.5, "long"),
        ("a/1.wav", 3, 4, "outside"),
        ("a/1.wav", 0.5, 0.6, "fine"),
        ("a/1.wav", 0.9, 1.01, "rounded"),
        ("a/2.wav", 0.1, 0.2, "one"),
        ("a/2.wav", 0.2, 0.3, "two"),
        ("missing.wav", 0.1, 0.2, "one"),
        ("silent.wav", 0.1, 0.2, "sil"),
        ("single.wav", 0.1, 0.2, "alone"),
        ("broken.wav", 0.1, 0.2, "one"),
    ]
    path = write_csv(folder / "words.csv", rows)
    data = from_alignments(folder, path, batch_size=2, shuffle=False)
    assert data.num_clips == 2
    assert [word for _, word in spoken_words(data)] == [
        "good", "fine", "rounded", "one", "two",
    ]  # fmt: skip
    segments = data.batch(0, 0)["segments"]
    np.testing.assert_array_equal(segments[0, 2], [14400, 16000])
    skipped = dict(data.skipped)
    for word, reason in {
        "unsorted": "out of order",
        "overlapping": "overlaps the one before",
        "inside": "overlaps",
        "startless": "no time",
        "wordy": "no time",
        "nan": "no time",
        "empty": "not after its start",
        "backward": "not after its start",
        "negative": "before its file",
        "long": "beyond its file",
        "outside": "beyond its file",
    }.items():
        (line,) = (n for n, row in enumerate(rows, 2) if row[3] == word)
        assert reason in skipped.pop(f"{path}, line {line} ({word})")
    assert skipped.pop(f"{path}: missing.wav") == f"no such audio in {folder}"
    for name, reason in {
        "unaligned": "no alignment",
        "silent": "silence only",
        "single": "words: 1, at least 2",
        "broken": "",
    }.items():
        assert reason in skipped.pop(str(folder / f"{name}.wav"))
    assert not skipped
    data.write_skipped(tmp_path / "skipped.csv")
    assert len((tmp_path / "skipped.csv").read_text().splitlines()) == 17


def test_broken_files_of_alignments_are_named(tmp_path):
    folder = textgrids(write_audio(tmp_path, b=0.5, c=0.5, d=0.5))
    long_textgrid(folder / "b.TextGrid", {"x": [], "y": []})
    text = (folder / "a/1.TextGrid").read_text()
    (folder / "c.TextGrid").write_text(text[: len(text) // 2])
    (folder / "d.TextGrid").write_bytes(b"ooBinaryFile\x08TextGrid")
    data = from_alignments(folder, batch_size=2)
    assert data.num_clips == 2
    skipped = dict(data.skipped)
    assert "Its tiers: 'x', 'y'" in skipped[str(folder / "b.TextGrid")]
    for name in ("c", "d"):
        reason = skipped[str(folder / f"{name}.TextGrid")]
        assert reason == "no TextGrid in text form, or cut off"
    other = librispeech(folder)
    other.write_text(
        other.read_text() + '\n3 "A,B" "0.1"\nnonsense\n5 ",A," "0.1,x,0.3"\n'
    )
    data = from_alignments(folder, other, batch_size=2)
    skipped = dict(data.skipped)
    assert skipped[f"{other}, line 3"] == "2 words and 1 end times"
    assert "expected" in skipped[f"{other}, line 4"]
    with pytest.raises(ValueError, match="No utterance of .* can be used"):
        other.write_text('1 ",A," "0.1,0.2,0.3"')
        from_alignments(folder, other)


def test_a_tier_and_a_column_can_be_named(tmp_path):
    folder = write_audio(tmp_path)
    short_textgrid(
        folder / "a/1.TextGrid",
        {"x": with_silence("a/1"), "y": [(0, 0.4, "first"), (0.4, 1, "last")]},
    )
    data = from_alignments(folder, tier="y", batch_size=1)
    assert [word for _, word in spoken_words(data)] == ["first", "last"]
    path = folder / "words.csv"
    path.write_text(
        "file,start,end,phone,syllable\na/1,0.1,0.2,p,s\na/1,0.2,0.3,q,t\n"
    )
    with pytest.raises(ValueError, match="`label`.* phone, syllable"):
        from_alignments(folder, path)
    data = from_alignments(folder, path, label="syllable", batch_size=1)
    assert [word for _, word in spoken_words(data)] == ["s", "t"]


def test_speakers_of_one_recording_do_not_meet(tmp_path):
    folder = write_audio(tmp_path)
    long_textgrid(
        folder / "a/1.TextGrid",
        {
            "anna - words": [(0.1, 0.2, "a"), (0.5, 0.6, "c")],
            "bob - words": [(0.2, 0.4, "b"), (0.45, 0.7, "d")],
        },
    )
    data = from_alignments(folder, batch_size=2, shuffle=False)
    assert data.num_clips == 2
    assert [word for _, word in spoken_words(data)] == ["a", "c", "b", "d"]
    np.testing.assert_array_equal(
        data.batch(0, 0)["segments"][:, :, 0] / 16000, [[0.1, 0.5], [0.2, 0.45]]
    )


def test_a_manifest_says_which_files(tmp_path):
    folder = write_audio(tmp_path)
    manifest = folder / "manifest.csv"
    manifest.write_text("file,split\na/1.wav,train\na/2.wav,test\n")
    data = from_alignments(
        manifest, table(folder), batch_size=1, where="split=test"
    )
    assert data.files == [str(folder / "a/2.wav")]
    assert not data.skipped
    with pytest.raises(ValueError, match="`where` needs a manifest"):
        from_alignments(folder, table(folder), where="split=test")


def test_audio_of_one_name_in_two_folders_is_told_by_its_path(tmp_path):
    folder = write_audio(tmp_path, **{"b/1": 1.0})
    rows = [(n, 0.1, 0.2, "x") for n in ("a/1", "b/1")]
    rows += [(n, 0.2, 0.3, "y") for n in ("a/1", "b/1")]
    rows += [("1", 0.2, 0.3, "z")]
    path = write_csv(folder / "words.csv", rows)
    data = from_alignments(folder, path, batch_size=2)
    assert data.num_clips == 2
    assert dict(data.skipped)[f"{path}: 1"] == "2 audio files have this name"


def test_the_signature_tells_other_alignments(tmp_path):
    folder = write_audio(tmp_path)
    path = table(folder)
    one = from_alignments(folder, path, batch_size=2).signature()
    path.write_text(path.read_text().replace("0.45", "0.44"))
    other = from_alignments(folder, path, batch_size=2).signature()
    assert one["files"] != other["files"]
    assert one["extras"] == {"segments": [[3, 2], "int32"]}


def test_synthetic_speech_with_its_syllables():
    data = synthetic(
        None, 4, kind="speech", segments=True, clips=8, shuffle=False
    )
    corpus = data._clips._arrays
    x = data.batch(0, 0)
    for i in range(4):
        want = np.array([s[:2] for s in corpus.syllables(i)])
        found = x["segments"][i, : len(want)]
        np.testing.assert_array_equal(found, np.round(want * 16000))
        assert not x["segments"][i, len(want) :].any()
    words = [word for _, word in spoken_words(data)]
    assert words[0] == corpus.syllables(0)[0][2]
    with pytest.raises(ValueError, match="`segments=True` needs"):
        synthetic(1.0, 4, segments=True)
    with pytest.raises(ValueError, match="knows no words"):
        list(spoken_words(synthetic(1.0, 4, clips=8)))


def test_words_are_read_as_the_file_has_them(tmp_path):
    folder = write_audio(tmp_path)
    data = from_alignments(folder, table(folder), batch_size=2)
    rate = data.sample_rate
    for (wave, _), (start, end, _) in zip(
        spoken_words(data), WORDS["a/1"], strict=False
    ):
        want = read_audio(folder / "a/1.wav", rate, start, end - start)
        np.testing.assert_allclose(wave, want, atol=1e-5)
