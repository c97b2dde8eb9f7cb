"""Latency, throughput and memory of a model."""
import statistics
import time
from contextlib import contextmanager, nullcontext
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cuda_graph import capture


def measure_speed(model: nn.Module,
                  shape: Sequence[int],
                  device: str = 'cpu',
                  dtype: torch.dtype = torch.float32,
                  warmup: int = 3,
                  repeats: int = 10,
                  train: bool = False,
                  cuda_graph: bool = False,
                  max_seconds: Optional[float] = None) -> Dict[str, float]:
    """Time the forward pass, or the training step, on random images.

    A training step is the forward pass, cross-entropy and the backward pass,
    without an optimizer.

    Args:
        model (nn.Module): Called with one tensor; put into eval mode, or
            train mode if ``train`` is set. It returns scores (B, classes), or
            a tuple whose last item they are.
        shape (Sequence[int]): Shape of the images (B, C, H, W).
        device (str): Where it runs. Defaults to 'cpu'.
        dtype (torch.dtype): float32, or a lower precision for autocast over
            float32 weights. Defaults to torch.float32.
        warmup (int): Calls before the clock starts, and before a graph is
            recorded. Defaults to 3.
        repeats (int): Timed calls; the median counts. Defaults to 10.
        train (bool): Whether the training step is timed. Defaults to False.
        cuda_graph (bool): Whether it is replayed from a CUDA graph. Defaults
            to False.
        max_seconds (float, optional): See :func:`time_calls`. Defaults to
            None.

    Returns:
        Dict[str, float]: ``latency_ms`` of a batch, its ``spread_ms``
        (difference of the quartiles), ``images_per_s`` and ``peak_mib``
        (memory allocated on the card; 0 on a CPU).

    Raises:
        RuntimeError: If a graph is asked for without a CUDA device, or
            cannot be recorded.
    """
    is_cuda = torch.device(device).type == 'cuda'
    with torch.cuda.device(device) if is_cuda else nullcontext():
        model = model.to(device).train(train)
        images = torch.randn(*shape, device=device)
        call = make_call(model, images, dtype, train)
        return measure_call(call, shape[0], is_cuda, warmup, repeats,
                            cuda_graph, max_seconds)


def make_call(model: nn.Module, images: Tensor, dtype: torch.dtype,
              train: bool) -> Callable[[], None]:
    """Make a function of nothing that runs a model once.

    Args:
        model (nn.Module): See :func:`measure_speed`.
        images (Tensor): Images (B, C, H, W), on the model's device.
        dtype (torch.dtype): See :func:`measure_speed`.
        train (bool): Whether it runs the training step.

    Returns:
        Callable: It leaves no gradients behind.
    """
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    params = [p for p in model.parameters() if p.requires_grad]

    def forward() -> Tensor:
        with torch.autocast(
                images.device.type, dtype, enabled=dtype != torch.float32):
            scores = model(images)
        return scores[-1] if isinstance(scores, (tuple, list)) else scores

    def infer() -> None:
        with torch.no_grad():
            forward()

    def step() -> None:
        F.cross_entropy(forward().float(), labels).backward()
        for p in params:
            p.grad = None

    return step if train else infer


def measure_call(call: Callable[[], None],
                 batch: int,
                 is_cuda: bool,
                 warmup: int = 3,
                 repeats: int = 10,
                 cuda_graph: bool = False,
                 max_seconds: Optional[float] = None) -> Dict[str, float]:
    """Time a function and read its peak memory.

    Args:
        call (Callable): Takes and returns nothing.
        batch (int): Images of a call.
        is_cuda (bool): Whether it runs on a card.
        warmup (int): See :func:`measure_speed`. Defaults to 3.
        repeats (int): See :func:`measure_speed`. Defaults to 10.
        cuda_graph (bool): See :func:`measure_speed`. Defaults to False.
        max_seconds (float, optional): See :func:`time_calls`. Defaults to
            None.

    Returns:
        Dict[str, float]: See :func:`measure_speed`.
    """
    with _side_stream(is_cuda):
        if is_cuda:
            call()  # compiles and tunes kernels, which takes memory too
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        if cuda_graph:
            graph, _ = capture(call, warmup)
            call = graph.replay
        seconds = time_calls(call, warmup, repeats, is_cuda, max_seconds)
    median = statistics.median(seconds)
    quartiles = statistics.quantiles(seconds, n=4)
    peak = torch.cuda.max_memory_allocated() if is_cuda else 0
    return dict(
        latency_ms=1e3 * median,
        spread_ms=1e3 * (quartiles[2] - quartiles[0]),
        images_per_s=batch / median,
        peak_mib=peak / 2**20)


@contextmanager
def _side_stream(is_cuda: bool) -> Iterator[None]:
    """Run on a stream of its own, since a backward pass on the default one
    can stand in the way of a graph recorded later."""
    if not is_cuda:
        yield
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream().wait_stream(side)


def time_calls(call: Callable[[], None],
               warmup: int,
               repeats: int,
               is_cuda: bool,
               max_seconds: Optional[float] = None) -> List[float]:
    """Time a function.

    Args:
        call (Callable): Takes and returns nothing.
        warmup (int): Calls before the clock starts.
        repeats (int): Timed calls, at least 2.
        is_cuda (bool): Whether device events are used, instead of the wall
            clock.
        max_seconds (float, optional): Slow calls are repeated less often, at
            least 3 times, so that the timed ones take about this long. The
            last call of the warm-up tells how slow they are. Defaults to
            None, no limit.

    Returns:
        List[float]: Seconds of each timed call.
    """
    lasted = 0.
    for _ in range(warmup):
        lasted = _time_once(call, is_cuda)
    if max_seconds is not None and lasted > 0:
        repeats = min(repeats, max(3, int(max_seconds / lasted)))
    if not is_cuda:
        return [_time_once(call, False) for _ in range(repeats)]
    events = [
        tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(repeats)
    ]
    for start, stop in events:
        start.record()
        call()
        stop.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(stop) / 1e3 for start, stop in events]


def _time_once(call: Callable[[], None], is_cuda: bool) -> float:
    """Seconds of one call by the wall clock, until the card is done."""
    if is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
