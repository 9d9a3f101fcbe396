"""What a fuzzer begins with: a folder of seeds and a dictionary."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path


def prepare(arguments: Sequence[str], seeds: Iterable[bytes], dictionary: Iterable[bytes]) -> list[str]:
    """The fuzzer's arguments, with a dictionary; seeds are written to a corpus folder that is empty."""
    for argument in arguments[1:]:
        folder = Path(argument)
        if argument.startswith("-") or folder.is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            for seed in seeds:
                (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    words = "\n".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in dictionary)
    with tempfile.NamedTemporaryFile("w", suffix=".dict", delete=False) as file:
        file.write(words + "\n")
    return [*arguments, f"-dict={file.name}"]
