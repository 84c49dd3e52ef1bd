import pytest

from keras_audio_ssl._files import drafts
from keras_audio_ssl._files import write_text
from keras_audio_ssl._files import written_whole
from keras_audio_ssl.runs.folder import claim
from keras_audio_ssl.runs.folder import config_file
from keras_audio_ssl.runs.folder import contents_file
from keras_audio_ssl.runs.folder import drop_drafts
from keras_audio_ssl.runs.folder import empty
from keras_audio_ssl.runs.folder import metrics_file

# What `config.json` of a run holds, and more.
RUN = '{"method": "cola", "versions": {}}'


@pytest.fixture
def place(tmp_path):
    """Where a run may be written: its output and its folder."""
    folder = tmp_path / "x.run"
    folder.mkdir()
    return tmp_path / "x.keras", folder


def test_an_empty_place_is_free(place):
    output, folder = place
    assert claim(output, folder) is False
    # What a run leaves that was killed before it began.
    contents_file(folder).touch()
    (folder / ".config-abcd1234.kas-draft.json").touch()
    assert claim(output, folder) is False
    folder.rename(folder.with_name("y.run"))
    assert claim(output, folder) is False


def test_half_a_run_is_gone_on_with(place):
    output, folder = place
    config_file(folder).touch()
    assert claim(output, folder) is True
    output.touch()
    assert claim(output, folder) is True
    metrics_file(folder).touch()
    with pytest.raises(ValueError, match="`resume=True`"):
        claim(output, folder)
    assert claim(output, folder, resume=True) is True
    config_file(folder).write_text(RUN)
    assert claim(output, folder, overwrite=True) is False


def test_what_no_run_wrote_is_not_replaced(place):
    output, folder = place
    (folder / "notes.txt").touch()
    with pytest.raises(ValueError, match="`overwrite=True`"):
        claim(output, folder)
    (folder / "notes.txt").unlink()
    output.touch()
    with pytest.raises(ValueError, match="`overwrite=True`"):
        claim(output, folder)
    with pytest.raises(ValueError, match="there is no run"):
        claim(output, folder, resume=True)


def test_drafts_of_killed_runs_go(place):
    output, folder = place
    kept = [
        output.with_name(name)
        # The last two are drafts of other files, one of them a link.
        for name in ("x.other.keras", ".x-best.keras", ".x-abcd1234.keras",
                     ".x-y-abcd1234.kas-draft.keras")
    ]  # fmt: skip
    for path in [*kept, output.with_name(".x-abcd1234.kas-draft.keras")]:
        path.touch()
    kept.append(output.with_name(".x-abcd0000.kas-draft.keras"))
    kept[-1].symlink_to(kept[0])
    (folder / ".config-abcd1234.kas-draft.json").touch()
    drop_drafts([output, config_file(folder)])
    assert sorted(output.parent.iterdir()) == sorted([*kept, folder])
    assert not list(folder.iterdir())


def test_a_draft_is_known_by_its_name(tmp_path):
    path = tmp_path / "a[b]-c.d.csv"
    with written_whole(path) as draft:
        assert drafts(path) == [draft]
        assert drafts(tmp_path) == [draft]
        assert drafts(tmp_path / "a[b]-c.csv") == []
    assert drafts(path) == []


def test_overwriting_deletes_what_a_run_wrote(place):
    output, folder = place
    mine = [folder / "notes.txt", folder / "checkpoints" / "best.keras"]
    theirs = [
        output,
        folder / "config.json",
        folder / "history.csv",
        folder / "checkpoints" / "step_000000010.keras",
        folder / "checkpoints" / ".step_000000010-abcd1234.kas-draft.keras",
        folder / "tensorboard" / "events.out.tfevents.1.host",
    ]
    for path in mine + theirs:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    # Nothing says that this is a run.
    for text in ("", "{}", '{"method": "cola"}', "[" * 9999):
        config_file(folder).write_text(text)
        with pytest.raises(ValueError, match="deletes runs alone"):
            claim(output, folder, overwrite=True)
        with pytest.raises(ValueError, match="deletes runs alone"):
            empty([output], folder)
    assert all(path.exists() for path in mine + theirs)
    config_file(folder).write_text(RUN)
    assert claim(output, folder, overwrite=True) is False
    empty([output], folder)
    assert all(path.exists() for path in mine)
    assert not any(path.exists() for path in theirs)


def test_overwriting_follows_no_link(place, tmp_path):
    output, folder = place
    home = tmp_path / "home"
    home.mkdir()
    kept = [home / "step_000000001.keras", home / "files.csv"]
    for path in kept:
        path.touch()
    config_file(folder).write_text(RUN)
    (folder / "checkpoints").symlink_to(home)
    (folder / "files.csv").symlink_to(kept[1])
    empty([output], folder)
    assert all(path.exists() for path in kept)
    # The folder itself, even where a run lies behind the link.
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(home)
    config_file(home).write_text(RUN)
    with pytest.raises(ValueError, match="is a link"):
        claim(output, folder, overwrite=True)
    with pytest.raises(ValueError, match="is a link"):
        empty([output], folder)
    assert all(path.exists() for path in kept)


def test_what_a_planted_link_points_to_stays(tmp_path):
    theirs, path = tmp_path / "theirs", tmp_path / "files.csv"
    theirs.write_text("theirs")
    path.symlink_to(theirs)
    write_text(path, "ours")
    assert theirs.read_text() == "theirs"
    assert path.read_text() == "ours" and not path.is_symlink()
