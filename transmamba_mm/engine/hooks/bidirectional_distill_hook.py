import logging
import math
from typing import List, Optional, Sequence, Union

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner
from mmpretrain.registry import MODELS
from torch import nn
from torch.optim import Optimizer

from transmamba_mm.distillation import (FrozenStudent, check_length,
                                        find_stage, parse_stages, steady_mode)
from transmamba_mm.models.distillers.cka import measure_cka, pick_layers
from transmamba_mm.registry import HOOKS
from transmamba_mm.utils.cka_report import save_cka
from transmamba_mm.utils.runner import unwrap
from transmamba_mm.utils.sample_batches import sample_batches


@HOOKS.register_module()
class BidirectionalDistillHook(Hook):
    """Own the teacher and the schedule of a distillation.

    Before training it builds the teacher and lends it to the model; before
    each iteration it sets the scale of the distillation terms; after the last
    stage with a teacher it takes it back. Validation and test never build a
    teacher. With ``distiller.layer_map='cka'`` it measures the layers before
    the first iteration and saves ``layer_cka.json`` and ``layer_cka.png`` in
    the work dir; a resumed run keeps the map of its checkpoint.

    Args:
        teacher (dict): Config of a
            :class:`~transmamba_mm.models.FrozenTeacher`.
        warmup_epochs (float): The scale rises linearly from 0 to 1 over so
            many epochs. Defaults to 0.
        stop_epoch (int, optional): Epoch, counted from 0, from which the
            distillation is off and the teacher no longer run. Defaults to
            None.
        stages (Sequence[dict], optional): Instead of the two above, stages
            one after the other; see
            :class:`~transmamba_mm.distillation.Stage`. Epochs may be
            fractions. The learning rate follows its own schedule through all
            of them. Defaults to None.
        cka_batches (int): Training batches, of each process, that
            ``distiller.layer_map='cka'`` looks at. Defaults to 4.

    Examples:
        >>> custom_hooks = [
        ...     dict(
        ...         type='transmamba_mm.BidirectionalDistillHook',
        ...         teacher=dict(
        ...             type='transmamba_mm.MMPretrainTeacher',
        ...             config='deit-small_4xb256_in1k',
        ...             checkpoint='deit-small.pth'),
        ...         stages=[
        ...             dict(kind='calibration', epochs=1),
        ...             dict(kind='distillation', epochs=20),
        ...             dict(kind='finetune')
        ...         ])
        ... ]
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self,
                 teacher: dict,
                 warmup_epochs: float = 0,
                 stop_epoch: Optional[int] = None,
                 stages: Optional[Sequence[dict]] = None,
                 cka_batches: int = 4) -> None:
        if warmup_epochs < 0:
            raise ValueError(
                f'BidirectionalDistillHook.warmup_epochs={warmup_epochs}, but '
                'it must not be negative.')
        if cka_batches < 1:
            raise ValueError(f'BidirectionalDistillHook.cka_batches='
                             f'{cka_batches}, but it must be at least 1.')
        self.teacher_cfg = teacher
        self.is_staged = stages is not None
        self.stages = parse_stages(stages, warmup_epochs, stop_epoch)
        self.cka_batches = cka_batches
        self.teacher: Optional[nn.Module] = None
        self._stage: Optional[int] = None
        self._frozen: Optional[FrozenStudent] = None

    def before_train(self, runner: Runner) -> None:
        """Build the teacher on the student's device and lend it.

        A run that is resumed where no teacher is needed builds none.

        Args:
            runner (Runner): The runner.

        Raises:
            TypeError: If the model has no distiller.
            ValueError: If the stages do not fit the training.
        """
        model = unwrap(runner.model)
        if not hasattr(model, 'attach_teacher'):
            raise TypeError(
                f'BidirectionalDistillHook is in custom_hooks, but model.type '
                f'is {type(model).__name__}, which has no distiller; use '
                "model.type='transmamba_mm.DistillClassifier' with "
                'model.distiller, or remove the hook.')
        self._check_stages(runner, model)
        self._stage = None
        by_iter = isinstance(runner.train_loop, IterBasedTrainLoop)
        first, _ = find_stage(
            self.stages, epochs_done(runner, runner.iter if by_iter else 0))
        if not self._is_needed_from(first):
            return
        self.teacher = MODELS.build(self.teacher_cfg)
        self.teacher.to(next(model.parameters()).device)
        model.attach_teacher(self.teacher)
        print_log(f'Teacher: {self.teacher.describe()}.', logger='current')
        if model.distiller.measures_layer_map:
            self._set_layer_map(runner, model)
        print_log(
            'Student layers learn from the teacher\'s layers '
            f'{list(model.distiller.layer_map)}.',
            logger='current')

    def _check_stages(self, runner: Runner, model: nn.Module) -> None:
        """Refuse stages that the training or the aligner does not fit."""
        if self.is_staged:
            length = runner.max_iters / len(runner.train_dataloader)
            check_length(self.stages, length)
        kinds = [stage.kind for stage in self.stages]
        aligner = model.distiller.aligner
        if 'calibration' in kinds and not any(p.requires_grad
                                              for p in aligner.parameters()):
            raise ValueError(
                'BidirectionalDistillHook.stages has a calibration, but '
                f"distiller.aligner.mode='{aligner.mode}' learns nothing; "
                "use 'linear' or 'mlp', or drop the stage.")

    def _is_needed_from(self, stage: int) -> bool:
        """Tell whether this stage or a later one needs the teacher."""
        return any(s.needs_teacher for s in self.stages[stage:])

    def _set_layer_map(self, runner: Runner, model: nn.Module) -> None:
        """Measure the layers, or take the map of a resumed run."""
        distiller = model.distiller
        stored = distiller.measured_map.tolist()
        if runner.iter > 0 and min(stored) >= 0:
            distiller.use_layer_map(stored)
            print_log(
                'The layer map is that of the checkpoint.', logger='current')
            return
        if runner.iter > 0:
            print_log(
                "distiller.layer_map='cka', but the checkpoint holds no "
                'measured map: it is measured now.',
                logger='current',
                level=logging.WARNING)
        with sample_batches(runner.train_dataloader,
                            self.cka_batches) as batches, steady_mode(model):
            matrix = measure_cka(model, self.teacher, batches)
        distiller.use_layer_map(pick_layers(matrix))
        if len(set(distiller.layer_map)) == 1 < distiller.student_depth:
            print_log(
                'All student layers are most similar to the same teacher '
                'layer, as those of a student that knows nothing yet often '
                "are; consider distiller.layer_map='proportional', or clone "
                'more layers before.',
                logger='current',
                level=logging.WARNING)
        save_cka(matrix, distiller.layer_map, runner.work_dir,
                 runner.visualizer)

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        """Set the stage and the scale of the distillation terms.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch in the epoch.
            data_batch (dict, optional): Not used. Defaults to None.
        """
        index, epochs = find_stage(self.stages, epochs_done(runner, batch_idx))
        if index != self._stage:
            self._enter(runner, index)
        distiller = unwrap(runner.model).distiller
        distiller.progress = self.stages[index].scale(epochs)
        # counted from 0 in each stage; its begin may be within an iteration
        length = len(runner.train_dataloader)
        distiller.iteration = math.ceil(epochs * length - 1e-6) - 1
        if self._frozen is not None:
            self._frozen.hold()

    def _enter(self, runner: Runner, index: int) -> None:
        """Begin a stage, or go on in it after a resume."""
        self._stage = index
        model, stage = unwrap(runner.model), self.stages[index]
        self._release_student()
        model.distiller.calibrating = stage.kind == 'calibration'
        if model.distiller.calibrating:
            self._frozen = FrozenStudent(model, model.distiller.aligner,
                                         find_optimizers(runner.optim_wrapper))
        if not self._is_needed_from(index):
            self._release_teacher(model)
        if self.is_staged:
            print_log(
                f'Stage {index + 1} of {len(self.stages)}: {stage.kind}.',
                logger='current')

    def after_train(self, runner: Runner) -> None:
        """Take the teacher back.

        Args:
            runner (Runner): The runner.
        """
        self._release_student()
        self._release_teacher(unwrap(runner.model))

    def _release_student(self) -> None:
        if self._frozen is not None:
            self._frozen.close()
            self._frozen = None

    def _release_teacher(self, model: nn.Module) -> None:
        model.attach_teacher(None)
        if self.teacher is not None:
            self.teacher.close()
        self.teacher = None


def epochs_done(runner: Runner, batch_idx: int) -> float:
    """Count the epochs that are done after an iteration.

    Args:
        runner (Runner): The runner.
        batch_idx (int): Index of the batch in the epoch; in a training by
            iterations, the number of the iteration.

    Returns:
        float: The first epoch runs over (0, 1].
    """
    return runner.epoch + (batch_idx + 1) / len(runner.train_dataloader)


def find_optimizers(
        optim_wrapper: Union[OptimWrapper,
                             OptimWrapperDict]) -> List[Optimizer]:
    """List the optimizers of a training.

    Args:
        optim_wrapper (OptimWrapper | OptimWrapperDict): The runner's.

    Returns:
        List[Optimizer]: At least one.
    """
    if isinstance(optim_wrapper, OptimWrapper):
        optim_wrapper = dict(all=optim_wrapper)
    return [wrapper.optimizer for wrapper in optim_wrapper.values()]
