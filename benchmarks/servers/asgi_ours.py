"""The ASGI application as ``trio-ws-app serve --asgi`` runs it."""

from __future__ import annotations

from trio_ws_app.cli import main

from .job import HOST

if __name__ == "__main__":
    words = ["serve", "--asgi", "benchmarks.servers.asgi_application:application", "--host", HOST]
    main([*words, "--port", "0", "--log-level", "warning", "--ping-interval", "none"])
