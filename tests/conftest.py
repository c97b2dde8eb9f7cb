"""Import the plugin first: it repairs torchvision on CPU builds of torch."""
import transmamba_mm  # noqa: F401  isort: skip
import pytest
import torch
from mmengine.registry import DefaultScope

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def forget_default_scope():
    """A runner leaves its scope behind, where later builds would look."""
    yield
    DefaultScope._instance_dict.clear()
