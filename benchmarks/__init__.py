"""How fast the server is beside others, and what is left when a connection ends: see ``README.md``.

A benchmark is one module with a click command, listed in ``__main__``. It says which rows there are and how
one is measured once; ``rounds.run`` and ``report.publish`` do the rest. Server scripts are in ``servers/``.
"""
