"""Boards: sorted, filtered and cut into pages, against plain Python over the same standings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore import InvalidInput
from qcore.ranking import MOST_FOR_HOLM
from searcher.board import MOST_COMPARED_ORDERS, SORT_KEYS, Board, Filters, Order
from searcher.standings import Standing

EXAMPLES = 1000
few = st.integers(1, 4)  # so that many are equal
maybe = st.none() | few.map(float)


def standing(architecture: str, **values: object) -> Standing:
    given = {
        "block": "basic",
        "depth": 8,
        "width": 3,
        "parameters": 100,
        "macs": 1,
        "bit_operations": 1,
        "model_bytes": 1,
        "seeds": 1,
        "accuracy": 50.0,
        "squares": 0.0,
        "float_accuracy": 60.0,
        "drop": 10.0,
        "train_seconds": 1.0,
    }
    return Standing(architecture, **(given | values))  # type: ignore[arg-type]


@st.composite
def _standings(draw: st.DrawFn) -> list[Standing]:
    return [
        standing(
            f"a{number}",
            block=draw(st.sampled_from(["basic", "preact"])),
            parameters=draw(few),
            macs=draw(few),
            bit_operations=draw(few),
            model_bytes=draw(few),
            seeds=draw(few),
            accuracy=draw(maybe),
            float_accuracy=draw(maybe),
            drop=draw(maybe),
            train_seconds=float(draw(few)),
        )
        for number in draw(st.permutations(range(draw(st.integers(0, 12)))))
    ]


orders = st.builds("".join, st.tuples(st.sampled_from(["", "-"]), st.sampled_from(SORT_KEYS)))


def _sorted_by(each: Standing, order: Order) -> tuple[float, int, str]:
    value = each.accuracy if order.key == "rank" else getattr(each, order.key)
    if value is None:
        return math.inf, each.parameters, each.architecture
    sign = (-1 if order.key == "rank" else 1) * (-1 if order.is_downwards else 1)
    return sign * value, each.parameters, each.architecture


@settings(deadline=None, max_examples=60)
@given(_standings(), orders, st.integers(1, 5))
def test_pages_one_after_the_other_are_the_sorted_whole(standings: list[Standing], sort: str, limit: int) -> None:
    board, order, found = Board.of(standings, EXAMPLES), Order(sort, limit=limit), []
    while True:
        indices, following = board.page(order)
        assert len(indices) == limit or following is None
        found += [board.name(index) for index in indices]
        if following is None:
            break
        order = Order(sort, following, limit)

    assert found == [each.architecture for each in sorted(standings, key=lambda each: _sorted_by(each, order))]
    whole, following = board.page(Order(sort))
    assert ([board.name(index) for index in whole], following) == (found, None)


@settings(deadline=None, max_examples=60)
@given(_standings(), orders, st.data())
def test_a_page_begins_behind_its_position_whatever_came_or_went_since(
    standings: list[Standing], sort: str, data: st.DataObject
) -> None:
    _, following = Board.of(standings, EXAMPLES).page(Order(sort, limit=2))
    if following is None:
        return
    left = data.draw(st.lists(st.sampled_from(standings), unique_by=lambda each: each.architecture))
    board, order = Board.of(left, EXAMPLES), Order(sort, following)

    last = next(each for each in standings if each.architecture == following.architecture)
    expected = [each for each in left if _sorted_by(each, order) > _sorted_by(last, order)]
    found, _ = board.page(order)
    assert {board.name(index) for index in found} == {each.architecture for each in expected}


@settings(deadline=None, max_examples=60)
@given(_standings(), st.none() | few, st.none() | few, st.none() | few, st.sampled_from([None, "basic", "plain"]))
def test_filters_leave_what_is_within_them_ranked_among_itself(
    standings: list[Standing], parameters: int | None, size: int | None, operations: int | None, block: str | None
) -> None:
    among = frozenset(f"a{number}" for number in range(0, 12, 2))
    board = Board.of(standings, EXAMPLES).filtered(Filters(block, parameters, size, operations), among)

    left = [
        each
        for each in standings
        if each.architecture in among
        and block in (None, each.block)
        and (parameters is None or each.parameters <= parameters)
        and (size is None or each.model_bytes <= size)
        and (operations is None or each.bit_operations <= operations)
    ]
    assert sorted(board.name(index) for index in range(len(board))) == sorted(each.architecture for each in left)
    worth = {each.architecture: -1.0 if each.accuracy is None else each.accuracy for each in left}
    for index in range(len(board)):
        own = worth[board.name(index)]
        assert board.rank(index)[0] == 1 + sum(other > own for other in worth.values())
    best = max(worth.values(), default=-1.0)
    assert board.best("accuracy") == sorted(name for name, each in worth.items() if each == best >= 0)


def test_a_sort_key_that_there_is_not_and_a_cursor_of_another_order_are_refused() -> None:
    _, following = Board.of([standing("a"), standing("b")], EXAMPLES).page(Order("macs", limit=1))
    with pytest.raises(InvalidInput, match="float_accuracy"):
        Order("latency")
    with pytest.raises(InvalidInput, match="sort by macs"):
        Order("-macs", following)


def test_of_very_many_the_agreement_is_that_of_the_best() -> None:
    best = [
        standing(f"a{n}", accuracy=90 - n / 1000, float_accuracy=95 - n / 1000) for n in range(MOST_COMPARED_ORDERS)
    ]
    rest = [standing(f"b{n}", accuracy=10 + n / 1000, float_accuracy=99 - n / 1000) for n in range(1000)]

    assert Board.of([*rest, *best], EXAMPLES).order_agreement == 1.0


def test_ranks_of_very_many_are_no_narrower_than_of_fewer_alike() -> None:
    # Two groups far apart: Holm gains by what is clear, and gives up nothing.
    def ranks(each_side: int) -> tuple[int, int]:
        low = [standing(f"a{n}", accuracy=20.0) for n in range(each_side)]
        high = [standing(f"b{n}", accuracy=90.0) for n in range(each_side)]
        board = Board.of([*low, *high], EXAMPLES)
        found = board.rank(0)[1]
        return found.lowest, found.highest

    half = MOST_FOR_HOLM // 2
    assert ranks(half) == (half + 1, 2 * half)
    assert ranks(half + 1) == (half + 2, 2 * half + 2)
