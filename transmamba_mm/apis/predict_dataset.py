"""The answers of a trained classifier to the test images of its config."""
from typing import Optional, Union

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.apis import get_model

from transmamba_mm.evaluation import Predictions


def predict_dataset(config: Union[str, Config],
                    checkpoint: str,
                    device: Optional[str] = None) -> Predictions:
    """Answer each test image once.

    Args:
        config (str | Config): Config of the model, with ``test_dataloader``;
            a distilled student's may be the one that it was trained with, its
            teacher is not built.
        checkpoint (str): Its weights.
        device (str, optional): Where it runs; None takes the accelerator, or
            else the CPU. Defaults to None.

    Returns:
        Predictions: The answers, in the order of the data set.
    """
    cfg = Config.fromfile(config) if isinstance(config, str) else config
    model = get_model(
        cfg, pretrained=checkpoint, device=device or get_device())
    model.distiller = None
    cfg.test_dataloader.setdefault('collate_fn', dict(type='default_collate'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loader = Runner.build_dataloader(cfg.test_dataloader)
    classes = loader.dataset.metainfo.get('classes', ())
    with torch.no_grad():
        return Predictions.join([
            Predictions.from_samples(model.test_step(batch), classes)
            for batch in loader
        ])
