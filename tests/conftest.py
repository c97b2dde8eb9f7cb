"""Import the plugin first: it repairs torchvision on CPU builds of torch."""
import torch

import transmamba_mm  # noqa: F401

torch.set_num_threads(1)
