"""Redis URLs are read, and mistakes in them are answered with one line that helps."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from trio_ws_app.broker import RedisTimeouts
from trio_ws_app.broker.redis_url import Address, RedisUrl, parse_redis_url


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("redis://", [Address("localhost", 6379)]),
        ("redis://example.com", [Address("example.com", 6379)]),
        ("redis://example.com:7000/3", [Address("example.com", 7000)]),
        ("redis://[::1]:7000", [Address("::1", 7000)]),
        ("redis://a:1,b,c:3", [Address("a", 1), Address("b", 6379), Address("c", 3)]),
        ("unix:///run/my%20redis.sock", [Address("/run/my redis.sock", 0)]),
        ("unix://user:secret@/run/redis.sock", [Address("/run/redis.sock", 0)]),
    ],
)
def test_addresses(url: str, addresses: list[Address]) -> None:
    """Hosts, ports, several nodes and Unix sockets are found; the port is Redis's own by default."""
    assert list(parse_redis_url(url).addresses) == addresses


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("redis://host", "default", None),
        ("redis://:p%40ss@host", "default", "p@ss"),
        ("redis://j%C3%BCrgen:a%2Fb%3Ac@host", "jürgen", "a/b:c"),
    ],
)
def test_credentials(url: str, username: str, password: str | None) -> None:
    """Names and passwords are percent-decoded, and a password alone is the default user's."""
    parsed = parse_redis_url(url)
    assert (parsed.username, parsed.password) == (username, password)
    assert password is None or password not in repr(parsed)


