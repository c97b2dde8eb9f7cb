import contextlib

import pytest
import torch

from tests.test_benchmarks.fake_card import fake_card
from transmamba_mm.utils.cuda_graph import capture


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a card')
def test_without_a_card_the_message_says_so():
    calls = []
    with pytest.raises(RuntimeError, match='needs a CUDA device'):
        capture(lambda: calls.append(1))
    assert not calls


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a CUDA device')
class TestOnACard:

    def test_a_replay_reads_new_values(self):
        x = torch.ones(4, device='cuda')
        graph, y = capture(lambda: x * 2)
        x.fill_(3)
        graph.replay()
        assert y.tolist() == [6] * 4

    def test_what_looks_at_values_is_refused_and_named(self):
        x = torch.ones(4, device='cuda')
        with pytest.raises(RuntimeError, match='recorded as a CUDA graph: .'):
            capture(lambda: x.sum().item())


class TestFailures:
    """With a stand-in for the card."""

    @pytest.fixture(autouse=True)
    def card(self, monkeypatch):
        with fake_card() as self.graphs:

            @contextlib.contextmanager
            def record(graph, stream):
                try:
                    yield
                finally:
                    raise RuntimeError('capture was invalidated')

            monkeypatch.setattr(torch.cuda, 'graph', record)
            monkeypatch.setattr(torch.cuda, 'set_stream', self.note_stream)
            self.streams = []
            yield

    def note_stream(self, stream):
        self.streams.append(stream)

    def test_the_first_error_is_named(self):
        calls = []

        def call():
            calls.append(1)
            if len(calls) > 2:
                raise RuntimeError('copy from the host\nmore')

        with pytest.raises(RuntimeError, match='graph: copy from the host$'):
            capture(call, warmup=2)
        assert len(calls) == 3 and len(self.streams) == 1

    def test_too_little_memory_stays_that(self):
        calls = []

        def call():
            calls.append(1)
            if len(calls) > 1:
                raise torch.cuda.OutOfMemoryError('too little')

        with pytest.raises(torch.cuda.OutOfMemoryError, match='too little'):
            capture(call, warmup=1)
