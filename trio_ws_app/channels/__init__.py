"""Many subscriptions over one connection: the clients of Centrifugo's protocol in JSON.

``README.md`` beside this file tells how an application uses it, and what it does not do.
"""

from .app import ChannelsApp
from .calls import Call
from .codes import Refuse
from .interface import ChannelClient, ChannelSubscription, ConnectRequest, Grant, User
from .limits import ChannelLimits
from .publications import ClientInfo, Publication
from .registration import Channels
from .tokens import Tokens

__all__ = [
    "Call",
    "ChannelClient",
    "ChannelLimits",
    "ChannelSubscription",
    "Channels",
    "ChannelsApp",
    "ClientInfo",
    "ConnectRequest",
    "Grant",
    "Publication",
    "Refuse",
    "Tokens",
    "User",
]
