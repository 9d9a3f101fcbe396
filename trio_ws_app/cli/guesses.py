"""What was meant by a target that is not there."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_USUAL_NAMES = ("app", "application", "handler")


def own_file(name: str) -> str:
    """The target to write instead, as a question, if ``name`` is a module of this directory; or nothing."""
    module = os.path.normpath(name.removesuffix(".py"))
    with suppress(OSError, ValueError, SyntaxError):
        defined = compile(Path(f"{module}.py").read_bytes(), module, "exec").co_names  # it is not run
        usual = [name for name in _USUAL_NAMES if name in defined]
        return f": did you mean {module.replace('/', '.')}:{(usual or ['name'])[0]}?"
    return ""


def names_a_file(path: str, name: str) -> str:
    """What is wrong with a target whose module is given as a path."""
    module = os.path.normpath(path.removesuffix(".py"))
    folder, _, last = module.rpartition("/")
    if module.startswith((".", "/")):
        return f"a target is no path: run this in {folder or '/'}, with {last}:{name}"
    return f"a target is no path: the module is {module.replace('/', '.')}:{name}"


def guess(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The known name that was meant, whatever the case of its letters, as a question; or nothing."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(name.lower(), by_lower, 1)
    return f": did you mean {prefix}{by_lower[near[0]]}?" if near else ""
