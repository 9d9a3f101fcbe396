"""The data path: one engine that watches all sockets, and the connections that it feeds."""
