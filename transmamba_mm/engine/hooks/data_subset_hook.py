import json
import logging
import os.path as osp
from typing import Any, List

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from transmamba_mm.datasets import ClassBalancedSubset
from transmamba_mm.registry import HOOKS
from transmamba_mm.utils.atomic_io import atomic_write


@HOOKS.register_module()
class DataSubsetHook(Hook):
    """Write which training images were chosen, before training starts.

    ``data_subset.json`` in the work folder gets a list with one entry for
    each ``ClassBalancedSubset`` in the training dataset: its ``summary()``,
    with the chosen indices. Without such a subset nothing happens. A resumed
    run whose images are not those of the file gets a warning.

    Examples:
        >>> custom_hooks = [dict(type='transmamba_mm.DataSubsetHook')]
    """

    FILE_NAME = 'data_subset.json'

    def before_train(self, runner: Runner) -> None:
        """Write the file on the main process.

        Args:
            runner (Runner): The runner of the training process.
        """
        subsets = _find_subsets(runner.train_dataloader.dataset)
        if not subsets or not is_main_process():
            return
        summaries = [subset.summary() for subset in subsets]
        path = osp.join(runner.work_dir, self.FILE_NAME)
        if runner.iter > 0 and _read(path) not in (None, summaries):
            print_log(
                f'this run resumes with other training images than those of '
                f'{path!r}; check the `fraction`, `seed` and `data_root` of '
                '`train_dataloader.dataset`',
                logger='current',
                level=logging.WARNING)
        atomic_write(path, json.dumps(summaries).encode())
        for summary in summaries:
            print_log(
                f'training on {summary["num_images"]} of '
                f'{summary["dataset_size"]} images (fraction '
                f'{summary["fraction"]}, seed {summary["seed"]}); the choice '
                f'is in {path}',
                logger='current')


def _find_subsets(dataset: Any) -> List[ClassBalancedSubset]:
    """Find the subsets in nested dataset wrappers."""
    if isinstance(dataset, ClassBalancedSubset):
        return [dataset]
    inner = list(getattr(dataset, 'datasets', []))
    inner += [dataset.dataset] if hasattr(dataset, 'dataset') else []
    return [subset for child in inner for subset in _find_subsets(child)]


def _read(path: str) -> Any:
    """Read the file of the interrupted run, if there is one."""
    if not osp.isfile(path):
        return None
    with open(path) as file:
        return json.load(file)
