"""The client's TLS certificate, as ``process_request`` and the handler find it in the request."""

from __future__ import annotations

import ssl

import pytest
import trio
import trustme
from certificates import presenting, trusting
from serving import echo, serving

import trio_ws_app as ws


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("sends", [True, False])
async def test_a_hook_sees_the_clients_certificate(sends: bool, foreign: bool) -> None:
    """The verified one, as Python's ssl gives it, over Trio's TLS too; None for a client without."""
    authority, seen = trustme.CA(), list[object]()
    context = presenting(authority, "localhost")
    context.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(context)
    mine = trusting(authority)
    if sends:
        authority.issue_cert("ann@example.com").configure_cert(mine)
    app = ws.App(echo, process_request=lambda request: seen.append(request.tls and request.tls.certificate))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    how = (
        {"listeners": [trio.SSLListener(listeners[0], context)]}
        if foreign
        else {"listeners": listeners, "ssl_context": context}
    )
    url = f"wss://localhost:{port}"
    async with serving(app, **how), ws.connect(url, ssl_context=mine):  # type: ignore[arg-type]
        pass
    (certificate,) = seen
    if sends:
        assert isinstance(certificate, dict)
        assert ("email", "ann@example.com") in certificate["subjectAltName"]
    else:
        assert certificate is None
