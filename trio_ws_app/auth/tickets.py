"""Tickets for one connection each, good in any process that has the same broker."""

from __future__ import annotations

import hashlib
import json
import secrets
import time

from ..broker import Broker, Delivery, History
from .tokens import User

_LONGEST = 64  # characters of a ticket
_TAKEN, _SECOND = "taken", 2  # the message that redeems it, and its place


class Tickets:
    """Gives out tickets and takes each back once, within ``ttl`` seconds.

    A page that has a session of its own asks its backend for a ticket and connects with it:
    ``wss://example.com/?ticket=...``. What a proxy logs is then worth nothing.

    A ticket is a topic of the broker with a history: its first message is the user, and whose message is the
    second has redeemed it. The topic's name is a hash, so that reading the broker gives none away.
    """

    def __init__(self, broker: Broker, *, ttl: float = 30.0, prefix: str = "trio_ws_app.ticket:") -> None:
        self._broker = broker
        self._history = History(size=2, ttl=ttl)
        self._prefix = prefix

    async def issue(self, user: User) -> str:
        """A new ticket for ``user``, whose claims have to be JSON values.

        Raises:
            BrokerUnavailable: the broker did not take it within a bounded time.
            TypeError, ValueError: the claims are no JSON values.
        """
        ticket = secrets.token_urlsafe(24)
        content = json.dumps([user.id, user.expires_at, dict(user.claims)])
        await self._broker.publish(self._topic(ticket), content, history=self._history)
        return ticket

    async def redeem(self, ticket: str) -> User | None:
        """The user of a ticket that was given out and not redeemed before; else None, as for one out of date.

        When cancelled, the ticket may be redeemed or not. Raises BrokerUnavailable.
        """
        if not 0 < len(ticket) <= _LONGEST:
            return None
        topic = self._topic(ticket)
        kept = await self._broker.history(topic, limit=2)
        if len(kept) != 1 or not isinstance(kept[0], Delivery) or kept[0].message == _TAKEN:
            return None  # a ticket that was redeemed as it ended has left its second message alone
        issued = kept[0].position
        taken = await self._broker.publish(topic, _TAKEN, history=self._history)
        if issued is None or taken is None or (taken.epoch, taken.offset) != (issued.epoch, _SECOND):
            return None  # it was redeemed, or ended, since the look at it
        user = User(*json.loads(kept[0].message))
        return None if user.expires_at is not None and user.expires_at <= time.time() else user

    def _topic(self, ticket: str) -> str:
        return self._prefix + hashlib.sha256(ticket.encode(errors="surrogatepass")).hexdigest()
