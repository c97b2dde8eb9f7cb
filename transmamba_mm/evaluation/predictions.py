"""What a classifier said about each image, small enough to keep."""
import io
import os
from dataclasses import dataclass
from typing import Sequence, Union

import numpy as np
import torch
from mmpretrain.structures import DataSample

from transmamba_mm.utils.atomic_io import atomic_write


@dataclass(frozen=True)
class Predictions:
    """The answers of a classifier to a data set, in its order.

    Some 20 KB for 10,000 images of ten classes.

    Attributes:
        labels (np.ndarray): Predicted classes (N,).
        confidences (np.ndarray): Probabilities of these classes (N,).
        targets (np.ndarray): True classes (N,).
        classes (np.ndarray): Names of the classes, empty if not known.
    """

    labels: np.ndarray
    confidences: np.ndarray
    targets: np.ndarray
    classes: np.ndarray

    @classmethod
    def from_samples(
        cls, samples: Sequence[DataSample], classes: Sequence[str] = ()
    ) -> 'Predictions':
        """Take the best class of each sample.

        Args:
            samples (Sequence[DataSample]): What ``ImageClassifier.test_step``
                gives: with ``pred_score`` (C,) and one ``gt_label`` each.
            classes (Sequence[str]): Names of the classes. Defaults to ().

        Returns:
            Predictions: The answers.

        Raises:
            ValueError: There are no images, or some have not one label.
        """
        if not samples:
            raise ValueError('no predictions: the data set is empty')
        scores = torch.stack([s.pred_score for s in samples]).float().cpu()
        targets = torch.cat([s.gt_label for s in samples]).cpu()
        if len(targets) != len(scores):
            raise ValueError(f'{len(scores)} images have {len(targets)} '
                             'labels; predictions are kept of classifiers '
                             'with one label an image')
        best = scores.max(1)
        return cls(best.indices.numpy(), best.values.numpy(), targets.numpy(),
                   np.array(classes, dtype=np.str_))

    @classmethod
    def join(cls, parts: Sequence['Predictions']) -> 'Predictions':
        """Put the answers to parts of a data set together.

        Args:
            parts (Sequence[Predictions]): In the order of the data set; the
                first one's class names are taken.

        Returns:
            Predictions: The answers.
        """
        arrays = [
            np.concatenate([getattr(p, name) for p in parts])
            for name in ('labels', 'confidences', 'targets')
        ]
        return cls(*arrays, parts[0].classes)

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write the file whole or not at all, confidences in half precision.

        Args:
            path (str | PathLike): An .npz file.
        """
        buffer = io.BytesIO()
        most = max(self.labels.max(), self.targets.max())
        small = np.uint8 if most < 256 else np.uint32
        np.savez_compressed(
            buffer,
            labels=self.labels.astype(small),
            confidences=self.confidences.astype(np.float16),
            targets=self.targets.astype(small),
            classes=self.classes)
        atomic_write(os.fspath(path), buffer.getvalue())

    @classmethod
    def load(cls, path: Union[str, os.PathLike]) -> 'Predictions':
        """Read what :meth:`save` has written, as data.

        Args:
            path (str | PathLike): An .npz file.

        Returns:
            Predictions: The answers.

        Raises:
            ValueError: The file holds something else.
        """
        names = list(cls.__dataclass_fields__)
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(**{name: file[name] for name in names})
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f'{os.fspath(path)!r} holds no predictions ({error}); an .npz '
                f'file with {names} is needed, as SavePredictionsHook writes '
                'it') from error
