"""Coverage-guided fuzzing of the decoder and of compression, with atheris (the extra ``fuzz``).

    python tests/fuzz/fuzz_frames.py CORPUS -max_total_time=600

``CORPUS`` is a folder for what the fuzzer learns; an empty one is filled with legal streams first. An
input is two bytes of options, eight bytes that say where the stream is cut, eight that say how much room
there is for messages each time, and the stream. A finding is an exception: anything but a ProtocolError
from the decoder, a limit that does not hold, or a cut, a room or a build that changes what is read.
Atheris writes the input to a file; running that file repeats it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FunctionType

import atheris
import attrs

sys.path.insert(0, str(Path(__file__).parent.parent / "protocol"))
sys.path.insert(0, str(Path(__file__).parent.parent / "helpers"))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

with atheris.instrument_imports(include=["trio_ws_app.protocol", "builds"]):
    from builds import BUILDS, DECODERS
    from client_frames import encode_masked
    from corpus import prepare
    from reading import Reading, cut, read

    from trio_ws_app.protocol.deflate import DeflateParameters, PerMessageDeflate, deflate_once
    from trio_ws_app.protocol.frames import Opcode

# Built from their sources past the import hook, so they are instrumented function by function.
for module in BUILDS["python"].values():
    classes = [item for item in vars(module).values() if isinstance(item, type)]
    for owner in (module, *(item for item in classes if item.__module__ == module.__name__)):
        for name, function in list(vars(owner).items()):
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                setattr(owner, name, atheris.instrument_func(function))

OPTIONS = 18  # bytes before the stream
ROOMS = (-1, 0, 0, 1, 1, 100, 300, 1 << 20)
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
    return [bytes([3, option]) + bytes(range(16)) + stream for stream in streams for option in (0, 1)]


def readings(data: bytes) -> tuple[list[Reading], list[Reading]]:
    """What each build makes of the stream: whole, cut or byte by byte with room, and the same with rooms."""
    limit, compressed = LIMITS[data[0] % len(LIMITS)], data[1] & 1
    stream = data[OPTIONS:]
    pieces = cut(stream, range(len(stream)) if data[1] & 0x80 else data[2:10])
    rooms = [ROOMS[byte % len(ROOMS)] for byte in data[10:OPTIONS]] * 4
    found: list[Reading] = []
    for build in DECODERS.values():
        for parts, room in (([stream], []), (pieces, []), (pieces, rooms)):
            inflate = PerMessageDeflate(DeflateParameters(), limit).inflate if compressed else None
            options = {"max_message_size": limit, "max_fragments": 5, "inflate": inflate}
            found.append(read(build, parts, room, **options))
            assert all(len(message) <= limit for message in found[-1].messages)
    return found[0::3] + found[1::3], found[2::3]


def check(data: bytes) -> None:
    """Raise where the decoder does not keep what it promises."""
    if len(data) <= OPTIONS:
        return
    at_once, in_rooms = readings(data)
    expected = at_once[0]
    for other in at_once:
        assert other == expected, (other, expected)
    for other in in_rooms:
        assert other == in_rooms[0], (other, in_rooms[0])
        # Behind a payload that is wrong, control frames may have been found already.
        known = len(expected.controls) if expected.failure is not None else None
        assert attrs.evolve(other, controls=other.controls[:known]) == expected, (other, expected)


if __name__ == "__main__":
    atheris.Setup(prepare(sys.argv, seeds(), DICTIONARY), check)
    atheris.Fuzz()
