"""Our connections on other servers: a WebSocket of an ASGI server on Trio, as a ``Connection``."""
