import logging
from collections import Counter
from typing import Any, Tuple

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from transmamba_mm.registry import HOOKS


@HOOKS.register_module()
class VideoReportHook(Hook):
    """Count what could not be read, and report it at the end.

    Counts the videos that cannot be decoded, with their names, and the
    captions that are too long for the tokenizer, over training, validation
    and testing, and over all processes. Each is told in one warning.

    Args:
        max_names (int): File names in the warning. Defaults to 20.

    Examples:
        >>> custom_hooks = [dict(type='transmamba_mm.VideoReportHook')]
    """

    def __init__(self, max_names: int = 20) -> None:
        self.max_names = max_names
        self.unreadable: Counter = Counter()
        self.cut: set = set()
        self._training = False

    def before_train(self, runner: Runner) -> None:
        """Leave reporting to the end of training.

        Args:
            runner (Runner): Not used.
        """
        self._training = True

    def _after_iter(self,
                    runner: Runner,
                    batch_idx: int,
                    data_batch: Any = None,
                    outputs: Any = None,
                    mode: str = 'train') -> None:
        """Read the reports of a batch.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Not used.
            data_batch (dict, optional): The batch, as the data loader gave
                it.
            outputs (Any, optional): Not used.
            mode (str): Not used.
        """
        if not isinstance(data_batch, dict):
            return
        for sample in data_batch.get('data_samples') or ():
            self.unreadable.update(sample.get('unreadable_videos', ()))
            if sample.get('caption_cut', False):
                self.cut.add((sample.get('video_id'), sample.get('caption')))

    def after_train(self, runner: Runner) -> None:
        """Report after training.

        Args:
            runner (Runner): The runner.
        """
        self._training = False
        self.report()

    def after_val(self, runner: Runner) -> None:
        """Report after a validation outside of training.

        Args:
            runner (Runner): The runner.
        """
        if not self._training:
            self.report()

    def after_test(self, runner: Runner) -> None:
        """Report after testing.

        Args:
            runner (Runner): The runner.
        """
        self.report()

    def report(self) -> Tuple[Counter, set]:
        """Write the warnings, and start anew.

        Returns:
            tuple: Reading errors by file name, and the captions cut, each
            with its video.
        """
        unreadable: Counter = Counter()
        cut: set = set()
        for errors, captions in all_gather_object((self.unreadable, self.cut)):
            unreadable += errors
            cut |= captions
        if unreadable:
            names = list(unreadable)
            more = len(names) - self.max_names
            _warn(f'{len(names)} videos could not be read, '
                  f'{sum(unreadable.values())} times in all: '
                  f'{names[:self.max_names]}' +
                  (f' and {more} more' if more > 0 else ''))
        if cut:
            _warn(f'{len(cut)} captions are longer than `max_length` of '
                  'TokenizeText and were cut')
        self.unreadable, self.cut = Counter(), set()
        return unreadable, cut


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
