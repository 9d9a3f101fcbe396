"""ASGI, both ways: its applications on our server, and our connections in its applications."""
