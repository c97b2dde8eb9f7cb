from typing import Optional

import numpy as np
from mmcv.transforms import BaseTransform

from transmamba_mm.registry import TRANSFORMS
from ..frame_cache import FrameCache
from ..video_files import VideoReadError, read_frames
from .sample_frames import SAMPLINGS, sample_frames


@TRANSFORMS.register_module()
class LoadVideo(BaseTransform):
    """Read some frames of a clip.

    The clip is a video file (decoded by PyAV), a folder of frames, or an
    ``.npy`` array (T, H, W, 3). In training, 'segment' takes random frames;
    in test mode, which :class:`~transmamba_mm.datasets.VideoTextDataset`
    tells, and outside a dataset the middle ones.

    A clip that cannot be read ends in an error in training, and the dataset
    draws another one. In test mode it becomes a black clip: the gallery keeps
    its size. ``VideoReportHook`` counts both.

    Args:
        num_frames (int): Frames of the result. Defaults to 8.
        sampling (str): 'segment' or 'uniform', see
            :func:`~transmamba_mm.datasets.transforms.sample_frames`.
            Defaults to 'segment'.
        cache (dict, optional): Arguments of
            :class:`~transmamba_mm.datasets.frame_cache.FrameCache`, such as
            ``dict(folder='data/cache')``. By default, no cache.

    Raises:
        ValueError: An argument is not allowed.
    """

    BLANK_SIZE = 224

    def __init__(self,
                 num_frames: int = 8,
                 sampling: str = 'segment',
                 cache: Optional[dict] = None) -> None:
        if sampling not in SAMPLINGS:
            raise ValueError(
                f'LoadVideo: sampling must be one of {SAMPLINGS}, got '
                f'{sampling!r}; change it in the `pipeline` of the dataset')
        if not isinstance(num_frames, int) or num_frames < 1:
            raise ValueError(
                'LoadVideo: num_frames must be an integer >= 1, got '
                f'{num_frames!r}; change it in the `pipeline` of the dataset')
        self.num_frames = num_frames
        self.sampling = sampling
        self.cache = FrameCache(**cache) if cache else None

    def transform(self, results: dict) -> dict:
        """Load the frames of a sample.

        Args:
            results (dict): Holds ``video_path``; ``test_mode`` (True if
                absent) and ``blank_unreadable`` (False if absent).

        Returns:
            dict: The sample with ``frames`` (T, H, W, 3), uint8, RGB; and
            ``unreadable_videos``, a list with its path, if it became black.

        Raises:
            VideoReadError: The clip cannot be read.
        """
        random = not results.get('test_mode', True)

        def choose(total: int) -> np.ndarray:
            return sample_frames(total, self.num_frames, self.sampling, random)

        read = self.cache.read if self.cache else read_frames
        try:
            results['frames'] = read(results['video_path'], choose)
        except VideoReadError:
            if not results.get('blank_unreadable', False):
                raise
            results['frames'] = np.zeros(
                (self.num_frames, self.BLANK_SIZE, self.BLANK_SIZE, 3),
                np.uint8)
            results['unreadable_videos'] = [results['video_path']]
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(num_frames={self.num_frames}, '
                f'sampling={self.sampling!r}, cache={self.cache})')
