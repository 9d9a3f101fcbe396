"""Inspection of a running server: what it shows, to whom, and what it costs while nothing is asked."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.observability.inspection.hook import Inspector, parse_query
from trio_ws_app.observability.inspection.rows import SORTS
from trio_ws_app.observability.inspection.snapshot import (
    BrokerState,
    Query,
    Snapshot,
    from_json,
    take_snapshot,
    to_json,
)
from trio_ws_app.server.tasks import TaskNode
from trio_ws_app.testing import serve_in_memory
from trio_ws_app.wire.connection import WireConnection

EVERYTHING = Query(tasks=True)


async def handler(connection: ws.Connection) -> None:
    """Two tasks, each waiting at a line of its own."""

    async def sleep() -> None:
        await trio.sleep_forever()  # the sleeper's line

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep, name="sleeper")
        async for _ in connection:  # the consumer's line
            pass
        nursery.cancel_scope.cancel()


def snapshot_of(server: ws.Server, wanted: Query = EVERYTHING) -> Snapshot:
    """A snapshot as it arrives on the other side."""
    return from_json(to_json(take_snapshot(server, "1", wanted, None)))


def found(node: TaskNode | None, name: str) -> list[TaskNode]:
    """The tasks of this name in the tree."""
    if node is None:
        return []
    below = [task for child in node.children for task in found(child, name)]
    return [node, *below] if node.name == name else below


async def test_a_snapshot_shows_connections_and_where_their_tasks_wait() -> None:
    """Each connection has its counts and its tasks; each task the line of its code that it waits at."""
    async with serve_in_memory(handler) as memory:
        peer = await memory.connect("/room?token=secret&x=1")
        await peer.send("hello")
        await wait_all_tasks_blocked()
        snapshot = snapshot_of(memory.server)
        (row,) = snapshot.connections
        assert (row.path, row.state, row.messages_in, row.messages_out) == (
            "/room?token=***&x=1",
            "open",
            1,
            0,
        )
        assert snapshot_of(memory.server, Query(filter="secret")).matching == 0
        assert row.bytes_in > 0
        (task,) = found(snapshot.tasks, row.id)
        assert task.waits is not None
        assert task.waits.text.endswith("# the consumer's line")
        assert task.waits.file.endswith("test_inspection.py")
        (sleeper,) = found(task, "sleeper")
        assert sleeper.waits is not None
        assert sleeper.waits.text.endswith("# the sleeper's line")
        assert found(snapshot.tasks, "engine")


async def test_only_the_connections_asked_for_are_shown() -> None:
    """Sorting, filter and limit choose; the tasks of the others are left out of the tree."""
    async with serve_in_memory(handler) as memory:
        for number in range(5):
            peer = await memory.connect(f"/room/{number}")
            for _ in range(number):
                await peer.send("hello")
        await wait_all_tasks_blocked()
        busiest = snapshot_of(memory.server, Query(sort="in", limit=2, tasks=True))
        assert [row.path for row in busiest.connections] == ["/room/4", "/room/3"]
        assert len(found(busiest.tasks, "sleeper")) == 2
        assert busiest.statistics.connections == 5
        only = snapshot_of(memory.server, Query(filter="room/2"))
        assert [row.path for row in only.connections] == ["/room/2"]
        assert only.tasks is None
        for sort in SORTS:
            assert len(snapshot_of(memory.server, Query(sort=sort)).connections) == 5


async def refusal(
    path: str, inspector: Inspector, token: str | None = None, **headers: str
) -> ws.HandshakeRefused:
    """The HTTP answer of a server with this inspector."""
    async with serve_in_memory(handler, process_request=inspector.hook(token)) as memory:
        inspector.watch(memory.server)
        with pytest.raises(ws.HandshakeRefused) as caught:
            await memory.connect(path, headers=headers.items())
    return caught.value


async def test_without_the_token_nothing_is_shown() -> None:
    """With a token set, only a request that carries it gets an answer."""
    assert (await refusal("/inspect", Inspector(), "s3cret")).status == 401
    assert (await refusal("/inspect", Inspector(), "s3cret", authorization="Bearer wrong")).status == 401
    assert (
        await refusal("/inspect", Inspector(), "s3cret", authorization="Bearer gr\u00fc\u00dfe")
    ).status == 401
    answer = await refusal("/inspect", Inspector("7"), "s3cret", authorization="Bearer s3cret")
    assert answer.status == 200
    assert from_json(answer.body).worker == "7"


async def test_a_bad_question_is_answered_with_what_would_be_right() -> None:
    """Unknown sortings and limits are 400 with one line."""
    answer = await refusal("/inspect?sort=beauty", Inspector())
    assert (answer.status, answer.body) == (
        400,
        b"sort is one of queued, age, in, out, bytes, dropped, latency, id, not 'beauty'\n",
    )
    assert (await refusal("/inspect?limit=-1", Inspector())).status == 400


def test_before_the_server_listens_the_answer_is_to_come_back() -> None:
    """An inspector without a server is 503."""
    answer = Inspector().hook(None)(ws.Request("GET", "/inspect"))
    assert answer is not None
    assert answer.status == 503
    assert Inspector().hook("t")(ws.Request("GET", "/other")) is None


def test_the_query_is_read_as_it_was_asked() -> None:
    """What ``top`` asks for is what the server reads."""
    request = ws.Request("GET", "/inspect?sort=age&filter=a%20b&limit=3&tasks=1")
    assert parse_query(request) == Query(sort="age", filter="a b", limit=3, tasks=True)
    assert parse_query(ws.Request("GET", "/inspect")) == Query()


@pytest.mark.usefixtures("autojump_clock")
async def test_loop_lag_is_measured_once_a_second() -> None:
    """The histogram has one value a second, while it is asked for."""
    inspector = Inspector()
    async with serve_in_memory(handler) as memory, trio.open_nursery() as nursery:
        inspector.watch(memory.server)
        assert inspector.snapshot(Query()).loop_lag is None  # type: ignore[union-attr]  # it watches a server
        nursery.start_soon(inspector.measure_lag)
        await trio.sleep(10.5)
        snapshot = inspector.snapshot(Query())
        assert snapshot is not None
        assert snapshot.loop_lag is not None
        assert sum(snapshot.loop_lag.counts) == 10
        nursery.cancel_scope.cancel()


async def test_counts_alone_need_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are all that metrics ask for, of a hundred thousand connections, too."""
    async with serve_in_memory(handler) as memory:
        await memory.connect("/room")
        await wait_all_tasks_blocked()
        tree = snapshot_of(memory.server, Query(limit=0, tasks=True)).tasks
        assert tree is not None
        assert not found(tree, "sleeper")
        with monkeypatch.context() as patch:
            patch.delattr(WireConnection, "opened_at")  # which a row shows, and no count is of
            counts = snapshot_of(memory.server, Query(limit=0))
        assert (counts.statistics.connections, counts.matching, counts.connections) == (1, 1, [])


