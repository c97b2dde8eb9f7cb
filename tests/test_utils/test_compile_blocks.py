"""Blocks through a compiler, with its real front and a plain back end."""
from functools import partial

import pytest
import torch
from mmpretrain.registry import MODELS

from transmamba_mm.distillation import LayerRecorder
from transmamba_mm.utils.compile_blocks import compiled_blocks

VIT = dict(
    type='transmamba_mm.ConvPosViT',
    arch=dict(
        embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48),
    img_size=16,
    patch_size=4)
BACKBONES = {
    name: dict(type=f'transmamba_mm.{name}', arch='nano-16', img_size=16)
    for name in ('VisionMamba', 'PlainMamba', 'VMamba')
}
BACKBONES['ConvPosViT'] = VIT


@pytest.fixture
def graphs(monkeypatch):
    """Graphs that were made, by a compiler that runs them as they are."""
    made = []

    def keep(graph, _):
        made.append(graph)
        return graph

    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend=keep))
    torch._dynamo.reset()
    return made


def run(model, names):
    """Features of the layers, and the gradients of all parameters."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 16, 16)
    model.zero_grad()
    with LayerRecorder(model, names) as records:
        model(images)
    sum(x.square().mean() for x in records.values()).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [x.detach() for x in records.values()] + [g.clone() for g in grads]


@pytest.mark.parametrize('name', BACKBONES)
def test_recorders_see_the_same(name, graphs):
    torch.manual_seed(0)
    model = MODELS.build(BACKBONES[name])
    model.init_weights()
    count = len(model.layers) if name != 'VMamba' else len(model.block_names)
    paths = getattr(model, 'block_names',
                    [f'layers.{i}' for i in range(count)])
    names = [f'{p}.direction_tap'
             for p in paths] if name != 'ConvPosViT' else paths
    want = run(model, names)
    with compiled_blocks(model) as parts:
        # twice, since a recorder of the first call must not be kept
        got, again = run(model, names), run(model, names)
    assert parts == count
    assert graphs, 'nothing was compiled'
    for a, b, c in zip(want, got, again, strict=True):
        torch.testing.assert_close(b, a)
        torch.testing.assert_close(c, a)


def test_equal_blocks_share_their_code(graphs):
    model = MODELS.build(VIT)
    with compiled_blocks(model):
        model(torch.randn(2, 3, 16, 16))
    assert len(graphs) == 1


def test_the_model_is_as_before(graphs):
    """Also one that is named twice, as its own teacher is."""
    model = MODELS.build(BACKBONES['VisionMamba'])
    before = {k: set(vars(m)) for k, m in model.named_modules()}
    with compiled_blocks(model, model) as parts:
        assert parts == len(model.layers)
    assert {k: set(vars(m)) for k, m in model.named_modules()} == before
    model(torch.randn(1, 3, 16, 16))
    assert not graphs
