import pytest

from keras_audio_ssl.cli.common import in_flags
from keras_audio_ssl.runs import Failure
from keras_audio_ssl.runs import Interrupted


@pytest.mark.parametrize(
    "function, command",
    [
        ("Go on with `resume=True`.", "Go on with --resume."),
        ("`batch_size=48` is too many", "--batch-size 48 is too many"),
        ('`settings["noise"]`: none', "--set noise: none"),
        ("`resume` and `drop_last=False`", "--resume and `drop_last=False`"),
    ],
)
def test_errors_are_in_the_words_of_the_command(function, command):
    names = ["resume", "batch_size", "settings"]
    for kind, kept in (
        (ValueError, ValueError),
        (UnicodeError, ValueError),
        (Failure, Failure),
        (Interrupted, Failure),
    ):
        with pytest.raises(ValueError) as raised, in_flags(names):
            raise kind(function)
        assert type(raised.value) is kept
        assert str(raised.value) == command


def test_other_errors_stay():
    with pytest.raises(OSError, match="`resume`"), in_flags(["resume"]):
        raise OSError("`resume`")
