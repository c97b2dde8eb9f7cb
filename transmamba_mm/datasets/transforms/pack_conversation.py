import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample

from transmamba_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackConversation(BaseTransform):
    """Pack an image and its tokens as ``TransLlava`` takes them.

    The result has ``inputs``, a uint8 tensor (3, H, W); and ``data_samples``,
    a ``DataSample`` with those of ``FIELDS`` that the sample has: token ids
    and labels, question and answers, and what MMPretrain's metrics of VQA,
    GQA, VizWiz and ScienceQA read.
    """

    FIELDS = ('input_ids', 'labels', 'question', 'gt_answer',
              'gt_answer_weight', 'answer_type', 'question_id', 'image_id',
              'sample_id', 'choices', 'hint', 'grade', 'subject', 'has_image')
    META = ('img_path', 'ori_shape', 'img_shape', 'sample_idx')

    def transform(self, results: dict) -> dict:
        """Pack a sample.

        Args:
            results (dict): Holds ``img``, (H, W, 3) or (H, W).

        Returns:
            dict: ``inputs`` and ``data_samples``.
        """
        image = results['img']
        if image.ndim == 2:
            image = np.stack([image] * 3, axis=-1)
        image = np.ascontiguousarray(image.transpose(2, 0, 1))
        sample = DataSample()
        for name in self.FIELDS:
            if results.get(name) is not None:
                sample.set_field(results[name], name)
        sample.set_metainfo(
            {name: results[name]
             for name in self.META if name in results})
        return dict(inputs=torch.from_numpy(image), data_samples=sample)

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
