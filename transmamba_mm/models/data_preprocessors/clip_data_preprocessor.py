from typing import Optional

from mmpretrain.models import ClsDataPreprocessor

from transmamba_mm.registry import MODELS


@MODELS.register_module()
class ClipDataPreprocessor(ClsDataPreprocessor):
    """MMPretrain's data preprocessor, for clips (C, T, H, W).

    The frames are normalised like images, and a batch is (B, C, T, H, W).
    ``Mixup`` mixes whole clips.

    Args:
        *args: As ``ClsDataPreprocessor``.
        batch_augments (dict, optional): Batch augmentations, which come from
            ``model.train_cfg``. Defaults to None.
        **kwargs: As ``ClsDataPreprocessor``.

    Raises:
        ValueError: If a batch augmentation cuts images, such as ``CutMix``:
            it would cut a clip at the wrong axes.
    """

    def __init__(self,
                 *args,
                 batch_augments: Optional[dict] = None,
                 **kwargs) -> None:
        super().__init__(*args, batch_augments=batch_augments, **kwargs)
        augments = getattr(self.batch_augments, 'augments', ())
        names = {type(augment).__name__ for augment in augments} - {'Mixup'}
        if names:
            raise ValueError(
                f'model.train_cfg.augments holds {sorted(names)}, which work '
                'on images only; clips can be mixed by Mixup alone.')
        if self._enable_normalize:
            # (C, 1, 1) would meet T, H and W
            self.mean = self.mean.unsqueeze(-1)
            self.std = self.std.unsqueeze(-1)
