"""Floating-point operations that PyTorch's own counter does not see."""
from contextlib import contextmanager
from typing import Dict, Iterator, List

_open_lists: Dict[str, List[List[dict]]] = dict(scan=[], convolution=[])


@contextmanager
def record_operations(kind: str) -> Iterator[List[dict]]:
    """Collect the sizes of all scans or short convolutions in a context.

    Args:
        kind (str): 'scan' or 'convolution'.

    Yields:
        List[dict]: Grows by one dict a call: the arguments of
        :func:`count_scan_flops` or of :func:`count_convolution_flops`.
    """
    calls: List[dict] = []
    _open_lists[kind].append(calls)
    try:
        yield calls
    finally:
        _open_lists[kind].remove(calls)


def note_operation(kind: str, **sizes) -> None:
    """Tell the open recordings of a call.

    Args:
        kind (str): 'scan' or 'convolution'.
        **sizes: See :func:`record_operations`.
    """
    for calls in _open_lists[kind]:
        calls.append(sizes)


def count_convolution_flops(batch: int, channels: int, length: int,
                            width: int) -> int:
    """Count a depthwise convolution, a multiply-add as two operations.

    Args:
        batch (int): Batch size.
        channels (int): Channels E.
        length (int): Tokens L.
        width (int): Kernel size K.

    Returns:
        int: Operations.
    """
    return 2 * batch * channels * length * width


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
