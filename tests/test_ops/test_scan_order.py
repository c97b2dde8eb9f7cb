"""Scan orders against small hand-written tables."""
import pytest
import torch

from transmamba_mm.ops import bidirectional_orders, cross_orders, snake_orders


def rows(orders):
    return dict(zip(orders.names, orders.index.tolist()))


def test_bidirectional():
    assert rows(bidirectional_orders(3)) == dict(
        forward=[0, 1, 2], backward=[2, 1, 0])


def test_cross():
    assert rows(cross_orders(2, 3)) == dict(
        row=[0, 1, 2, 3, 4, 5],
        column=[0, 3, 1, 4, 2, 5],
        row_reversed=[5, 4, 3, 2, 1, 0],
        column_reversed=[5, 2, 4, 1, 3, 0])


def test_snakes_of_an_even_and_an_odd_side():
    orders, moves = snake_orders(2, 3)
    assert rows(orders) == dict(
        rows=[0, 1, 2, 5, 4, 3],
        rows_reversed=[3, 4, 5, 2, 1, 0],
        columns=[0, 3, 4, 1, 2, 5],
        columns_reversed=[5, 2, 1, 4, 3, 0])
    # 0 start, 1 right, 2 left, 3 up, 4 down
    assert moves.tolist() == [
        [0, 1, 1, 4, 2, 2],
        [0, 1, 1, 3, 2, 2],
        [0, 4, 1, 3, 1, 4],
        [0, 3, 2, 4, 2, 3],
    ]


@pytest.mark.parametrize('h, w, codes', [(1, 3, {0, 1, 2}),
                                         (3, 1, {0, 3, 4})])
def test_snakes_of_one_line(h, w, codes):
    orders, moves = snake_orders(h, w)
    assert set(moves.flatten().tolist()) == codes
    assert orders.index[0].tolist() == [0, 1, 2]
    assert orders.index[3].tolist() == [2, 1, 0]


@pytest.mark.parametrize('h, w', [(3, 3), (4, 5), (5, 4), (14, 14)])
def test_snakes_never_jump(h, w):
    orders, _ = snake_orders(h, w)
    row, column = orders.index // w, orders.index % w
    step = row.diff().abs() + column.diff().abs()
    assert step.eq(1).all()


@pytest.mark.parametrize('orders', [
    bidirectional_orders(7),
    cross_orders(3, 4),
    snake_orders(3, 4)[0],
])
def test_inverse_undoes_the_order(orders):
    positions = torch.arange(orders.index.shape[1])
    for index, inverse in zip(orders.index, orders.inverse):
        assert torch.equal(index[inverse], positions)


def test_tables_are_made_once():
    assert snake_orders(6, 5) is snake_orders(6, 5)
