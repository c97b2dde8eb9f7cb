from typing import Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn

from transmamba_mm.registry import HOOKS
from transmamba_mm.utils.runner import unwrap


@HOOKS.register_module()
class BidirectionalDistillHook(Hook):
    """Own the teacher and the schedule of a distillation.

    Before training it builds the teacher and lends it to the model; before
    each iteration it sets the scale of the distillation terms; after training
    it takes the teacher back. Validation and test never build a teacher.

    Args:
        teacher (dict): Config of a
            :class:`~transmamba_mm.models.FrozenTeacher`.
        warmup_epochs (float): The scale rises linearly from 0 to 1 over so
            many epochs. Defaults to 0.
        stop_epoch (int, optional): Epoch, counted from 0, from which the
            distillation is off and the teacher no longer run. Defaults to
            None.

    Examples:
        >>> custom_hooks = [
        ...     dict(
        ...         type='transmamba_mm.BidirectionalDistillHook',
        ...         teacher=dict(
        ...             type='transmamba_mm.MMPretrainTeacher',
        ...             config='deit-small_4xb256_in1k',
        ...             checkpoint='deit-small.pth'))
        ... ]
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self,
                 teacher: dict,
                 warmup_epochs: float = 0,
                 stop_epoch: Optional[int] = None) -> None:
        if warmup_epochs < 0:
            raise ValueError(
                f'BidirectionalDistillHook.warmup_epochs={warmup_epochs}, but '
                'it must not be negative.')
        self.teacher_cfg = teacher
        self.warmup_epochs = warmup_epochs
        self.stop_epoch = stop_epoch
        self.teacher: Optional[nn.Module] = None

    def before_train(self, runner: Runner) -> None:
        """Build the teacher on the student's device and lend it.

        Args:
            runner (Runner): The runner.

        Raises:
            TypeError: If the model has no distiller.
        """
        model = unwrap(runner.model)
        if not hasattr(model, 'attach_teacher'):
            raise TypeError(
                f'BidirectionalDistillHook is in custom_hooks, but model.type '
                f'is {type(model).__name__}, which has no distiller; use '
                "model.type='transmamba_mm.DistillClassifier' with "
                'model.distiller, or remove the hook.')
        self.teacher = MODELS.build(self.teacher_cfg)
        self.teacher.to(next(model.parameters()).device)
        model.attach_teacher(self.teacher)
        print_log(
            f'Teacher: {self.teacher.describe()}; '
            f'student layers learn from its layers '
            f'{list(model.distiller.layer_map)}.',
            logger='current')

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        """Set the scale of the distillation terms.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch in the epoch.
            data_batch (dict, optional): Not used. Defaults to None.
        """
        epoch = runner.epoch + (batch_idx + 1) / len(runner.train_dataloader)
        unwrap(runner.model).distiller.progress = distillation_scale(
            epoch, self.warmup_epochs, self.stop_epoch)

    def after_train(self, runner: Runner) -> None:
        """Take the teacher back.

        Args:
            runner (Runner): The runner.
        """
        unwrap(runner.model).attach_teacher(None)
        self.teacher.close()
        self.teacher = None


def distillation_scale(epoch: float, warmup_epochs: float,
                       stop_epoch: Optional[int]) -> float:
    """Scale of the distillation terms at the end of an iteration.

    Args:
        epoch (float): Epochs done after this iteration, so that the first
            epoch runs over (0, 1].
        warmup_epochs (float): Length of the linear rise.
        stop_epoch (int, optional): Epoch from which the scale is 0.

    Returns:
        float: In [0, 1].
    """
    if stop_epoch is not None and epoch > stop_epoch:
        return 0.
    return min(1., epoch / warmup_epochs) if warmup_epochs else 1.
