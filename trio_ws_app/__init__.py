"""A structured-concurrency WebSocket application server for Trio: one connection is one nursery.

    import trio_ws_app as ws

    async def handler(connection: ws.Connection) -> None:
        async for message in connection:
            await connection.send(message)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(ws.serve, handler, 8765)

Serving
    serve(handler, port) runs a Server with Settings for each Handler; Server.statistics are Statistics.
    An App is a Handler with its ProcessRequest and Readiness; Routes are a handler for each path.
    Request (with State), Response and Headers are what a connection began with, and what may refuse it; an
    Upgrade says more in the answer that accepts it. TLS is what was agreed on, with a server's Certificates.

One connection
    Connection sends and receives a Message; ConnectionClosed and its CloseReason (a CloseCode) are its end.
    consume, produce and duplex are the patterns; duplex returns an Exit, whose first is a Side.
    json_messages iterates over JsonMessages by a JsonCodec; InvalidMessage is what none of them can read.
    call_every calls a function at a fixed rate.

Many connections
    broadcast sends to any connections and returns a BroadcastResult.
    open_registry opens a Registry, whose Member follows topics and joins a Group; Overflow is what happens
    to a slow peer.

Topics
    open_memory_broker and open_redis_broker (RedisTimeouts) open a Broker, BrokerUnavailable if it is away.
    Its Subscription gives a Delivery or a Gap; a History keeps messages, and a Position is a place in it.
    Following says how a member began to follow one. Present, Join and Leave say who is here, AlreadyPresent
    who is already.

Many subscriptions over one connection, as Centrifugo's clients speak
    Channels become a ChannelsApp with ChannelLimits; Tokens say who a User is, and a Grant what one may have.
    A ConnectRequest and a Call are what a ChannelClient asks for; Refuse is the answer no. ClientInfo is what
    others are told of it. A ChannelSubscription is one client's to one channel, a Publication its message.

Outgoing connections, and those of others
    connect and reconnect (with a Backoff; is_transient decides) raise HandshakeRefused.
    from_trio_websocket adapts a connection of trio-websocket, from_asgi, from_starlette and from_quart those
    of ASGI servers on Trio.

UsageError is raised for a mistake in the call. trio_ws_app.testing has what tests of handlers need.
"""

# ruff: noqa: I001  # an alias makes a name public for type checkers too
import importlib
import sys
from typing import TYPE_CHECKING

from .duplex import duplex as duplex
from .json_messages import json_messages as json_messages

if TYPE_CHECKING:
    from .asgi.adapter import from_asgi as from_asgi, from_starlette as from_starlette
    from .asgi.quart import from_quart as from_quart
    from .broker import (
        AlreadyPresent as AlreadyPresent,
        Broker as Broker,
        BrokerUnavailable as BrokerUnavailable,
        Delivery as Delivery,
        Gap as Gap,
        History as History,
        Join as Join,
        Leave as Leave,
        Position as Position,
        Present as Present,
        RedisTimeouts as RedisTimeouts,
        Subscription as Subscription,
        open_memory_broker as open_memory_broker,
        open_redis_broker as open_redis_broker,
    )
    from .channels import (
        Call as Call,
        ChannelClient as ChannelClient,
        ChannelLimits as ChannelLimits,
        Channels as Channels,
        ChannelsApp as ChannelsApp,
        ChannelSubscription as ChannelSubscription,
        ClientInfo as ClientInfo,
        ConnectRequest as ConnectRequest,
        Grant as Grant,
        Publication as Publication,
        Refuse as Refuse,
        Tokens as Tokens,
        User as User,
    )
    from .client.adapter import from_trio_websocket as from_trio_websocket
    from .client.backoff import Backoff as Backoff, is_transient as is_transient
    from .client.connect import connect as connect
    from .client.reconnect import reconnect as reconnect
    from .concurrency.periodic import call_every as call_every
    from .connection import Connection as Connection, Message as Message
    from .duplex import Exit as Exit, Side as Side
    from .errors import (
        CloseCode as CloseCode,
        CloseReason as CloseReason,
        ConnectionClosed as ConnectionClosed,
        HandshakeRefused as HandshakeRefused,
        InvalidMessage as InvalidMessage,
        UsageError as UsageError,
    )
    from .json_codec import JsonCodec as JsonCodec
    from .json_messages import JsonMessages as JsonMessages
    from .patterns import consume as consume, produce as produce
    from .registry.fanout import BroadcastResult as BroadcastResult, broadcast as broadcast
    from .registry.groups import Group as Group
    from .registry.opening import open_registry as open_registry
    from .registry.registry import Member as Member, Registry as Registry
    from .registry.topics import Following as Following
    from .request import (
        TLS as TLS,
        Headers as Headers,
        Request as Request,
        Response as Response,
        State as State,
        Upgrade as Upgrade,
    )
    from .server.app import App as App
    from .server.options import Handler as Handler, ProcessRequest as ProcessRequest, Readiness as Readiness
    from .server.routes import Routes as Routes
    from .server.server import Server as Server
    from .server.serving import serve as serve
    from .server.statistics import Statistics as Statistics
    from .server.tls import Certificates as Certificates
    from .settings import Settings as Settings
    from .wire.overflow import Overflow as Overflow
else:
    # Few programs need all of these modules, which take longer to import than Trio: each is imported when one
    # of its names is first used. No such name can be a module's too, as ``duplex`` and ``json_messages`` are.
    _PARTS = {"asgi", "auth", "broker", "channels", "client", "protocol", "registry", "server", "testing"}
    _LATER = {
        "asgi.adapter": "from_asgi from_starlette",
        "asgi.quart": "from_quart",
        "broker": "AlreadyPresent Broker BrokerUnavailable Delivery Gap History Join Leave Position Present "
        "RedisTimeouts Subscription open_memory_broker open_redis_broker",
        "channels": "Call ChannelClient ChannelLimits Channels ChannelsApp ChannelSubscription ClientInfo "
        "ConnectRequest Grant Publication Refuse Tokens User",
        "client.adapter": "from_trio_websocket",
        "client.backoff": "Backoff is_transient",
        "client.connect": "connect",
        "client.reconnect": "reconnect",
        "concurrency.periodic": "call_every",
        "connection": "Connection Message",
        "duplex": "Exit Side",
        "errors": "CloseCode CloseReason ConnectionClosed HandshakeRefused InvalidMessage UsageError",
        "json_codec": "JsonCodec",
        "json_messages": "JsonMessages",
        "patterns": "consume produce",
        "registry.fanout": "BroadcastResult broadcast",
        "registry.groups": "Group",
        "registry.opening": "open_registry",
        "registry.registry": "Member Registry",
        "registry.topics": "Following",
        "request": "TLS Headers Request Response State Upgrade",
        "server.app": "App",
        "server.options": "Handler ProcessRequest Readiness",
        "server.routes": "Routes",
        "server.server": "Server",
        "server.serving": "serve",
        "server.statistics": "Statistics",
        "server.tls": "Certificates",
        "settings": "Settings",
        "wire.overflow": "Overflow",
    }
    _MODULES = {name: module for module, names in _LATER.items() for name in names.split()}
    __all__ = sorted([*_MODULES, "duplex", "json_messages"])

    def __getattr__(name):
        if name in _PARTS:
            return importlib.import_module(f".{name}", __name__)  # which binds the name
        if name not in _MODULES:
            this = sys.modules[__name__]
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=this)
        value = globals()[name] = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *_MODULES, *_PARTS})
