"""A step of retrieval can be recorded as a CUDA graph."""
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from torch.utils._python_dispatch import TorchDispatchMode

from tests.test_models.test_multimodal.toy_videos import batch, retrieval_cfg
from transmamba_mm.engine.graphed_train_step import (GraphedTrainStep,
                                                     _targets, _with_targets)

HEADS = ['MeanPoolHead', 'SequenceHead', 'CrossMambaHead']


class NoHostReads(TorchDispatchMode):
    """Refuse what waits for the card, or makes shapes of values."""
    READS = ('_local_scalar_dense', 'nonzero', 'masked_select', 'unique')

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(name in str(func) for name in self.READS), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('head', HEADS)
def test_a_step_reads_nothing_on_the_host(head):
    model = MODELS.build(retrieval_cfg(head))
    data = model.data_preprocessor(batch(range(6)), True)
    with NoHostReads():
        losses = model(**data, mode='loss')
        losses['loss'].backward()
    with pytest.raises(AssertionError), NoHostReads():
        losses['loss'].item()


def test_a_graph_gets_the_texts_of_each_batch():
    """What is copied in reaches the loss."""
    model = MODELS.build(retrieval_cfg()).eval()
    first, second = (
        model.data_preprocessor(batch(range(i, i + 4)), True) for i in (0, 4))
    targets = [t.clone() for t in _targets(first['data_samples'])]
    samples = _with_targets(first['data_samples'], targets)
    assert len(targets) == 3

    def loss(inputs, samples):
        return model(inputs, samples, mode='loss')['loss']

    assert torch.equal(loss(**_named(first)), loss(first['inputs'], samples))
    torch._foreach_copy_(targets, _targets(second['data_samples']))
    assert torch.equal(loss(**_named(second)), loss(second['inputs'], samples))
    assert not torch.equal(
        loss(**_named(second)), loss(second['inputs'], first['data_samples']))


def _named(data):
    return dict(inputs=data['inputs'], samples=data['data_samples'])


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('head', HEADS)
def test_the_weights_are_those_of_single_steps(head):
    ends = []
    for graphed in (True, False):
        torch.manual_seed(0)
        model = MODELS.build(retrieval_cfg(head)).cuda()
        model.init_weights()
        wrapper = OptimWrapper(
            torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True),
            clip_grad=dict(max_norm=1.))
        step = GraphedTrainStep(model, wrapper, warmup=2) if graphed else \
            model.train_step
        for i in range(6):
            step(batch(range(i, i + 6)), wrapper)
        assert not graphed or step.graph is not None
        ends.append([p.detach() for p in model.parameters()])
    for a, b in zip(*ends):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=5e-5)
