from dataclasses import replace

import pytest

from app.chat.options import CacheMode
from app.engine.protocol import Progress
from app.viewmodels.cache_course import MOST_POINTS, CacheCourse, Course, Reading, course_of
from tests.chat_parts import CACHE, FIGURES, MEMORY

FP16 = replace(CACHE, mode=CacheMode.FP16, used_bytes=CACHE.fp16_used_bytes, allocated_bytes=CACHE.fp16_allocated_bytes)


def at(tokens, cache=CACHE):
    share = tokens / cache.tokens
    return replace(
        cache,
        tokens=tokens,
        used_bytes=round(cache.used_bytes * share),
        fp16_used_bytes=round(cache.fp16_used_bytes * share),
    )


@pytest.fixture
def course(ready):
    return CacheCourse(ready.session)


def tell(ready, cache, generated=1):
    ready.say(Progress(ready.asked.request_id, cache, MEMORY, generated, 0.1, 10.0, 10.0))


def test_both_lines_begin_at_nothing_and_the_larger_one_fills_the_height():
    found = course_of([Reading(100, 25, 100), Reading(200, 50, 200)], CacheMode.INT4)
    assert found.own == ((0, 0), (0.5, 0.125), (1, 0.25))
    assert found.fp16 == ((0, 0), (0.5, 0.5), (1, 1))
    assert (found.tokens_text, found.bytes_text) == ("200 tokens", "200 bytes")
    assert "50 bytes in int4 at 200 tokens" in found.text
    assert "In fp16 the same tokens would take 200 bytes." in found.text


def test_fp16_is_compared_with_nothing():
    found = course_of([Reading(200, 200, 200)], CacheMode.FP16)
    assert found.own == found.fp16
    assert "would take" not in found.text
    assert course_of([], CacheMode.FP16).text == Course().text


def test_it_grows_while_a_reply_is_written_and_ends_with_its_figures(ready, course):
    told = []
    course.changed.connect(told.append)
    ready.session.send("Hello")
    for tokens in (100, 150, 150, 300):
        tell(ready, at(tokens))
    assert [x * 300 for x, _ in course.course.own] == pytest.approx([0, 100, 150, 300])
    ready.answer()
    assert course.course.tokens_text == "400 tokens"
    assert told[-1] is course.course
    assert len(told) == 4, "the same reading again changes nothing"


def test_a_stored_chat_has_a_point_for_every_reply(ready, course):
    ready.session.send("Hello")
    ready.answer()
    ready.session.send("Again")
    ready.answer()
    first = ready.session.conversation.id
    ready.session.new_chat()
    assert course.course.own == ()
    ready.session.open(first)
    assert [x for x, _ in course.course.own] == [0, 1]
    assert course.course.tokens_text == "400 tokens"


def test_a_cache_that_was_cut_back_is_drawn_as_it_is_now(ready, course):
    ready.session.send("Hello")
    ready.answer()
    ready.session.regenerate()
    tell(ready, at(250))
    assert course.course.tokens_text == "250 tokens"
    assert [x for x, _ in course.course.own] == [0, 1]


def test_another_kind_of_cache_begins_anew(ready, course):
    ready.session.send("Hello")
    ready.answer()
    ready.session.set_options(replace(ready.session.options, cache_mode=CacheMode.FP16))
    ready.session.send("Again")
    assert course.course == Course(mode=CacheMode.FP16)
    tell(ready, at(500, FP16))
    assert course.course.own == ((0, 0), (1, 1))
    assert FIGURES.cache.mode is CacheMode.INT4


def test_long_replies_are_thinned_and_keep_both_ends(ready, course):
    ready.session.send("Hello")
    for tokens in range(1, 2000):
        tell(ready, at(tokens))
    assert len(course.course.own) <= MOST_POINTS + 1
    assert course.course.tokens_text == "1,999 tokens"
    assert course.course.own[1][0] < 0.01
