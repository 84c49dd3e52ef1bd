import argparse

import pytest

from keras_audio_ssl.cli import COMMANDS
from keras_audio_ssl.cli import make_parser
from keras_audio_ssl.cli.arguments import in_flags
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
        (ImportError, ImportError),
        (UnicodeError, ValueError),
        (Failure, Failure),
        (Interrupted, Failure),
    ):
        with pytest.raises(kept) as raised, in_flags(names):
            raise kind(function)
        assert type(raised.value) is kept
        assert str(raised.value) == command


def test_other_errors_stay():
    with pytest.raises(OSError, match="`resume`"), in_flags(["resume"]):
        raise OSError("`resume`")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_everything_is_and_its_default(command):
    parser = make_parser(command)
    sub = parser._subparsers._group_actions[0].choices[command]
    text = " ".join(sub.format_help().split())
    hidden = argparse.SUPPRESS
    for action in sub._actions:
        assert action.help, action.dest
        if not any(action.default is x for x in (None, False, hidden)):
            assert f"(default: {action.default})" in text, action.dest
    assert "default: None" not in text and "default: False" not in text
