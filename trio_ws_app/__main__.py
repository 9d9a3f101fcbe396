"""``python -m trio_ws_app`` is the command ``trio-ws-app``."""

from .cli import main

main(prog_name="trio-ws-app")
