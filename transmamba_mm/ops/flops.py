"""Floating-point operations of a selective scan."""
from contextlib import contextmanager
from typing import Iterator, List

_open_lists: List[List[dict]] = []


@contextmanager
def record_scans() -> Iterator[List[dict]]:
    """Collect the sizes of all multi-direction scans in a context.

    Yields:
        List[dict]: Grows by the arguments of :func:`count_scan_flops`, one
        dict a scan.
    """
    calls: List[dict] = []
    _open_lists.append(calls)
    try:
        yield calls
    finally:
        _open_lists.remove(calls)


def note_scan(**sizes) -> None:
    """Tell the open recordings of a scan.

    Args:
        **sizes: Arguments of :func:`count_scan_flops`.
    """
    for calls in _open_lists:
        calls.append(sizes)


def count_scan_flops(batch: int,
                     channels: int,
                     length: int,
                     d_state: int,
                     directions: int = 1,
                     with_skip: bool = True,
                     with_gate: bool = True) -> int:
    """Count by the rule that mamba's authors give.

    Nine operations a state and step (discretise, decay, add, read out), one
    each for the skip and the gate.

    Args:
        batch (int): Batch size.
        channels (int): Channels E of one direction.
        length (int): Tokens L.
        d_state (int): State size N.
        directions (int): Number of scans. Defaults to 1.
        with_skip (bool): Whether D is used. Defaults to True.
        with_gate (bool): Whether the output is gated, once for all
            directions. Defaults to True.

    Returns:
        int: Operations.
    """
    steps = batch * channels * length
    scan = 9 * steps * d_state + steps * with_skip
    return directions * scan + steps * with_gate
