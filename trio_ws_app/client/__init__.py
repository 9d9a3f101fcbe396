"""Outgoing connections, and connections of trio-websocket: only here is it imported."""
