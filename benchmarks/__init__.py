"""How fast the wire is, against its peers: ``python -m benchmarks NAME``.

One row for two contenders, in a few seconds, while working on the data path::

    python -m benchmarks echo --row 64B-100x16 --only ours-sync,picows --rounds 1 --seconds 2

Everything, as published::

    python -m benchmarks echo --json echo.json --plot echo.svg

The server runs on the first core this process may use, the load generator (``c/``, compiled with the
system's C compiler on first use) on the second. Contenders take turns round by round, each round in
a fresh process; figures are medians of the rounds.

A benchmark is one module with a click command, listed in ``__main__``. It says which rows there are and how
one is measured once; ``rounds.run`` and ``report.publish`` do the rest. Server scripts are in ``servers/``.
"""
