"""The module ``channels.js`` by itself, in a real browser, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe import needs_chromium
from browser import Browser, Tab, page_of
from running import serving

pytestmark = needs_chromium

APPLICATION = """
import trio
import trio_ws_app as ws

channels = ws.Channels()
refused = []


@channels.subscription("news")
async def news(subscription: ws.ChannelSubscription) -> None:
    if subscription.data == "refuse once" and not refused:
        refused.append(subscription)
        raise ws.Refuse(100)  # which is temporary
    await subscription.accept()
    await trio.sleep_forever()


@channels.subscription("flood")
async def flood(subscription: ws.ChannelSubscription) -> None:
    await subscription.accept()
    for number in range(5):
        await subscription.publish(number)
    await trio.sleep_forever()


@channels.rpc("wait")
async def wait(call: ws.Call) -> object:
    await trio.sleep_forever()


@channels.rpc("drop")
async def drop(call: ws.Call) -> object:
    call.client.disconnect(3011)  # the client comes back


@channels.rpc("channels")
async def names(call: ws.Call) -> object:
    return list(call.client.channels)


application = channels.app()
"""
# Timers are told apart by their time, and those of two seconds are called by hand.
TIMERS = """
(async () => {
  const [set, clear] = [setTimeout, clearTimeout];
  window.timers = new Map();
  window.setTimeout = (call, time) => {
    const timer = time === 2000 ? Symbol() : set(() => (timers.delete(timer), call()), time);
    timers.set(timer, {call, time});
    return timer;
  };
  window.clearTimeout = (timer) => timers.delete(timer) && typeof timer === 'number' && clear(timer);
  const {connect} = await import('/channels.js');
  window.connect = connect;
})()
"""


@pytest.fixture
def tab(browser: Browser, tmp_path: Path) -> Iterator[Tab]:
    """A page that has the function ``connect``, and the Map ``timers`` of what has been set."""
    (tmp_path / "news.py").write_text(APPLICATION)
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "index.html").write_text("<!doctype html><link rel=icon href=icon.svg>")
    with serving("news:application", "--static", "public", cwd=tmp_path) as server:
        tab = browser.tab(page_of(server))
        tab.value(TIMERS)
        yield tab
        assert tab.complaints == []


def test_a_client_that_is_closed_stays_closed(tab: Tab) -> None:
    """It is not connected, what waits for answers is rejected, and no timer brings it back."""
    tab.value("client = connect(), 0")
    tab.wait_for("client.isConnected()")
    assert tab.value("timers.size") == 1
    tab.value("answer = client.rpc('wait').catch(({code}) => `error ${code}`), client.close(), 0")
    assert tab.value("[client.isConnected(), timers.size]") == [False, 0]
    assert tab.value("answer") == "error 0"
    assert tab.value("client.rpc('wait').catch(({code}) => `error ${code}`)") == "error 0"


def test_a_subscription_is_not_tried_again_if_it_has_begun_with_a_new_connection(tab: Tab) -> None:
    """The error was temporary, and the connection came back before the time to try again."""
    tab.value("told = [], client = connect(), 0")
    begun, over = "() => told.push('begun')", "() => told.push('over')"
    options = f"{{data: 'refuse once', onSubscribed: {begun}, onUnsubscribed: {over}}}"
    tab.value(f"client.subscribe('news', {options}), 0")
    retries = "[...timers.values()].filter(({time}) => time === 2000)"
    tab.wait_for(f"{retries}.length === 1")
    tab.value("client.rpc('drop').catch(() => {}), 0")
    tab.wait_for("told.join() === 'begun'")
    tab.value(f"{retries}.forEach(({{call}}) => call()), client.rpc('none').catch(() => {{}})")
    assert tab.value("told.join()") == "begun"


def test_what_is_left_as_the_connection_comes_does_not_begin(tab: Tab) -> None:
    """The function that is told of the connection has unsubscribed it."""
    tab.value("client = connect({onConnect: () => news.unsubscribe()}), news = client.subscribe('news'), 0")
    tab.wait_for("client.isConnected()")
    assert tab.value("client.rpc('channels')") == []


def test_what_was_on_its_way_from_a_channel_that_was_left_is_not_told(tab: Tab) -> None:
    """It is not taken for that of a channel to which the server has subscribed the client."""
    tab.value("told = [], client = connect({onPublication: ({data}) => told.push(data)}), 0")
    tab.wait_for("client.isConnected()")
    options = "{onPublication: ({data}) => (told.push(`mine ${data}`), flood.unsubscribe())}"
    tab.value(f"flood = client.subscribe('flood', {options}), 0")
    tab.wait_for("told.length > 0")
    assert tab.value("client.rpc('channels')") == []
    assert tab.value("told") == ["mine 0"]
