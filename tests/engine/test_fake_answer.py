from app.engine.fake_answer import long_answer


def test_the_answer_is_as_long_as_asked_and_always_the_same():
    answer = long_answer(5000)
    assert 5000 <= len(answer) < 7500
    assert answer == long_answer(5000)
    assert answer.startswith(long_answer(900))
    assert answer.count("```") % 2 == 0
