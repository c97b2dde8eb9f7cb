import pytest
import torch
from torch import nn

from transmamba_mm.distillation import LayerRecorder


def model():
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))


def test_records_outputs_and_leaves_no_hook():
    net = model()
    x = torch.randn(4, 2)
    with LayerRecorder(net, ['0', '2']) as records:
        out = net(x)
    assert set(records) == {'0', '2'}
    torch.testing.assert_close(records['2'], out)
    torch.testing.assert_close(records['0'], net[0](x))
    assert not any(m._forward_hooks for m in net.modules())
    net(torch.zeros(4, 2))
    torch.testing.assert_close(records['2'], out)


def test_hooks_are_removed_after_an_error():
    net = model()
    with pytest.raises(RuntimeError):
        with LayerRecorder(net, ['0']):
            net(torch.randn(4, 5))
    assert not net[0]._forward_hooks


def test_unknown_path_lists_the_nearest():
    net = nn.ModuleDict(dict(backbone=nn.ModuleDict(dict(layers=model()))))
    with pytest.raises(
            ValueError,
            match=r"no layer 'backbone.layer.0'.*"
            r"backbone\.layers\.0"):
        LayerRecorder(net, ['backbone.layer.0'])
