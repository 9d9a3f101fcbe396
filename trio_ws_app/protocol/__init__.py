"""WebSocket without I/O (RFC 6455, RFC 7692): the opening handshake, frames, compression, closing.

- ``handshake``: one request is read, and answered with 101 or an HTTP response. Below it ``simple_request``,
  ``http_response``, ``header_lists`` and ``origin``; ``url`` is the client's side.
- ``decoder``: received bytes become messages. Below it ``frame_rules``, which frame may follow which;
  ``read_ahead``, what is kept when there is no room; ``control``, pings, pongs and Closes as values.
- ``frames``: what is sent. ``deflate``: compression, both ways.
- ``closing``: close codes, the Close frame and the state table of the closing handshake.

Nothing in this package imports trio, waits, or touches a socket; a test says so.
"""
