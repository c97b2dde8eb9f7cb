"""Latency, throughput and memory of a model."""
import statistics
import time
from typing import Callable, Dict, List, Sequence

import torch
from torch import nn


@torch.no_grad()
def measure_speed(model: nn.Module,
                  shape: Sequence[int],
                  device: str = 'cpu',
                  dtype: torch.dtype = torch.float32,
                  warmup: int = 3,
                  repeats: int = 10) -> Dict[str, float]:
    """Time the forward pass on random images.

    Args:
        model (nn.Module): Called with one tensor; put into eval mode.
        shape (Sequence[int]): Shape of the images (B, C, H, W).
        device (str): Where it runs. Defaults to 'cpu'.
        dtype (torch.dtype): float32, or a lower precision for autocast over
            float32 weights. Defaults to torch.float32.
        warmup (int): Calls before the clock starts. Defaults to 3.
        repeats (int): Timed calls; the median counts. Defaults to 10.

    Returns:
        Dict[str, float]: ``latency_ms`` of a batch, its ``spread_ms``
        (difference of the quartiles), ``images_per_s`` and ``peak_mib``
        (memory allocated on the card; 0 on a CPU).
    """
    model = model.to(device).eval()
    images = torch.randn(*shape, device=device)
    is_cuda = torch.device(device).type == 'cuda'
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)

    def call():
        with torch.autocast(
                torch.device(device).type, dtype, enabled=dtype
                != torch.float32):
            model(images)

    seconds = time_calls(call, warmup, repeats, is_cuda)
    median = statistics.median(seconds)
    quartiles = statistics.quantiles(seconds, n=4)
    peak = torch.cuda.max_memory_allocated(device) if is_cuda else 0
    return dict(
        latency_ms=1e3 * median,
        spread_ms=1e3 * (quartiles[2] - quartiles[0]),
        images_per_s=shape[0] / median,
        peak_mib=peak / 2**20)


def time_calls(call: Callable[[], None], warmup: int, repeats: int,
               is_cuda: bool) -> List[float]:
    """Time a function.

    Args:
        call (Callable): Takes and returns nothing.
        warmup (int): Calls before the clock starts.
        repeats (int): Timed calls, at least 2.
        is_cuda (bool): Whether device events are used, instead of the wall
            clock.

    Returns:
        List[float]: Seconds of each timed call.
    """
    for _ in range(warmup):
        call()
    if not is_cuda:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds
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
