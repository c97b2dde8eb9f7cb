from typing import Any, Optional, Sequence

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from transmamba_mm.registry import HOOKS
from transmamba_mm.utils.runner import unwrap
from transmamba_mm.visualization import (KINDS, direction_maps,
                                         draw_direction_maps, find_blocks,
                                         parse_layers, to_array)


@HOOKS.register_module()
class DirectionMapHook(Hook):
    """After a validation, show what each scan direction sees.

    The first images of the first validation batch go through the student, and
    the picture goes to the visualizer, as ``direction_maps_0`` and so on:
    into the work dir by ``LocalVisBackend``, and to TensorBoard or WandB
    where ``visualizer.vis_backends`` name them.

    Args:
        num_images (int): Images shown. Defaults to 1.
        layers (Sequence[int], optional): Indices of blocks; None takes the
            first, the middle and the last one. Defaults to None.
        kind (str): 'pca' or 'norm', see
            :func:`~transmamba_mm.visualization.direction_maps`. Defaults to
            'pca'.
        interval (int): Validations from one picture to the next. Defaults to
            1.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> custom_hooks = [dict(type='transmamba_mm.DirectionMapHook')]
    """

    priority = 'LOW'

    def __init__(self,
                 num_images: int = 1,
                 layers: Optional[Sequence[int]] = None,
                 kind: str = 'pca',
                 interval: int = 1) -> None:
        if kind not in KINDS:
            raise ValueError(f'DirectionMapHook: kind must be one of {KINDS}, '
                             f'got {kind!r}; change it in `custom_hooks`')
        for name, value in (('num_images', num_images), ('interval',
                                                         interval)):
            if value < 1:
                raise ValueError(f'DirectionMapHook: {name} must be at least '
                                 f'1, got {value}; change it in '
                                 '`custom_hooks`')
        self.num_images = num_images
        self.layers = layers
        self.kind = kind
        self.interval = interval
        self._num_validations = 0

    def before_run(self, runner: Runner) -> None:
        """Refuse a model that cannot be shown, before it is trained.

        Args:
            runner (Runner): The runner.

        Raises:
            ValueError: If the student has no scan directions, no such layers,
                or takes clips.
        """
        backbone = getattr(unwrap(runner.model), 'backbone', None)
        find_blocks(backbone, parse_layers(backbone, self.layers))
        if getattr(backbone, 'num_frames', None) is not None:
            raise ValueError(
                'DirectionMapHook shows images, but this '
                f'{type(backbone).__name__} takes clips; remove the hook from '
                '`custom_hooks`')

    def before_val_epoch(self, runner: Runner) -> None:
        """Count the validations.

        Args:
            runner (Runner): The runner.
        """
        self._num_validations += 1

    def after_val_iter(self,
                       runner: Runner,
                       batch_idx: int,
                       data_batch: Any = None,
                       outputs: Optional[Sequence] = None) -> None:
        """Draw after the first batch.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch.
            data_batch (Any): The batch, as the data loader gave it.
            outputs (Sequence, optional): Not used.
        """
        if batch_idx or (self._num_validations - 1) % self.interval:
            return
        model = unwrap(runner.model)
        inputs = model.data_preprocessor(data_batch, False)['inputs']
        inputs = inputs[:self.num_images]
        layers = parse_layers(model.backbone, self.layers)
        maps = direction_maps(model.backbone, inputs, layers, self.kind)
        for i, image in enumerate(inputs):
            figure = draw_direction_maps(
                to_picture(image, model.data_preprocessor), {
                    layer: one[i]
                    for layer, one in maps.items()
                }, model.backbone.direction_names)
            runner.visualizer.add_image(
                f'direction_maps_{i}', to_array(figure), step=runner.epoch)


def to_picture(image: Tensor, preprocessor: nn.Module) -> np.ndarray:
    """Undo the normalisation of an image.

    Args:
        image (Tensor): Normalised image (3, H, W), in the channel order of
            ``preprocessor``.
        preprocessor (nn.Module): What has normalised it.

    Returns:
        np.ndarray: RGB, uint8, (H, W, 3).
    """
    image = image.float()
    if hasattr(preprocessor, 'mean'):
        image = image * preprocessor.std + preprocessor.mean
    if not getattr(preprocessor, 'to_rgb', False):
        image = image.flip(0)  # as OpenCV reads it
    return image.clamp(0, 255).byte().movedim(0, -1).cpu().numpy()
