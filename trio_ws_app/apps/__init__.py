"""The built-in applications: each on one screen, each showing one pattern, on the public API alone."""

BUILT_IN = ("chat", "counter", "echo", "notifications", "rooms", "ticker")
