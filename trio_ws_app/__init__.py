"""A structured-concurrency WebSocket application server for Trio: one connection is one nursery."""

from .asgi.adapter import from_asgi, from_starlette
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
from .errors import CloseCode, CloseReason, ConnectionClosed, HandshakeRefused, InvalidMessage, UsageError
from .json_codec import JsonCodec
from .json_messages import JsonMessages, json_messages
from .patterns import consume, produce
from .periodic import call_every
from .registry.fanout import BroadcastResult, Overflow, broadcast
from .registry.groups import Group
from .registry.registry import Member, Registry, open_registry
from .registry.topics import Following
from .request import Headers, Request, Response, State, Upgrade
from .server.app import App
from .server.options import Handler, ProcessRequest, Readiness
from .server.routes import Routes
from .server.server import Server
from .server.serving import serve
from .server.statistics import Statistics
from .settings import Settings

__all__ = [
    "AlreadyPresent",
    "App",
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
    "Group",
    "Handler",
    "HandshakeRefused",
    "Headers",
    "History",
    "InvalidMessage",
    "Join",
    "JsonCodec",
    "JsonMessages",
    "Leave",
    "Member",
    "Message",
    "Overflow",
    "Position",
    "Present",
    "ProcessRequest",
    "Readiness",
    "RedisTimeouts",
    "Registry",
    "Request",
    "Response",
    "Routes",
    "Server",
    "Settings",
    "Side",
    "State",
    "Statistics",
    "Subscription",
    "Upgrade",
    "UsageError",
    "broadcast",
    "call_every",
    "connect",
    "consume",
    "duplex",
    "from_asgi",
    "from_starlette",
    "from_trio_websocket",
    "is_transient",
    "json_messages",
    "open_memory_broker",
    "open_redis_broker",
    "open_registry",
    "produce",
    "reconnect",
    "serve",
]
