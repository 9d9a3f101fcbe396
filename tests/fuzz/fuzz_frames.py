"""Coverage-guided fuzzing of the decoder and of compression, with atheris (the extra ``fuzz``).

    python tests/fuzz/fuzz_frames.py CORPUS -max_total_time=600

``CORPUS`` is a folder for what the fuzzer learns; an empty one is filled with legal streams first. An
input is two bytes of options, eight bytes that say where the stream is cut, and the stream. A finding
is an exception: anything but a ProtocolError from the decoder, a limit that does not hold, or a cut or
a build that changes what is read. Atheris writes the input to a file; running that file repeats it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FunctionType

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent / "protocol"))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

with atheris.instrument_imports(include=["trio_ws_app.protocol", "builds"]):
    from builds import BUILDS
    from corpus import prepare
    from reading import Reading, cut, read

    from trio_ws_app.protocol.deflate import DeflateParameters, PerMessageDeflate, deflate_once
    from trio_ws_app.protocol.frames import Opcode, encode_masked

# Built from its source past the import hook, so it is instrumented function by function.
source = BUILDS["python"]
for owner in (source, source.Decoder):
    for name, function in list(vars(owner).items()):
        if isinstance(function, FunctionType) and function.__module__ == source.__name__:
            setattr(owner, name, atheris.instrument_func(function))

LIMITS = (1, 125, 126, 4000)
DICTIONARY = [
    b"\x81\x80\x00\x00\x00\x00",
    b"\x01\x81\x00\x00\x00\x00",
    b"\x80\x80\x00\x00\x00\x00",
    b"\x00\x81\x00\x00\x00\x00",
    b"\xc1\x87\x00\x00\x00\x00\xf2\x48\xcd\xc9\xc9\x07\x00",
    b"\xc2\x88\x00\x00\x00\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
    b"\x88\x82\x00\x00\x00\x00\x03\xe8",
    b"\x89\x80\x00\x00\x00\x00",
    b"\x8a\x80\x00\x00\x00\x00",
    b"\xfe\x00\x7e",
    b"\xff\x00\x00\x00\x00\x00\x01\x00\x00",
    b"\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xe2\x82\xac",
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
    b"\x00\x00\xff\xff",
]


def seeds() -> list[bytes]:
    """Legal streams: all opcodes, all forms of length, fragments, compressed messages."""
    key = bytes(4)
    packed = deflate_once(DeflateParameters(), b"Hello" * 20)
    text = encode_masked(Opcode.TEXT, "Hellö €".encode(), key)
    parts = encode_masked(Opcode.TEXT, b"\xe2\x82", key, fin=False) + encode_masked(
        Opcode.CONTINUATION, b"\xac", key
    )
    sizes = b"".join(encode_masked(Opcode.BINARY, bytes(size), key) for size in (0, 125, 126))
    controls = encode_masked(Opcode.PING, b"p", key) + encode_masked(Opcode.CLOSE, b"\x03\xe8bye", key)
    compressed = encode_masked(Opcode.TEXT, packed, key, rsv1=True)
    streams = [text, parts, sizes, controls, text + parts + controls, compressed + compressed + parts]
    return [bytes([3, option]) + bytes(range(8)) + stream for stream in streams for option in (0, 1)]


def readings(data: bytes) -> list[Reading]:
    """What each build makes of the stream, whole, cut, and byte by byte."""
    limit, compressed = LIMITS[data[0] % len(LIMITS)], data[1] & 1
    stream, finest = data[10:], cut(data[10:], range(len(data)))
    found = []
    for build in BUILDS.values():
        for pieces in ([stream], finest if data[1] & 0x80 else cut(stream, data[2:10])):
            inflate = PerMessageDeflate(DeflateParameters(), limit).inflate if compressed else None
            options = {"max_message_size": limit, "max_fragments": 5, "inflate": inflate}
            found.append(read(build, pieces, **options))
            assert all(len(message) <= limit for message in found[-1].messages)
    return found


def check(data: bytes) -> None:
    """Raise where the decoder does not keep what it promises."""
    if len(data) > 10:
        first, *others = readings(data)
        for other in others:
            assert other == first, (other, first)


if __name__ == "__main__":
    atheris.Setup(prepare(sys.argv, seeds(), DICTIONARY), check)
    atheris.Fuzz()
