"""``Request`` and ``Response`` as applications see them: cookies, state, and types that are checked."""

from __future__ import annotations

from typing import Any

import pytest

import trio_ws_app as ws


@pytest.mark.parametrize(
    ("fields", "cookies"),
    [
        ([], {}),
        (["a=1"], {"a": "1"}),
        (["a=1; b=2"], {"a": "1", "b": "2"}),
        (["a=1;b=2;"], {"a": "1", "b": "2"}),
        (["a=1", "b=2"], {"a": "1", "b": "2"}),
        (["a=1; a=2"], {"a": "1"}),
        (['a="x y"'], {"a": "x y"}),
        (['a="'], {"a": '"'}),
        (["a=b=c"], {"a": "b=c"}),
        (["a="], {"a": ""}),
        (["no value; =nameless; ;;", " a = 1 "], {"a": "1"}),
        (["expires=Mon, 01 Jan 2029"], {"expires": "Mon, 01 Jan 2029"}),
    ],
    ids=str,
)
def test_cookies(fields: list[str], cookies: dict[str, str]) -> None:
    """Each name with its first value; what is no cookie is left out, and nothing raises."""
    request = ws.Request("GET", "/", ws.Headers([("Cookie", field) for field in fields]))
    assert dict(request.cookies) == cookies


def test_cookies_are_not_to_be_changed() -> None:
    """They are what the client has sent."""
    request = ws.Request("GET", "/", ws.Headers([("Cookie", "a=1")]))
    with pytest.raises(TypeError):
        request.cookies["a"] = "2"  # type: ignore[index]


def test_state_by_attribute_and_by_name() -> None:
    """Both are the same; what was not set is an AttributeError that names it, and a KeyError."""
    request = ws.Request("GET", "/")
    request.state.user = "ann"
    assert request.state["user"] == "ann"
    del request.state.user
    with pytest.raises(AttributeError, match="user"):
        _ = request.state.user
    with pytest.raises(AttributeError, match="user"):
        del request.state.user
    with pytest.raises(KeyError):
        _ = request.state["user"]
    with pytest.raises(AttributeError, match=r"state\['items'\]"):
        request.state.items = [1]
    request.state["items"] = [1]
    assert dict(request.state.items()) == {"items": [1]}


def test_state_is_no_part_of_a_requests_identity() -> None:
    """Equal requests stay equal, whatever was set on one of them."""
    one, other = ws.Request("GET", "/"), ws.Request("GET", "/")
    one.state.user = "ann"
    assert one == other
    assert other.state == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("403",), "status"),
        ((200.0,), "status"),
        ((True,), "status"),
        ((None,), "status"),
        ((200, 5), "body"),
        ((200, None), "body"),
        ((200, ["text"]), "body"),
        ((200, "", [("A", "b")]), "headers"),
        ((200, "", None), "headers"),
        ((200, "", {"A": 1}), "headers"),
        ((200, "", {"A": None}), "headers"),
        ((200, "", {1: "b"}), "headers"),
    ],
    ids=str,
)
def test_a_response_of_wrong_types(arguments: tuple[Any, ...], said: str) -> None:
    """A TypeError at the line that makes it, and it says which part is wrong."""
    with pytest.raises(TypeError, match=said):
        ws.Response(*arguments)


@pytest.mark.parametrize("body", ["text", b"text", bytearray(b"text"), memoryview(b"text")])
def test_a_response_of_any_bytes(body: Any) -> None:
    """Its body is bytes, whatever was given."""
    assert ws.Response(200, body).body == b"text"
