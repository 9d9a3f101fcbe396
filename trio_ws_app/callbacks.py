"""The one rule for the user's functions, plain or async, wherever they are called from.

Each has a context of its own, so that nothing it sets is seen by the next connection. A KeyboardInterrupt
may be raised inside it and nowhere else in this package: there it would leave half of a change behind.
What it raises goes to the caller, whose policy it is.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import TypeGuard, TypeVar, TypeVarTuple

import trio
from trio.lowlevel import disable_ki_protection

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


def in_own_context(function: Callable[[*Arguments], Result]) -> Callable[[*Arguments], Result]:
    """The plain ``function``, to be called in a copy of the current context."""
    return partial(copy_context().run, call_interruptible, function)  # type: ignore[arg-type,return-value]


@disable_ki_protection
def call_interruptible(function: Callable[[*Arguments], Result], *args: *Arguments) -> Result:
    """Call the function in the current context, which has to be one of its own."""
    return function(*args)


@disable_ki_protection
async def await_interruptible(awaitable: Awaitable[Result]) -> Result:
    """Wait for what an async function has returned, in a task of its own."""
    return await awaitable


def is_async(thing: object) -> TypeGuard[Callable[..., Awaitable[object]]]:
    """Whether calling ``thing`` gives a coroutine: of an async function, partial or not, or ``__call__``."""
    function = thing
    while isinstance(function, partial):
        function = function.func
    call = getattr(type(function), "__call__", None)  # noqa: B004  # an object's; calling a class makes one
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def refuse_coroutine(function: object, result: object, instead: str) -> None:
    """Raise TypeError if ``result``, of a function that is called in place, is a coroutine."""
    if result is not None and isinstance(result, Coroutine):  # a compiled function's is of a type of its own
        result.close()
        raise TypeError(f"{function!r} returned a coroutine: {instead}")


def in_place(
    function: Callable[[*Arguments], Result], instead: str = "it has to be a plain function"
) -> Callable[[*Arguments], Result]:
    """As ``in_own_context``, for a hook: a call raises TypeError if it returns a coroutine."""
    call = in_own_context(function)

    def calling(*args: *Arguments) -> Result:
        result = call(*args)
        refuse_coroutine(function, result, instead)
        return result

    return calling


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group and in the groups within it; an error that is no group, itself."""
    waiting = [error]  # no recursion: how deep they lie is the user's matter
    while waiting:
        part = waiting.pop()
        if isinstance(part, BaseExceptionGroup):
            waiting += reversed(part.exceptions)
        else:
            yield part


def failure_in(error: BaseException) -> BaseException | None:
    """What is in ``error`` besides cancellations, if anything."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1]
    return None if isinstance(error, trio.Cancelled) else error


def interrupt_in(error: BaseException) -> KeyboardInterrupt | SystemExit | None:
    """The KeyboardInterrupt or SystemExit in ``error``: these alone end more than one connection."""
    found = (leaf for leaf in leaves(error) if isinstance(leaf, KeyboardInterrupt | SystemExit))
    return next(found, None)


def contain(error: BaseException, logger: logging.Logger, text: str) -> None:
    """Log what the user's code has raised as an ERROR (G5); raise it again if it is to end the program.

    It is for ``except BaseException``, since a panic of an extension is one, and for where each message
    passes: unlike ``contained``, it costs nothing as long as nothing is raised.
    """
    if interrupt_in(error) is not None:
        raise error
    logger.error(text, exc_info=error)


@contextmanager
def contained(logger: logging.Logger, text: str) -> Iterator[None]:
    """``contain`` what the block raises, and go on after it."""
    try:
        yield
    except BaseException as error:
        contain(error, logger, text)
