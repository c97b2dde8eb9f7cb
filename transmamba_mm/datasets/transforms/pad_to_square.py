from typing import Sequence

import cv2
from mmcv.transforms import BaseTransform

from transmamba_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PadToSquare(BaseTransform):
    """Put the image in the middle of a square, as LLaVA-1.5 does.

    Args:
        color (Sequence[float]): Colour of the border, in the image's order of
            channels (BGR after ``LoadImage``); the mean of the vision tower's
            normalisation. Defaults to CLIP's, (104, 116, 122).
    """

    def __init__(self, color: Sequence[float] = (104, 116, 122)) -> None:
        self.color = tuple(color)

    def transform(self, results: dict) -> dict:
        """Pad a sample.

        Args:
            results (dict): Holds ``img``, (H, W, 3).

        Returns:
            dict: The sample with a square ``img``.
        """
        h, w = results['img'].shape[:2]
        size = max(h, w)
        top, left = (size - h) // 2, (size - w) // 2
        results['img'] = cv2.copyMakeBorder(
            results['img'],
            top,
            size - h - top,
            left,
            size - w - left,
            cv2.BORDER_CONSTANT,
            value=self.color)
        results['img_shape'] = (size, size)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(color={self.color})'
