"""One script a contender, each written the way its documentation shows.

All do the same work: messages up to 32 MiB, no compression unless asked for, no keepalive pings. When ready
they print one JSON object with their ``port``.
"""
