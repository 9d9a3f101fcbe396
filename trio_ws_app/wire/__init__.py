"""The data path: one reactor that watches all sockets, and the connections that it feeds."""
