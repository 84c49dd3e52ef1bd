"""What the bytes of a file tell that libsndfile does not.

A length that a header announces, or that is guessed from the first frame,
must not pass for the length of the sound in silence.
"""

import io
import os
import re
import struct
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

# kbit/s of MPEG audio by (MPEG 1, layer); index 0 is a free format.
BITRATES = {
    (True, 1): (0, *range(32, 449, 32)),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
                384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256,
                320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224,
                 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}  # fmt: skip
# Hz of MPEG 1; MPEG 2 has half of them and MPEG 2.5 a quarter.
RATES = (44100, 48000, 32000)
WALK_BYTES = 1 << 20
# Sound files may end with tags and with a piece of a frame.
FEW_FRAMES = 8
# A file is looked at in so many places of so many bytes: small ones whole.
PLACES, PLACE_BYTES = 64, 1 << 16
# Fewer bytes that no chunk explains are rubbish at the end.
LOOSE_SECONDS = 1.0
# More tags, blocks or chunks than any file has, and bytes in a row in which the
# decoder finds no frame: who is to be kept busy goes on no further.
MOST, LOST_BYTES = 1000, 1 << 16
# Longer heads are not held in memory.
HEAD_BYTES = 1 << 20
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")


class Content:
    """Bytes of a file at any place.

    Args:
        file: A path, or the bytes of a file.

    Attributes:
        size: Of the file, in bytes.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        if isinstance(file, bytes):
            self.size = len(file)
        else:
            self.size = os.stat(file).st_size

    def read(self, start: int, size: int) -> bytes:
        """Bytes `[start, start + size)`, fewer at the end."""
        if isinstance(self._file, bytes):
            return self._file[start : start + size]
        with open(self._file, "rb") as file:
            file.seek(start)
            return file.read(size)


class Headed(io.RawIOBase):
    """A file with another head, for libsndfile.

    Args:
        file: A path, or the bytes of a file.
        head: What it begins with.
        skip: Bytes of the file that the head takes the place of.
    """

    def __init__(self, file: Any, head: bytes, skip: int) -> None:
        super().__init__()
        self._head, self._shift = head, skip - len(head)
        memory = isinstance(file, bytes)
        self._raw: Any = io.BytesIO(file) if memory else open(file, "rb")  # noqa: SIM115
        self._size = self._raw.seek(0, os.SEEK_END) - self._shift
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, self._size)
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        part = self._head[self._at : self._at + len(room)]
        room[: len(part)] = part
        got = len(part)
        if got < len(room):
            self._raw.seek(self._at + got + self._shift)
            rest = self._raw.read(len(room) - got)
            room[got : got + len(rest)] = rest
            got += len(rest)
        self._at += got
        return got

    def close(self) -> None:
        self._raw.close()
        super().close()


class MpegFrame(NamedTuple):
    """The header of a frame of MPEG audio.

    Attributes:
        layer: 1, 2 or 3.
        full: Whether it is MPEG 1, of the full sample rates.
        rate: Hz.
        channels: 1 or 2.
        size: Bytes of the frame; 0 in the free format.
    """

    layer: int
    full: bool
    rate: int
    channels: int
    size: int

    @property
    def samples(self) -> int:
        """Samples of each channel in a frame, by its layer and version."""
        if self.layer == 1:
            return 384
        return 1152 if self.full or self.layer == 2 else 576

    @property
    def side(self) -> int:
        """Bytes of side information after the header, in layer III."""
        mono, stereo = (17, 32) if self.full else (9, 17)
        return mono if self.channels == 1 else stereo


def mpeg_frame(head: bytes) -> MpegFrame | None:
    """The frame that 4 bytes begin, or `None`."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bits == 15 or rate == 3:
        return None
    full = version == 3
    hertz = RATES[rate] >> (0 if full else 1 if version == 2 else 2)
    kbits = BITRATES[full, layer][bits]
    frame = MpegFrame(layer, full, hertz, 1 if head[3] >> 6 == 3 else 2, 0)
    pad = head[2] >> 1 & 1
    size = frame.samples // 8 * kbits * 1000 // hertz + pad
    if layer == 1:
        size = (12 * kbits * 1000 // hertz + pad) * 4
    return frame._replace(size=size if kbits else 0)


def mpeg_preroll(rate: int, channels: int, layer: int) -> int:
    """Samples before a crop that its decoding depends on.

    A frame's data may begin in frames before, up to 511 bytes of data (255 at
    the half rates) back. What a frame holds beside its header and side
    information depends on the rate of bits, which may vary: here the lowest
    one counts. One frame more is overlapped, and one fills the filters.
    """
    full = rate >= 32000
    if layer < 3:
        return 2 * (384 if layer == 1 else 1152)
    kbits = BITRATES[full, 3][1]
    frame = MpegFrame(3, full, rate, channels, 0)
    room = frame.samples // 8 * kbits * 1000 // rate - 4 - frame.side
    back = -(-(511 if full else 255) // max(1, room))
    return (back + 2) * frame.samples


def mpeg_start(content: Content) -> int:
    """Where the sound begins: after tags at the head."""
    start = 0
    for _ in range(MOST):
        head = content.read(start, 10)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        a, b, c, d = head[6:]
        start += 10 + (a << 21 | b << 14 | c << 7 | d)
    return start


def mpeg_end(content: Content) -> int:
    """Where the sound ends: before tags at the end."""
    end = content.size
    for _ in range(MOST):
        tail = content.read(max(0, end - 128), min(end, 128))
        if tail[:3] == b"TAG" and len(tail) == 128:
            end -= 128
        elif tail[-32:-24] == b"APETAGEX":
            size = struct.unpack("<I", tail[-20:-16])[0] + 32
            end = max(0, end - size)
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            end = max(0, end - 15 - int(tail[-15:-9]))
        else:
            break
    return end


def mpeg_counts(content: Content) -> tuple[bool, bool]:
    """Whether the first frame holds counts (Xing, Info, VBRI).

    And whether the file has fewer bytes than are counted.
    """
    start = mpeg_start(content)
    head = content.read(start, 4096)
    found = re.search(b"Xing|Info|VBRI", head)
    if found is None or len(head) < found.end() + 12:
        return found is not None, False
    at = found.end()
    if found[0] == b"VBRI":
        at += 6
    else:
        flags = head[at + 3]
        if not flags & 2:
            return True, False
        at += 8 if flags & 1 else 4
    said = struct.unpack_from(">I", head, at)[0]
    return True, content.size - start < said


def mpeg_samples(content: Content, start: int, end: int) -> int:
    """Samples of the frames that begin in a part of a file.

    Goes from header to header; where there is none, to the next two that
    follow each other.
    """
    samples, like = 0, None
    block, base = b"", start

    def head(at: int) -> MpegFrame | None:
        nonlocal block, base
        if not base <= at <= base + len(block) - 4:
            block, base = content.read(at, WALK_BYTES), at
        return mpeg_frame(block[at - base : at - base + 4])

    at = good = start
    while at < end - 4 and at - good < LOST_BYTES:
        frame = head(at)
        if frame is not None and frame.size:
            follows = head(at + frame.size)
            known = frame[:3] == like
            last = at + frame.size >= end - 4
            if known or last or (follows and follows[:3] == frame[:3]):
                samples += frame.samples
                like = frame[:3]
                at += frame.size
                good = at
                continue
        head(at)
        found = block.find(b"\xff", at - base + 1)
        at = base + (found if found >= 0 else len(block))
    return samples


def mpeg_head(content: Content, frames: int) -> tuple[bytes, int] | None:
    """A first frame that announces a length, as encoders write it (Info).

    Args:
        content: Of the file.
        frames: Samples that the file holds, at most.

    Returns:
        The frame and how many bytes of the file it takes the place of;
        `None` where the decoder knows no such frame: in layers I and II.
    """
    start = mpeg_start(content)
    first = bytearray(content.read(start, 4))
    frame = mpeg_frame(bytes(first))
    if frame is None or frame.layer != 3:
        return None
    first[1] |= 1  # without check sum
    first[2] = first[2] & 0x0D | 0xE0  # the highest rate of bits: room
    made = mpeg_frame(bytes(first))
    assert made is not None
    count = -(-frames // frame.samples)
    text = bytes(first) + bytes(made.side) + b"Info"
    text += struct.pack(">II", 1, min(count, 0x7FFFFFFF))
    return text.ljust(made.size, b"\0"), start


def flac_head(content: Content) -> tuple[bytes, int] | None:
    """The head of a FLAC without its count of samples, as streams have it."""
    head = bytearray(content.read(0, 26))
    if head[:4] != b"fLaC" or len(head) < 26:
        return None
    head[21] &= 0xF0
    head[22:26] = bytes(4)
    return bytes(head), len(head)


def flac_streams(content: Content) -> int:
    """FLAC files that follow each other in one, as far as it is looked at.

    The numbers of frames rise in one of them, and begin anew in the next.
    """
    at = mpeg_start(content) + 4
    for _ in range(MOST):
        block = content.read(at, 4)
        if len(block) < 4:
            return 1
        at += 4 + int.from_bytes(block[1:], "big")
        if block[0] & 0x80:
            break
    like = content.read(at, 4)
    if len(like) < 4 or like[0] != 0xFF or like[1] & 0xFE != 0xF8:
        return 1
    # All frames but the last are alike in these, unless their sizes vary.
    size = b"." if like[1] & 1 else re.escape(like[2:3])
    header = re.compile(
        re.escape(like[:2]) + size + re.escape(like[3:4]), re.DOTALL
    )
    count, before = 1, -1
    for start, part in _places(content):
        for found in header.finditer(part):
            number = flac_number(part[found.start() : found.start() + 16])
            if start + found.start() < at or number is None:
                continue
            # Parts overlap.
            at = start + found.start() + 1
            count += number < before
            before = number
    return count


def flac_number(head: bytes) -> int | None:
    """The number of the frame that these bytes begin, `None` if none."""
    if len(head) < 16:
        return None
    # As UTF-8 has them: the ones at the head of the first byte count bytes.
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    more = max(0, ones - 1)
    if ones == 1 or ones > 7:
        return None
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 5 + more]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    end = 5 + more
    end += {6: 1, 7: 2}.get(head[2] >> 4, 0)
    end += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    check = 0
    for byte in head[:end]:
        check ^= byte
        for _ in range(8):
            check = (check << 1 ^ (0x07 if check & 0x80 else 0)) & 0xFF
    return number if check == head[end] else None


class OggPage(NamedTuple):
    """The header of a page.

    Attributes:
        begins: Whether it is the first of its stream.
        ends: Whether it is the last of its stream.
        granule: Samples up to its end; -1 where no packet ends.
        stream: The stream's number.
        whole: Whether all of it was seen.
        at: Where it begins in what was looked at.
    """

    begins: bool
    ends: bool
    granule: int
    stream: int
    whole: bool
    at: int


def ogg_pages(part: bytes) -> list[OggPage]:
    """The pages that begin in a part of a file."""
    pages = []
    at = part.find(b"OggS\0")
    while 0 <= at <= len(part) - 27:
        table = at + 27 + part[at + 26]
        end = table + sum(part[at + 27 : table])
        flags, granule, stream = struct.unpack_from("<BqI", part, at + 5)
        ends = bool(flags & 4)
        # The next page says that this one is one.
        whole = end <= len(part) and (ends or part[end : end + 4] == b"OggS")
        pages.append(OggPage(bool(flags & 2), ends, granule, stream, whole, at))
        at = part.find(b"OggS\0", end if whole else at + 4)
    return pages


def ogg_streams(content: Content) -> int:
    """Streams that follow each other in a file, as far as it is looked at.

    Streams that begin together, sound and subtitles, say, count as one.
    """
    known: set[int] = set()
    count, sounding, before, seen = 0, False, -1, -1
    for start, part in _places(content):
        for page in ogg_pages(part):
            if start + page.at <= seen:
                continue
            seen = start + page.at
            other = page.stream not in known
            if (sounding or not known) if page.begins else other:
                count, known, sounding, before = count + 1, set(), False, -1
            known.add(page.stream)
            if page.granule < 0:
                continue
            sounding = sounding or page.granule > 0
            if len(known) == 1:
                count += page.granule < before
                before = page.granule
    return count


def _places(content: Content) -> Iterator[tuple[int, bytes]]:
    """Parts of a file from all over it, and where they begin."""
    step = max(PLACE_BYTES, -(-content.size // PLACES))
    last = max(0, content.size - PLACE_BYTES)
    for start in [*range(0, last, step), last]:
        # A header may lie across the end of the part.
        yield start, content.read(start, PLACE_BYTES + 282)


def wav_head(content: Content) -> tuple[bytes, int] | None:
    """The head of a WAV whose header was never finished, finished.

    Returns:
        A head that says that the samples go on to the file's end, and how
        many bytes of the file it takes the place of; `None` for other files.
    """
    found = _wav_data(content)
    if found is None or found[1] or not _loose(content, found[0]):
        return None
    at = found[0]
    if at > HEAD_BYTES:
        return None
    head = bytearray(content.read(0, at))
    head[at - 4 : at] = b"\xff" * 4  # as what writes into a pipe says it
    return bytes(head), at


def wav_behind(content: Content, bytes_per_second: float) -> int:
    """Bytes behind the announced samples of a WAV that are no chunks."""
    found = _wav_data(content)
    if found is None:
        return 0
    at, size = found
    loose = _loose(content, at + size + size % 2)
    return loose if loose > LOOSE_SECONDS * bytes_per_second else 0


def _wav_data(content: Content) -> tuple[int, int] | None:
    """Where the samples of a WAV begin, and their bytes as announced."""
    head = content.read(0, 12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    at = 12
    for _ in range(MOST):
        chunk = content.read(at, 8)
        if len(chunk) < 8:
            break
        size = struct.unpack_from("<I", chunk, 4)[0]
        if chunk[:4] == b"data":
            return at + 8, size
        at += 8 + size + size % 2
    return None


def _loose(content: Content, at: int) -> int:
    """Bytes from a place on that are neither chunks, tags nor zeros."""
    for _ in range(MOST):
        if at >= content.size - 8:
            break
        head = content.read(at, 12)
        size = struct.unpack_from("<I", head, 4)[0]
        name = head[:4]
        if head.startswith(TAGS):
            return 0
        named = all(32 <= letter < 127 for letter in name)
        if not named or at + 8 + size > content.size + 1:
            block = content.read(at, 1 << 16)
            # Samples may begin with silence, a padded file ends with it.
            padded = not block.strip(b"\0") and not any(
                content.read(k, 1 << 16).strip(b"\0")
                for k in range(at, content.size, 1 << 16)
            )
            return 0 if padded else content.size - at
        at += 8 + size + size % 2
    return 0
