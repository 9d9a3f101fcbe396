"""C programs, compiled on first use and kept for as long as their sources stay the same."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click

FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")


class NoCompiler(click.ClickException):
    """There is no C compiler; exit status 2."""

    exit_code = 2


def cache_directory() -> Path:
    """Where compiled programs are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "trio_ws_app" / "benchmarks"


def find_compiler() -> str | None:
    """The C compiler: ``$CC``, cc, gcc or clang."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return next((path for path in map(shutil.which, filter(None, names)) if path), None)


def build(name: str, sources: Sequence[Path], headers: Sequence[Path] = ()) -> Path:
    """Return the path of the program ``name``, compiled from the present sources.

    Raises:
        NoCompiler: there is no C compiler, or it fails.
    """
    contents = b"".join(path.read_bytes() for path in [*sources, *headers])
    program = cache_directory() / f"{name}-{hashlib.sha256(contents).hexdigest()[:16]}"
    if program.exists():
        return program
    compiler = find_compiler()
    if compiler is None:
        raise NoCompiler(f"{name} needs a C compiler (cc, gcc, clang or $CC), and there is none")
    program.parent.mkdir(parents=True, exist_ok=True)
    partial = program.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, "-o", str(partial), *map(str, sources), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise NoCompiler(f"{name} does not compile: {(done.stderr.splitlines() or ['?'])[0]}")
    partial.replace(program)
    return program
