import os.path as osp
from typing import Any, List, Optional, Sequence

import numpy as np
from mmengine.dist import collect_results
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from transmamba_mm.evaluation import Predictions
from transmamba_mm.registry import HOOKS


@HOOKS.register_module()
class SavePredictionsHook(Hook):
    """After each validation and test, keep what was said about each image.

    ``predictions.npz`` in the work folder gets the class and its probability
    of each image, see :class:`~transmamba_mm.evaluation.Predictions`. For
    classifiers of one label an image.

    Args:
        file_name (str): Name of the file. Defaults to 'predictions.npz'.

    Examples:
        >>> default_hooks = dict(
        ...     predictions=dict(type='transmamba_mm.SavePredictionsHook'))
    """

    FILE_NAME = 'predictions.npz'

    def __init__(self, file_name: str = FILE_NAME) -> None:
        self.file_name = file_name
        self._parts: List[Predictions] = []

    def _after_iter(self,
                    runner: Runner,
                    batch_idx: int,
                    data_batch: Any = None,
                    outputs: Optional[Sequence] = None,
                    mode: str = 'train') -> None:
        """Take the answers of a batch.

        Args:
            runner (Runner): Not used.
            batch_idx (int): Not used.
            data_batch (Any, optional): Not used.
            outputs (Sequence[DataSample], optional): The answers.
            mode (str): 'train' is left alone.
        """
        if mode != 'train' and outputs:
            self._parts.append(Predictions.from_samples(outputs))

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Write the file after a validation.

        Args:
            runner (Runner): The runner.
            metrics (Any, optional): Not used.
        """
        self._write(runner, runner.val_dataloader.dataset)

    def after_test_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Write the file after a test.

        Args:
            runner (Runner): The runner.
            metrics (Any, optional): Not used.
        """
        self._write(runner, runner.test_dataloader.dataset)

    def _write(self, runner: Runner, dataset: Dataset) -> None:
        """Collect the answers of all processes, and write them."""
        rows = []
        for part in self._parts:
            rows += zip(part.labels, part.confidences, part.targets)
        self._parts = []
        rows = collect_results(rows, len(dataset), 'cpu')
        if rows is None:  # another process writes
            return
        classes = getattr(dataset, 'metainfo', {}).get('classes', ())
        answers = Predictions(*map(np.array, zip(*rows)),
                              np.array(classes, dtype=np.str_))
        answers.save(osp.join(runner.work_dir, self.file_name))
