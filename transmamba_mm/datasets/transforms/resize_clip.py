from typing import Tuple, Union

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from transmamba_mm.registry import TRANSFORMS


def resize_frames(frames: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Resize frames: by area to shrink, else bilinearly.

    Args:
        frames (np.ndarray): Frames (T, H, W, 3).
        size (Tuple[int, int]): Height and width.

    Returns:
        np.ndarray: Frames (T, *size, 3).
    """
    height, width = size
    if frames.shape[1:3] == (height, width):
        return frames
    shrinks = height * width < frames.shape[1] * frames.shape[2]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([
        cv2.resize(frame, (width, height), interpolation=how)
        for frame in frames
    ])


@TRANSFORMS.register_module()
class ResizeClip(BaseTransform):
    """Resize the frames of a clip.

    Args:
        scale (int | Tuple[int, int]): Short side, keeping the shape; or
            height and width.

    Raises:
        ValueError: ``scale`` is not a size.
    """

    def __init__(self, scale: Union[int, Tuple[int, int]]) -> None:
        self.scale = check_size('ResizeClip', 'scale', scale)

    def transform(self, results: dict) -> dict:
        """Resize ``frames``.

        Args:
            results (dict): Holds ``frames`` (T, H, W, 3).

        Returns:
            dict: The same, with new ``frames``.
        """
        size = self.scale
        if isinstance(size, int):
            height, width = results['frames'].shape[1:3]
            ratio = size / min(height, width)
            size = (max(size,
                        round(height * ratio)), max(size,
                                                    round(width * ratio)))
        results['frames'] = resize_frames(results['frames'], size)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale})'


def check_size(owner: str, name: str,
               value: Union[int, Tuple[int, int]]) -> Union[int, tuple]:
    """Check a size of a config.

    Args:
        owner (str): The transform, for the error.
        name (str): Its argument.
        value (int | Tuple[int, int]): The size.

    Returns:
        int | tuple: The size.

    Raises:
        ValueError: It is not one or two positive integers.
    """
    sides = value if isinstance(value, (tuple, list)) else (value, value)
    if len(sides) != 2 or not all(
            isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(
            f'{owner}: {name} must be a positive integer or two, got '
            f'{value!r}; change it in the `pipeline` of the dataset')
    return value if isinstance(value, int) else tuple(value)
