"""Use an installed wheel: list the recipes, and run one model forward."""
import mmpretrain
import torch

import transmamba_mm

names = mmpretrain.list_models('transmamba_*')
assert 'site-packages' in transmamba_mm.__file__, transmamba_mm.__file__
assert len(names) > 10, names
model = mmpretrain.get_model('vim-nano-16_1xb64-20e_digits').eval()
with torch.no_grad():
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 10)
print(f'transmamba_mm {transmamba_mm.__version__}: {len(names)} recipes')
