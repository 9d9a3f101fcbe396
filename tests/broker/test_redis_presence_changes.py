"""What Redis is told of a process's members, when one of them changes its mind or the process its name."""

from __future__ import annotations

import pytest

from trio_ws_app.broker import AlreadyPresent
from trio_ws_app.broker.redis_presence_changes import (
    COMES,
    COMES_ALONE,
    GOES,
    LINGERS,
    Member,
    Members,
    encoded,
)


def topic_with(*members: Member) -> Members:
    """A topic to which these have just come."""
    topic = Members(b"t")
    for member in members:
        topic.members[member.number] = member
        topic.change(member, member.does)
    return topic


def tell(topic: Members, process: bytes, now: bytes | None = None, refused: set[bytes] | None = None) -> str:
    """Tell Redis what is next, as ``process``, which has the name ``now`` when Redis answers."""
    told = topic.next()
    said = b" ".join(encoded(told, process)).decode()
    topic.note_done(told, process, now or process, refused or set())
    return said


def test_a_member_that_has_gone_before_redis_heard_of_it_is_not_told() -> None:
    """The others are, in order."""
    ann, bob = Member(1, b"Ann", COMES), Member(2, b"Bob", COMES)
    topic = topic_with(ann, bob)
    topic.change(ann, GOES)
    assert tell(topic, b"p") == "+ p:2 Bob"
    assert topic.next() == {}


def test_a_member_that_redis_may_have_heard_of_goes() -> None:
    """It is there, or its leaving changes nothing."""
    ann = Member(1, b"Ann", COMES)
    topic = topic_with(ann)
    ann.was_told = True
    topic.change(ann, GOES)
    assert tell(topic, b"p") == "- p:1"


def test_what_a_member_does_while_redis_is_told_comes_after_it() -> None:
    """In the order in which the members did it, so that a user whom another member follows stays."""
    ann, again = Member(1, b"Ann", COMES), Member(2, b"Ann", COMES)
    topic = topic_with(ann)
    told = topic.next()
    topic.change(again, COMES)
    topic.change(ann, GOES)
    topic.note_done(told, b"p", b"p", set())
    assert not ann.done.is_set()
    assert tell(topic, b"p") == "+ p:2 Ann - p:1"
    assert ann.done.is_set()


def test_a_member_comes_again_under_the_other_name_of_its_process() -> None:
    """Its coming is done when Redis has it under the name that the process has now."""
    ann = Member(1, b"Ann", COMES)
    topic = topic_with(ann)
    assert tell(topic, b"old", now=b"new") == "+ old:1 Ann"
    assert not ann.done.is_set()
    assert tell(topic, b"new") == "+ new:1 Ann"
    assert ann.done.is_set()


def test_a_member_lingers_under_the_other_name_of_its_process() -> None:
    """It comes for that, which it has done before where the name is the same."""
    ann = Member(1, b"Ann", COMES)
    topic = topic_with(ann)
    tell(topic, b"old")
    topic.change(ann, LINGERS)
    assert tell(topic, b"old") == "~ old:1"
    topic.change(ann, LINGERS)
    assert tell(topic, b"new") == "+ new:1 Ann ~ new:1"


@pytest.mark.parametrize("does", [COMES, COMES_ALONE])
def test_members_that_are_not_let_in_are_done(does: bytes) -> None:
    """With the refusal, of the script or of Redis."""
    ann, bob = Member(1, b"Ann", does), Member(2, b"Bob", does)
    topic = topic_with(ann)
    tell(topic, b"p", refused={b"p:1"})
    assert isinstance(ann.refusal, AlreadyPresent)
    topic.change(bob, does)
    refusal = RuntimeError("no permission")
    topic.note_refused(topic.next(), refusal)
    assert bob.refusal is refusal
    assert ann.done.is_set()
    assert bob.done.is_set()
    assert topic.next() == {}


def test_a_member_that_redis_may_know_goes_although_it_was_refused() -> None:
    """As soon as Redis lets it, whether it was refused to go or to come once more."""
    ann = Member(1, b"Ann", COMES)
    topic = topic_with(ann)
    ann.was_told = True
    told = topic.next()
    topic.change(ann, GOES)
    topic.note_refused(told, RuntimeError("no permission"))
    topic.note_refused(topic.next(), RuntimeError("no permission"))
    assert tell(topic, b"p") == "- p:1"
