from collections.abc import Sequence

from mmpretrain.structures import DataSample
from torch import Tensor


class LabelledBatch(Sequence):
    """Data samples of a batch that are only made when somebody looks.

    To make a ``DataSample`` for each small image keeps the host busy while
    the card waits.

    Args:
        labels (Tensor): Shape (B,), int64.
        scores (Tensor): One value a class, shape (B, K).
    """

    def __init__(self, labels: Tensor, scores: Tensor) -> None:
        self.labels = labels
        self.scores = scores

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> DataSample:
        """Return the sample of an image.

        Args:
            index (int): Its place in the batch.

        Returns:
            DataSample: ``gt_label`` (1,) and ``gt_score`` (K,), which look
            into the batch's tensors.

        Raises:
            IndexError: If there is no such place.
        """
        sample = DataSample()
        place = range(len(self))[index]
        # the setters of DataSample check and copy: too slow for each image
        sample.set_field(self.labels[place:place + 1], 'gt_label')
        sample.set_field(self.scores[place], 'gt_score')
        return sample
