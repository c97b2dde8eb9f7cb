from typing import Tuple, Union

import numpy as np
from mmcv.transforms import BaseTransform

from transmamba_mm.registry import TRANSFORMS
from .resize_clip import check_size, resize_frames


@TRANSFORMS.register_module()
class CropClip(BaseTransform):
    """Cut the same window out of all frames.

    Args:
        size (int | Tuple[int, int]): Height and width of the result.
        scale (Tuple[float, float], optional): Cut a random window whose area
            is within these parts of the frame, and resize it; by default, the
            middle window of ``size`` is cut, and smaller frames are enlarged.
        ratio (Tuple[float, float]): Width to height of random windows.
            Defaults to (3 / 4, 4 / 3).

    Raises:
        ValueError: An argument is not allowed.
    """

    def __init__(
        self,
        size: Union[int, Tuple[int, int]],
        scale: Union[Tuple[float, float], None] = None,
        ratio: Tuple[float, float] = (3 / 4, 4 / 3)
    ) -> None:
        size = check_size('CropClip', 'size', size)
        self.size = (size, size) if isinstance(size, int) else size
        if scale is not None and not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(
                'CropClip: scale must be two rising parts in (0, 1], got '
                f'{scale!r}; change it in the `pipeline` of the dataset')
        self.scale = scale
        self.ratio = ratio

    def transform(self, results: dict) -> dict:
        """Cut ``frames``.

        Args:
            results (dict): Holds ``frames`` (T, H, W, 3).

        Returns:
            dict: The same, with new ``frames``.
        """
        frames = results['frames']
        if self.scale is None:
            frames = self._enlarge(frames)
            height, width = self.size
            top = (frames.shape[1] - height) // 2
            left = (frames.shape[2] - width) // 2
        else:
            top, left, height, width = self._window(*frames.shape[1:3])
        frames = frames[:, top:top + height, left:left + width]
        results['frames'] = resize_frames(frames, self.size)
        return results

    def _enlarge(self, frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[1:3]
        ratio = max(self.size[0] / height, self.size[1] / width)
        if ratio <= 1:
            return frames
        return resize_frames(frames, (max(self.size[0], round(
            height * ratio)), max(self.size[1], round(width * ratio))))

    def _window(self, height: int, width: int) -> Tuple[int, int, int, int]:
        """Draw a window as torchvision's ``RandomResizedCrop`` does."""
        for _ in range(10):
            area = height * width * np.random.uniform(*self.scale)
            shape = np.exp(np.random.uniform(*np.log(self.ratio)))
            wide = round((area * shape)**0.5)
            high = round((area / shape)**0.5)
            if 0 < wide <= width and 0 < high <= height:
                return (np.random.randint(height - high + 1),
                        np.random.randint(width - wide + 1), high, wide)
        side = min(height, width)
        return (height - side) // 2, (width - side) // 2, side, side

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(size={self.size}, '
                f'scale={self.scale})')
