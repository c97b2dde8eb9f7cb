"""A card that is none: what the benchmarks ask of ``torch.cuda``, on a CPU."""
import contextlib
import time
from unittest import mock

import torch


class Stream:

    def wait_stream(self, other):
        assert isinstance(other, Stream)


class Event:

    def __init__(self, enable_timing=False):
        assert enable_timing

    def record(self):
        self.at = time.perf_counter()

    def elapsed_time(self, other):
        return 1e3 * (other.at - self.at) + 1e-3


class Graph:
    """Counts its replays; nothing is really recorded."""
    made = []

    def __init__(self):
        self.replays = 0
        self.made.append(self)

    def replay(self):
        self.replays += 1


@contextlib.contextmanager
def record(graph, stream):
    assert isinstance(graph, Graph) and isinstance(stream, Stream)
    yield


@contextlib.contextmanager
def fake_card():
    """Stand in for CUDA; yields the list of graphs made."""
    Graph.made = []
    nothing = dict.fromkeys(
        ('synchronize', 'reset_peak_memory_stats', 'empty_cache'),
        lambda *_: None)
    with mock.patch.multiple(
            torch.cuda,
            is_available=lambda: True,
            current_stream=Stream,
            Stream=Stream,
            stream=lambda _: contextlib.nullcontext(),
            set_stream=lambda _: None,
            Event=Event,
            CUDAGraph=Graph,
            graph=record,
            max_memory_allocated=lambda *_: 3 * 2**20,
            memory_allocated=lambda *_: 2**20,
            **nothing):
        yield Graph.made
