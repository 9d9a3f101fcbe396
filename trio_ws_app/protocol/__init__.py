"""WebSocket without I/O (RFC 6455, RFC 7692): the opening handshake, frames, compression, closing.

- ``request_reader``: one request is read, and its body.
- ``handshake``: a request is answered with 101, or is refused. Below it ``header_lists``;
  ``http_answer`` is how HTTP answers look, ``url`` is the client's side.
- ``decoder``: received bytes become messages. Below it ``frame_rules``, which frame may follow which;
  ``read_ahead``, what is kept when there is no room.
- ``frames``: what is sent; pings and pongs as values. ``deflate``: compression, both ways.
- ``closing``: a peer's mistakes, close codes, the Close frame and the state table of the closing handshake.

Nothing in this package imports trio, waits, or touches a socket; a test says so.
"""
