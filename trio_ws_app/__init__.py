"""A structured-concurrency WebSocket application server for Trio: one connection is one nursery."""

from .broker import (
    AlreadyPresent,
    Broker,
    BrokerUnavailable,
    Delivery,
    Gap,
    History,
    Join,
    Leave,
    Position,
    Present,
    RedisTimeouts,
    Subscription,
    open_memory_broker,
    open_redis_broker,
)
from .client.adapter import from_trio_websocket
from .client.backoff import Backoff, is_transient
from .client.connect import connect
from .client.reconnect import reconnect
from .connection import Connection, Message
from .duplex import Exit, Side, duplex
from .errors import CloseCode, CloseReason, ConnectionClosed, HandshakeRefused, UsageError
from .patterns import consume, produce
from .periodic import call_every
from .registry.fanout import BroadcastResult, Overflow, broadcast
from .registry.registry import Member, Registry, open_registry
from .registry.topics import Following
from .request import Headers, Request, Response
from .server.options import Handler
from .server.server import Server
from .server.serving import serve
from .server.statistics import Statistics
from .settings import Settings

__all__ = [
    "AlreadyPresent",
    "Backoff",
    "BroadcastResult",
    "Broker",
    "BrokerUnavailable",
    "CloseCode",
    "CloseReason",
    "Connection",
    "ConnectionClosed",
    "Delivery",
    "Exit",
    "Following",
    "Gap",
    "Handler",
    "HandshakeRefused",
    "Headers",
    "History",
    "Join",
    "Leave",
    "Member",
    "Message",
    "Overflow",
    "Position",
    "Present",
    "RedisTimeouts",
    "Registry",
    "Request",
    "Response",
    "Server",
    "Settings",
    "Side",
    "Statistics",
    "Subscription",
    "UsageError",
    "broadcast",
    "call_every",
    "connect",
    "consume",
    "duplex",
    "from_trio_websocket",
    "is_transient",
    "open_memory_broker",
    "open_redis_broker",
    "open_registry",
    "produce",
    "reconnect",
    "serve",
]
