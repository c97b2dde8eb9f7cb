"""Loaders of official checkouts, on files that only look like them."""
import sys

import pytest
import torch
from bench_parts import official
from torch import nn

VMAMBA = '''
import rope
from torch import nn
from timm.models import register_model
from fvcore.nn import flop_count, parameter_count


@register_model
def vmamba_tiny_s1l8(pretrained=False):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(1000))
'''


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    folder = tmp_path / 'VMamba'
    folder.mkdir()
    (folder / 'vmamba.py').write_text(VMAMBA)
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'rope.py').write_text('')
    monkeypatch.syspath_prepend(str(other))
    return tmp_path


def test_an_own_file_is_imported_and_leaves_no_names(checkout):
    before, path = dict(sys.modules), list(sys.path)
    model = official.build_official('vmamba', 'vmamba_tiny_s1l8',
                                    str(checkout), 8, 0.2)
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 1000)
    new = {n.split('.')[0] for n in set(sys.modules) - set(before)}
    assert not new & {'rope', 'fvcore', 'official_model'}
    assert sys.path == path
    assert sys.modules['mmcv'] is before['mmcv']


@pytest.mark.parametrize('family, name', [('vim', 'Vim'),
                                          ('plainmamba', 'PlainMamba')])
def test_a_missing_checkout_names_its_source(tmp_path, family, name):
    with pytest.raises(FileNotFoundError, match=f'git clone .*/{name}'):
        official.build_official(family, 'x', str(tmp_path), 224, 0.)


def test_names_come_back_after_a_failure(checkout):
    (checkout / 'VMamba/vmamba.py').write_text('import mmcv_of_old')
    before = dict(sys.modules)
    with pytest.raises(ModuleNotFoundError, match='mmcv_of_old'):
        official.build_official('vmamba', 'x', str(checkout), 8, 0.)
    assert sys.modules['mmcv'] is before['mmcv']
    assert 'official_model' not in sys.modules


class Orders(nn.Module):

    def __init__(self):
        super().__init__()
        self.default_permute_order = ((0, 1), (1, 0))
        self.default_permute_order_inverse = ((0, 1), (1, 0))
        self.default_direction = ((0, 1), (0, 2))


def test_order_tables_become_tensors():
    model = nn.Sequential(Orders(), nn.Identity())
    assert official.keep_orders_on(model, 'cpu')
    assert torch.equal(model[0].default_direction[1], torch.tensor([0, 2]))
    x = torch.tensor([[5., 6.]])
    assert x[:, model[0].default_permute_order[1]].tolist() == [[6., 5.]]
    assert not official.keep_orders_on(nn.Identity(), 'cpu')