async def test_an_inspector_runs_no_task_of_its_own() -> None:
    """An inspector that watches adds no task."""
    async with serve_in_memory(handler) as memory:
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        inspector = Inspector()
        inspector.watch(memory.server)
        inspector.hook("token")
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


class Loud:
    """Something whose text is of no use."""

    def __repr__(self) -> str:
        raise ValueError


async def test_a_snapshot_shows_what_registries_remember() -> None:
    """Each connection has its members' info as bounded text, by which it is found, until they leave."""
    registry: ws.Registry[object]
    async with ws.open_registry() as registry:

        async def join(connection: ws.Connection) -> None:
            infos = {"/ann": "Ann", "/number": 7, "/long": "x" * 1000, "/loud": Loud(), "/none": None}
            with registry.register(connection, infos[connection.request.path]):
                await connection.receive()
            await connection.wait_closed()

        async with serve_in_memory(join) as memory:
            peers = [await memory.connect(path) for path in ("/ann", "/number", "/long", "/loud", "/none")]
            await wait_all_tasks_blocked()
            shown = {row.path: row.info for row in snapshot_of(memory.server).connections}
            assert shown.pop("/loud").startswith("<Loud instance")
            assert shown == {"/ann": "Ann", "/number": "7", "/long": "x" * 100, "/none": ""}
            found = snapshot_of(memory.server, Query(filter="Ann", limit=0))
            assert (found.matching, found.connections) == (1, [])
            await peers[0].send("leave")
            await wait_all_tasks_blocked()
            assert snapshot_of(memory.server, Query(filter="Ann")).connections == []


async def test_a_task_says_what_it_waits_for() -> None:
    """In a method of the connection, the one it is; the server's own tasks are told apart."""

    async def waiting(connection: ws.Connection) -> None:
        await {"/end": connection.wait_closed, "/message": connection.receive}[connection.request.path]()

    async def plain(connection: ws.Connection) -> None:
        await ws.consume(connection, lambda _message: None)

    for handler_, path, doing in (
        (waiting, "/end", "waits for the end"),
        (waiting, "/message", "waits for a message"),
        (plain, "/", "waits for a message"),
    ):
        async with serve_in_memory(handler_) as memory:
            await memory.connect(path)
            await wait_all_tasks_blocked()
            snapshot = snapshot_of(memory.server)
            (task,) = found(snapshot.tasks, snapshot.connections[0].id)
            assert (task.doing, task.internal) == (doing, False)
            (engine,) = found(snapshot.tasks, "engine")
            assert engine.internal


async def test_a_snapshot_shows_the_broker() -> None:
    """Its name, and its problem while it has one."""
    async with serve_in_memory(handler) as memory:
        inspector = Inspector()
        inspector.watch(memory.server, lambda: BrokerState("redis://h:1", "away"))
        answer = inspector.hook(None)(ws.Request("GET", "/inspect"))
        assert answer is not None
        assert from_json(answer.body).broker == BrokerState("redis://h:1", "away")
