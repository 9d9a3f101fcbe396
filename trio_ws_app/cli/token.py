"""``trio-ws-app token``: a signed token for the app ``notifications``."""

from __future__ import annotations

import click

from .options import FloatRange, text

_EXAMPLES = """\b
Examples:
  export TRIO_WS_APP_SECRET=$(head -c 32 /dev/urandom | base64)
  trio-ws-app serve notifications --broker redis://localhost:6379 &
  trio-ws-app token ann --may orders | trio-ws-app connect ws://localhost:8765
"""


@click.command("token", epilog=_EXAMPLES)
@click.argument("user", type=text)
@click.option(
    "--may", type=text, multiple=True, metavar="KIND", help="Events that USER may see; repeat for more."
)
@click.option(
    "--hours", type=FloatRange(0, min_open=True), default=24.0, show_default=True,
    help="How long the token is valid.",
)  # fmt: skip
def token_command(user: str, may: tuple[str, ...], hours: float) -> None:
    """Print a token that says to 'serve notifications' who USER is and what events to send.

    It is signed with the secret in the variable TRIO_WS_APP_SECRET, which the server needs as well.
    """
    from ..apps.notifications import Tokens

    click.echo(Tokens.from_environment().sign(user, list(may), hours * 3600))
