"""WebSocket without I/O: the opening handshake, frames, compression, closing.

Nothing in this package imports trio, waits, or touches a socket; a test says so.
"""
