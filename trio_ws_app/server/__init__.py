"""The server: accepts, opens, contains, drains."""
