import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample

from transmamba_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackVideoText(BaseTransform):
    """Pack a clip and its caption as the retrieval models take them.

    The result has ``inputs``, a tensor (3, T, H, W), uint8, RGB; and
    ``data_samples``, a ``DataSample`` with those of ``video_id``,
    ``caption``, ``text`` and ``gallery`` that the sample has, and with the
    reading reports as meta information.
    """

    FIELDS = ('video_id', 'caption', 'text', 'gallery')
    META = ('video_path', 'unreadable_videos', 'caption_cut')

    def transform(self, results: dict) -> dict:
        """Pack a sample.

        Args:
            results (dict): Holds ``frames`` (T, H, W, 3).

        Returns:
            dict: ``inputs`` and ``data_samples``.
        """
        clip = np.ascontiguousarray(results['frames'].transpose(3, 0, 1, 2))
        return dict(
            inputs=torch.from_numpy(clip), data_samples=self.sample(results))

    @classmethod
    def sample(cls, results: dict) -> DataSample:
        """Make the data sample alone.

        Args:
            results (dict): What is known of the clip.

        Returns:
            DataSample: The sample.
        """
        sample = DataSample()
        for name in cls.FIELDS:
            if name in results:
                sample.set_field(results[name], name)
        sample.set_metainfo(
            {name: results[name]
             for name in cls.META if name in results})
        return sample

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
