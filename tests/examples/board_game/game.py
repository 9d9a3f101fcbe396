"""Four in a row: tables with two seats, and room for people who watch.

A table is the history of its topic, and nothing else. A move is published if the moves before it allow it,
and what comes on the topic is played by the same rules everywhere, in the same order. So a table outlives its
clients, and with Redis the server, and its players may be connected to any worker.
"""

import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

import trio_ws_app as ws
from trio_ws_app.pages import static_files

COLUMNS, ROWS = 7, 6
KEPT = ws.History(size=100, ttl=24 * 3600.0)  # a game has at most 45 moves
AWAY = 20.0  # seconds for which a player whose connection is lost still counts as present


@attrs.frozen
class Move:
    """What a player does: ``sit`` down, ``drop`` a disc into a column, or begin a ``new`` game."""

    type: str
    player: str  # the id
    name: str
    column: int = 0


@attrs.frozen
class Player:
    """A person at a table, in a seat or not."""

    id: str
    name: str

    def move(self, value: object) -> Move:
        """The move that a message stands for. Raises ValueError if it is none."""
        match value:
            case {"type": "sit" | "new" as kind}:
                return Move(kind, self.id, self.name)
            case {"type": "drop", "column": int(column)} if column in range(COLUMNS):
                return Move("drop", self.id, self.name, int(column))
        raise ValueError("that is no move")


@attrs.define
class Game:
    """The result of the moves: who sits where, and the discs on the board."""

    seats: list[str] = attrs.field(factory=list)
    discs: dict[tuple[int, int], str] = attrs.field(factory=dict)  # by column, and by row from below
    over: bool = False

    def play(self, move: Move) -> bool:
        """Make a move if the rules allow it; else return False."""
        height = sum(column == move.column for column, _ in self.discs)
        if move.type == "new":
            self.seats, self.discs, self.over = [], {}, False
        elif move.type == "sit" and len(self.seats) < 2 and move.player not in self.seats:
            self.seats.append(move.player)
        elif move.type == "drop" and move.player == self.on_turn() and height < ROWS:
            self.discs[move.column, height] = move.player
            self.over = self.is_one_of_four(move.column, height) or len(self.discs) == COLUMNS * ROWS
        else:
            return False
        return True

    def on_turn(self) -> str | None:
        return self.seats[len(self.discs) % 2] if len(self.seats) == 2 and not self.over else None

    def is_one_of_four(self, column: int, row: int) -> bool:
        ways = ((1, 0), (0, 1), (1, 1), (1, -1))
        return any(self.reach(column, row, x, y) + self.reach(column, row, -x, -y) >= 3 for x, y in ways)

    def reach(self, column: int, row: int, x: int, y: int) -> int:
        count = 0
        while self.discs.get((column + (count + 1) * x, row + (count + 1) * y)) == self.discs[column, row]:
            count += 1
        return count


@asynccontextmanager
async def application(broker: ws.Broker) -> AsyncGenerator[ws.App]:
    players: ws.Registry[Player]
    async with ws.open_registry(
        broker=broker,
        history={"table:*": KEPT},
        envelope=lambda _, move, position: json.dumps(json.loads(move) | {"at": str(position)}),
        on_gap=lambda *_: json.dumps({"type": "gap"}),
        on_presence=came_or_went,
    ) as players:

        async def play(connection: ws.Connection) -> None:
            request = connection.request
            me, topic = request.state.player, f"table:{request.path_params['table']}"
            since = ws.Position.parse(request.query["since"]) if "since" in request.query else None
            for older in players.group(me.id):
                older.close(4000, "you have come back in another place")
            with players.register(connection, me) as member, member.join(me.id):
                await connection.send_json({"type": "you", "player": me.id})
                info = {"key": me.id, "name": me.name}
                async with member.follow(topic, since=since, last=KEPT.size, presence=info, linger=AWAY):
                    here = [person(one) for one in await players.presence(topic)]
                    await connection.send_json({"type": "here", "people": here})
                    async for move in ws.json_messages(connection, me.move, on_error=sorry):
                        if await is_allowed(topic, move):
                            await players.publish(topic, json.dumps(attrs.asdict(move)))
                        else:
                            await connection.send(sorry("you cannot do that now"))

        async def is_allowed(topic: str, move: Move) -> bool:
            game = Game()
            for item in await broker.history(topic):
                if isinstance(item, ws.Delivery):
                    game.play(Move(**json.loads(item.message)))
            if move.type == "new" and not game.over and move.player not in game.seats:
                present = {one.user for one in await players.presence(topic)}
                return not present.issuperset(game.seats)  # a player is gone for good
            return game.play(move)

        page = static_files(Path(__file__).parent / "page")
        yield ws.App(ws.Routes({"/table/{table}": play}), process_request=[page, who_comes])


def who_comes(request: ws.Request) -> ws.Response | None:
    """Find out which player this is, by a secret of the page's, of which the others see a hash."""
    secret, name = request.query.get("id"), request.query.get("name")
    if not secret or not name:
        return ws.Response(400, "say who you are: ?id=SECRET&name=NAME\n")
    request.state.player = Player(hashlib.sha256(secret.encode()).hexdigest()[:12], name[:20])
    return None


def came_or_went(_topic: str, event: ws.Join | ws.Leave) -> str:
    return json.dumps({"type": type(event).__name__.lower(), "person": person(event)})


def person(one: ws.Present | ws.Join | ws.Leave) -> dict[str, object]:
    return {"player": one.user, "info": one.info}


def sorry(why: object) -> str:
    return json.dumps({"type": "sorry", "why": str(why)})
