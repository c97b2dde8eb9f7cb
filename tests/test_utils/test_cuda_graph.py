import pytest
import torch

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
