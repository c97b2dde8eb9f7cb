"""Import the plugin first: it repairs torchvision on CPU builds of torch."""
import os

import torch

# Triton reads it when it is first imported; without a card its kernels are
# run by its interpreter
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

import transmamba_mm  # noqa: E402,F401  isort: skip
import pytest  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def forget_default_scope():
    """A runner leaves its scope behind, where later builds would look."""
    yield
    DefaultScope._instance_dict.clear()
