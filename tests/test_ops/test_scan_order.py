"""Scan orders against small hand-written tables."""
import pytest
import torch

from transmamba_mm.ops import (CLIP_SCANS, SNAKE_NAMES, ScanOrders,
                               bidirectional_orders, clip_orders, cross_orders,
                               snake_orders)


def rows(orders):
    return dict(zip(orders.names, orders.index.tolist()))


def test_bidirectional():
    assert rows(bidirectional_orders(3)) == dict(
        forward=[0, 1, 2], backward=[2, 1, 0])


def test_clip():
    """A class token, then two frames of three patches."""
    walks = {
        scan: rows(clip_orders(2, 3, scan, num_leading=1))
        for scan in CLIP_SCANS
    }
    assert walks['spatial-first'] == dict(
        forward=[0, 1, 2, 3, 4, 5, 6], backward=[6, 5, 4, 3, 2, 1, 0])
    assert walks['temporal-first'] == dict(
        forward=[0, 1, 4, 2, 5, 3, 6], backward=[6, 3, 5, 2, 4, 1, 0])
    assert walks['mixed'] == dict(
        forward=walks['spatial-first']['forward'],
        backward=walks['temporal-first']['backward'])
    with pytest.raises(ValueError, match="scan_type='zigzag'.*mixed"):
        clip_orders(2, 3, 'zigzag')


def test_cross():
    assert rows(cross_orders(2, 3)) == dict(
        row=[0, 1, 2, 3, 4, 5],
        column=[0, 3, 1, 4, 2, 5],
        row_reversed=[5, 4, 3, 2, 1, 0],
        column_reversed=[5, 2, 4, 1, 3, 0])


# The walk of each direction, and the moves: 0 start, 1 right, 2 left, 3 up,
# 4 down. Odd and even sides end in different corners.
SNAKES = {
    (2, 2): ('0132 2310 0231 1320', '0142 0132 0413 0423'),
    (2, 3): ('012543 345210 034125 521430', '011422 011322 041314 032423'),
    (3, 2): ('013245 542310 024531 135420', '014241 023132 044133 044233'),
    (3, 3): ('012543678 876345210 036741258 852147630',
             '011422411 022311322 044133144 033244233'),
    (1, 4): ('0123 3210 0123 3210', '0111 0222 0111 0222'),
    (4, 1): ('0123 3210 0123 3210', '0444 0333 0444 0333'),
    (1, 1): ('0 0 0 0', '0 0 0 0'),
}


@pytest.mark.parametrize('h, w', SNAKES)
def test_snakes(h, w):
    orders, moves = snake_orders(h, w)
    walks, codes = ([[int(digit) for digit in word] for word in text.split()]
                    for text in SNAKES[h, w])
    assert rows(orders) == dict(zip(SNAKE_NAMES, walks))
    assert moves.tolist() == codes


@pytest.mark.parametrize('h, w', [(4, 5), (5, 4), (14, 14)])
def test_snakes_never_jump(h, w):
    orders, moves = snake_orders(h, w)
    down = (orders.index // w).diff()
    right = (orders.index % w).diff()
    assert (down.abs() + right.abs()).eq(1).all()
    moves = moves[:, 1:]
    assert torch.equal(right, (moves == 1).long() - (moves == 2).long())
    assert torch.equal(down, (moves == 4).long() - (moves == 3).long())


@pytest.mark.parametrize('orders', [
    bidirectional_orders(7),
    clip_orders(2, 3, 'mixed', 1),
    cross_orders(3, 4),
    snake_orders(3, 4)[0],
])
def test_inverse_undoes_the_order(orders):
    positions = torch.arange(orders.index.shape[1])
    for index, inverse in zip(orders.index, orders.inverse):
        assert torch.equal(index[inverse], positions)


def test_tables_are_made_once():
    assert snake_orders(6, 5) is snake_orders(6, 5)
    assert bidirectional_orders(4, 'cpu') is bidirectional_orders(
        4, torch.device('cpu'))


def test_move_to_a_device_is_kept():
    orders = cross_orders(2, 2)
    assert orders.to('cpu') is orders
    moved = orders.to('meta')
    assert moved.index.device.type == moved.inverse.device.type == 'meta'
    assert moved.names == orders.names
    assert orders.to(torch.device('meta')) is moved


@pytest.mark.parametrize('build', [
    lambda: bidirectional_orders(31), lambda: cross_orders(31, 2),
    lambda: snake_orders(31, 2)[0], lambda: clip_orders(31, 2, 'mixed')
])
def test_tables_made_in_inference_serve_in_training(build):
    with torch.inference_mode():
        orders = build()
    assert not orders.index.is_inference()
    assert not orders.inverse.is_inference()


def test_own_orders():
    orders = ScanOrders.from_index(['spiral'], torch.tensor([[0, 1, 3, 2]]))
    assert orders.inverse.tolist() == [[0, 1, 3, 2]]
    assert orders.names == ('spiral', )


@pytest.mark.parametrize('build, name', [
    (lambda: bidirectional_orders(0), 'length'),
    (lambda: clip_orders(0, 2), 'frames'),
    (lambda: cross_orders(0, 2), 'h'),
    (lambda: snake_orders(2, -1), 'w'),
])
def test_no_tokens(build, name):
    with pytest.raises(ValueError, match=f'need {name} >= 1'):
        build()
