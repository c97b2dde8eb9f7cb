import os.path as osp

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from transmamba_mm.models.multimodal.open_clip_export import (describe,
                                                              write_open_clip)
from transmamba_mm.registry import HOOKS


@HOOKS.register_module()
class ExportOpenCLIPHook(Hook):
    """Write a trained CLIP4Clip as a folder of open_clip, to teach with it.

    After the last epoch, ``open_clip`` in the work folder gets both towers and
    the learned factor on the cosines.

    Examples:
        >>> custom_hooks = [dict(type='transmamba_mm.ExportOpenCLIPHook')]
    """

    FOLDER = 'open_clip'

    def before_train(self, runner: Runner) -> None:
        """Refuse a model that has no place in open_clip before it trains.

        Args:
            runner (Runner): The runner.
        """
        describe(_plain_model(runner))

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the folder.

        Args:
            runner (Runner): The runner.
        """
        folder = osp.join(runner.work_dir, self.FOLDER)
        write_open_clip(_plain_model(runner), folder)
        print_log(f'The teacher is in {folder}', logger='current')


def _plain_model(runner: Runner) -> object:
    model = runner.model
    return model.module if is_model_wrapper(model) else model