def test_tls_verifies_by_default(tmp_path: Path) -> None:
    """rediss:// verifies certificate and host name unless the URL says otherwise for the name."""
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(authority)
    context = parse_redis_url(f"rediss://host?ssl_ca_certs={authority}").tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    lenient = parse_redis_url("rediss://host?ssl_check_hostname=false").tls
    assert lenient is not None
    assert (lenient.verify_mode, lenient.check_hostname) == (ssl.CERT_REQUIRED, False)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host", "redis://localhost:6379"),
        ("localhost:6379", "redis://localhost:6379"),
        ("redis://host:port", "'host:port'"),
        ("redis://host:70000", "'host:70000'"),
        ("redis://a,,b", "''"),
        ("unix://", "unix:///run/redis/redis.sock"),
        ("redis://host?tls=yes", "'tls'"),
        ("redis://host/three", "no database"),
        ("redis://host?db=three", "'db'"),
        ("redis://host?db=-1", "'db'"),
        ("redis://host?socket_timeout=0", "'socket_timeout'"),
        ("redis://host?health_check_interval=nan", "'health_check_interval'"),
        ("redis://host?socket_connect_timeout=soon", "'socket_connect_timeout'"),
        ("redis://host?client_name=two%20words", "'client_name'"),
        ("redis://host?protocol=2", "RESP3"),
        ("redis://host?decode_responses=true", "not needed here: messages are text or bytes"),
        ("redis://host?max_connections=5", "not needed here"),
        ("rediss://host?ssl_cert_reqs=sometimes", "required, optional, none"),
        ("rediss://host?ssl_min_version=1.1", "1.2, 1.3"),
        ("redis+sentinel://@/secret@host/service", "percent-encoded"),
        ("redis+sentinel://host", "redis+sentinel://host1,host2/mymaster"),
        ("redis+sentinel://host/service/three", "no database"),
        ("rediss://host?ssl_ca_certs=/does/not/exist", "certificates"),
    ],
)
def test_mistakes(url: str, words: str) -> None:
    """A wrong URL is answered with one line that names the mistake or shows what is right."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_redis_url(url)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_parameters_of_redis_py() -> None:
    """Those that mean something here are taken by their names there."""
    url = "redis://host?db=3&username=me&password=p%40%2F&client_name=chat&protocol=3"
    url += "&health_check_interval=5&socket_timeout=7&socket_connect_timeout=9"
    assert parse_redis_url(url) == RedisUrl(
        addresses=(Address("host", 6379),),
        username="me",
        password="p@/",
        database=3,
        client_name="chat",
        timeouts=RedisTimeouts(ping_interval=5.0, request=7.0, connect=9.0),
    )
    assert parse_redis_url("redis://you:q@host/4?db=3&username=me&password=p").database == 4
    assert parse_redis_url("redis://you:q@host?username=me&password=p").username == "you"


def test_sentinels_are_named_with_what_they_watch() -> None:
    """The path is the service, then the database; their own credentials are parameters."""
    url = "redis+sentinel://:secret@a,b:3/my%20service/2?sentinel_password=other"
    parsed = parse_redis_url(url)
    assert parsed.addresses == (Address("a", 26379), Address("b", 3))
    assert (parsed.service, parsed.database, parsed.password) == ("my service", 2, "secret")
    assert (parsed.sentinel_username, parsed.sentinel_password) == ("default", "other")
    assert parse_redis_url("rediss+sentinel://host/service").tls is not None
    assert "secret" not in repr(parsed)
    assert "other" not in repr(parsed)


def test_verification_can_be_chosen() -> None:
    """``ssl_cert_reqs`` and the least version, as with redis-py."""
    context = parse_redis_url("rediss://host?ssl_cert_reqs=none&ssl_min_version=1.3").tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


SECRETS = ["/", "#", "?", "%", "/b@", "?b@", "#b@", "[", "[b]", "?ssl_ca_certs=/", "@b/", "%zz/", " /"]


@pytest.mark.parametrize("between", SECRETS)
@pytest.mark.parametrize(
    "url",
    [
        "redis://:{}@host:1",
        "redis://{}@host",
        "rediss://me:{}@host/x",
        "unix://:{}@/run/x",
        "http://:{}@host",
        "redis:/:{}@host",
        "redis://me:{}@host:99999",
        ":{}@host:1",
        "redis://:{}@host?tls=1",
        "redis+sentinel://:{}@host/service",
        "rediss+sentinel://me:{}@host",
    ],
)
def test_a_mistake_shows_no_part_of_the_password(url: str, between: str) -> None:
    """A password with characters of a URL's own is taken whole, or refused without a word of it."""
    password = f"Zm9v{between}YmFy"
    said = ""
    try:
        parsed = parse_redis_url(url.format(password))
    except ValueError as error:
        said = str(error)
    else:
        assert password in (parsed.password, parsed.username)
        said = " ".join(map(str, parsed.addresses))
    assert not any(part in said for part in ("Zm9v", "YmFy", "\n"))


@pytest.mark.parametrize("name", ["password", "sentinel_password"])
@pytest.mark.parametrize("between", ["&", "&=", "#", "&password=", "&db=", "&client_name= "])
def test_a_mistake_shows_no_part_of_a_password_among_the_parameters(name: str, between: str) -> None:
    """Where one is cut into two, the second is not shown."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_redis_url(f"redis://host?{name}=Zm9v{between}YmFy&tls=1")
    assert not any(part in str(caught.value) for part in ("Zm9v", "YmFy", "\n"))


@pytest.mark.parametrize("character", ["/", "#", "?", "%"])
def test_a_mistake_in_the_password_says_how_to_encode_it(character: str) -> None:
    """The line names the code of each character, and a command that encodes a password."""
    with pytest.raises(ValueError, match="percent-encoded") as caught:
        parse_redis_url(f"redis://:a{character}b@host")
    assert f"{character} is {quote(character, safe='')}" in str(caught.value)


def test_a_certificate_may_have_any_path() -> None:
    """An at sign in a parameter is not the end of a password."""
    with pytest.raises(ValueError, match="certificates"):
        parse_redis_url("rediss://host?ssl_ca_certs=/none/a@b.pem")
