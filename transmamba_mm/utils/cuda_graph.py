"""Recording of work on the card as a CUDA graph."""
from typing import Any, Callable, Tuple

import torch


def capture(call: Callable[[], Any],
            warmup: int = 3) -> Tuple[torch.cuda.CUDAGraph, Any]:
    """Record what a function does on the card.

    It is first called a few times on the side stream that it is then recorded
    on, so that kernels are compiled and order tables stand on the card.
    Memory that the recorded call uses belongs to the graph, and its tensors
    hold new values after each ``graph.replay()``.

    Args:
        call (Callable): Takes nothing; must not look at values on the host.
        warmup (int): Calls before the recording. Defaults to 3.

    Returns:
        Tuple[torch.cuda.CUDAGraph, Any]: The graph, and what the recorded
        call returned.

    Raises:
        RuntimeError: There is no CUDA device, the function cannot be
            recorded, or the memory does not suffice.
    """
    if not torch.cuda.is_available():
        raise RuntimeError('A CUDA graph needs a CUDA device, but PyTorch '
                           'finds none here; run without a graph.')
    side, outer = torch.cuda.Stream(), torch.cuda.current_stream()
    side.wait_stream(outer)
    with torch.cuda.stream(side):
        for _ in range(warmup):
            call()
    outer.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=side):
            result = call()
    except RuntimeError as error:
        # ending the recording fails too, which hides the first error and
        # leaves the stream set
        torch.cuda.set_stream(outer)
        first = error.__context__ or error
        if isinstance(first, torch.cuda.OutOfMemoryError):
            raise first
        reason = (str(first).strip() or type(first).__name__).splitlines()[0]
        raise RuntimeError('This cannot be recorded as a CUDA graph: '
                           f'{reason}') from error
    return graph, result
