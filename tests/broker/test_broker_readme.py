"""What ``broker/README.md`` says is what happens: every block of code in it is run."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio
from redis_servers import RedisServer

import trio_ws_app as ws

README = (Path(ws.__file__).parent / "broker" / "README.md").read_text()
RUN = dict(re.findall(r"<!-- run: (\S+) -->\n```python\n(.*?)```", README, flags=re.DOTALL))


async def run(name: str, **names: Any) -> None:
    """Run a block as the body of an async function."""
    scope: dict[str, Any] = {"ws": ws, "trio": trio, **names}
    source = f"async def body():\n{textwrap.indent(RUN[name], '    ')}"
    exec(compile(source, f"broker/README.md, {name}", "exec"), scope)
    with trio.fail_after(10):
        await scope["body"]()


def test_every_block_is_run() -> None:
    """No Python block is without a name, and each name is mentioned by a test here."""
    assert len(RUN) == len(re.findall("^```python$", README, flags=re.MULTILINE))
    source = Path(__file__).read_text()
    assert [name for name in RUN if f'"{name}"' not in source] == []


async def test_a_broker_brings_what_is_published(redis_server: RedisServer) -> None:
    """The block "broker": what is published comes, in the order of publishing."""

    class Enough(Exception):
        pass

    printed: list[object] = []

    def print_once(item: object) -> None:
        printed.append(item)
        raise Enough

    url = 'ws.open_redis_broker("redis://localhost:6379")'
    assert url in RUN["broker"]
    RUN["broker"] = RUN["broker"].replace("redis://localhost:6379", redis_server.url)
    with pytest.raises(Enough):
        await run("broker", print=print_once)
    assert printed == ["hello"]
