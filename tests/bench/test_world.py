"""Requests name what they are to name."""

from __future__ import annotations

from bench.world import VERSION, Shape, of_users, questions


def test_questions_say_what_they_are_to_say_besides() -> None:
    first, second = questions(Shape(users=3, items=4), 5, 2, seed=1, dtype="f16")
    assert len(first["i"]) == len(second["i"]) == 5
    assert (first["v"], first["dtype"]) == (VERSION, "f16")
    (other,) = questions(Shape(users=3, items=4), 5, 1, seed=1, v="other")
    assert other["v"] == "other"


def test_rows_name_so_many_users_in_turn() -> None:
    bodies = [{"u": user, "i": [1, 2, 3, 4, 5]} for user in (7, 8, 9)]
    assert [body["u"] for body in of_users(bodies, 2)] == [
        [7, 8, 7, 8, 7],
        [8, 9, 8, 9, 8],
        [9, 7, 9, 7, 9],
    ]
