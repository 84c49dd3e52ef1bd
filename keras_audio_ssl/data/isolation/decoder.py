"""The process behind `IsolatedFile`, which decodes what it is asked for.

A request has a head (`REQUEST`) and a body, and so has an answer (`ANSWER`):
nothing but numbers, text and samples, in known sizes.
"""

import os
import signal
import struct
from typing import Any

from keras_audio_ssl._child import ANSWER as ANSWER
from keras_audio_ssl._child import ERROR
from keras_audio_ssl._child import READY as READY
from keras_audio_ssl._child import REASON_BYTES as REASON_BYTES
from keras_audio_ssl._child import limit
from keras_audio_ssl._child import ready
from keras_audio_ssl._child import reason
from keras_audio_ssl._child import receive
from keras_audio_ssl._child import send
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioFile

# What to do, two numbers, seconds allowed, bytes of the body.
REQUEST = struct.Struct("<cqqqQ")
OPEN_PATH, OPEN_BYTES, CLOSE = b"P", b"B", b"C"
READ, READ_CHANNELS = b"R", b"A"
# Answers, beside `READY` and `ERROR`.
OPENED, WAVE = b"O", b"W"
# Body of OPENED: rate, the two facts, channels, floating point or not, format.
SHAPE = struct.Struct("<qqqq?64s")
# The parent ends a decoder that is late; this is for one that is gone.
ALONE_SECONDS = 10


def main(memory: str) -> None:
    """Answers requests from standard input on standard output.

    Args:
        memory: Bytes of address space the process may have.
    """
    answers = ready()
    limit({"RLIMIT_AS": int(memory), "RLIMIT_CORE": 0})
    _serve(answers)


def _serve(answers: int) -> None:
    alarm = getattr(signal, "alarm", None)
    if alarm:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    audio: Any = None
    while head := receive(REQUEST.size):
        task, a, b, seconds, size = REQUEST.unpack(head)
        body: Any = receive(size)
        if alarm:
            alarm(seconds + ALONE_SECONDS)
        try:
            if task in (READ, READ_CHANNELS):
                read = audio.read if task == READ else audio.read_channels
                answer, body = WAVE, read(a, b).reshape(-1).view("uint8").data
            else:
                if audio is not None:
                    audio.close()
                    audio = None
                if task == CLOSE:
                    continue
                if task == OPEN_PATH:
                    body = os.fsdecode(body)
                audio = AudioFile(body, facts=(a, b) if a > 0 else None)
                answer = OPENED
                body = SHAPE.pack(
                    audio.rate,
                    *audio.facts,
                    audio.channels,
                    audio.floating,
                    audio.format.encode(),
                )
        except AudioError as error:
            answer, body = ERROR, reason(error.reason)
        except MemoryError:
            answer, body = ERROR, reason("needs more memory than it may have")
        except Exception as error:
            answer = ERROR
            body = reason(f"cannot be read: {type(error).__name__}: {error}")
        finally:
            if alarm:
                alarm(0)
        send(answers, answer, body)
