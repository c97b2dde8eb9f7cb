import weakref
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmpretrain.registry import MODELS
from torch import Tensor

from transmamba_mm.distillation import LayerRecorder, find_modules, touch
from ..teachers import FrozenTeacher, preprocessor_normalisation


class Distillable:
    """Mixin that gives any MMEngine model a distiller and a borrowed teacher.

    The student *is* the model; the distiller is a trainable part of it; the
    teacher belongs to a hook. Only a weak reference is kept, so that
    checkpoints, optimizer and moving averages never see the teacher, and a
    ``deepcopy`` does not copy it.

    The model needs ``backbone`` and ``head``, or names others below, and
    calls :meth:`init_distiller` once these exist, and :meth:`distilled_loss`
    in its ``loss``.
    """

    backbone_name = 'backbone'
    head_name = 'head'

    def init_distiller(self, distiller: dict) -> None:
        """Build the distiller; what the student knows need not be told.

        Args:
            distiller (dict): Config of the distiller. ``student_dims``,
                ``student_depth``, ``student_layers`` and ``directions``
                default to the backbone's.

        Raises:
            ValueError: If the backbone is none of this package, or does not
                fit what the config says.
        """
        backbone = self.get_submodule(self.backbone_name)
        if not hasattr(backbone, 'block_names'):
            raise ValueError(
                f'{type(backbone).__name__} cannot be distilled: '
                'model.backbone must be one of this package, such as '
                'transmamba_mm.VisionMamba or transmamba_mm.PlainMamba.')
        known = dict(
            student_dims=backbone.block_dims,
            student_depth=len(backbone.block_names),
            student_layers=[
                f'{self.backbone_name}.{n}' for n in backbone.block_names
            ],
            directions=backbone.direction_names)
        self.distiller = MODELS.build({**known, **distiller})
        if self.distiller.directions != tuple(backbone.direction_names):
            raise ValueError(
                f'distiller.directions={self.distiller.directions}, but '
                f'{type(backbone).__name__} scans in the directions '
                f'{tuple(backbone.direction_names)}; leave '
                'model.distiller.directions out.')
        self._teacher = None
        find_modules(self, self.distiller.student_names(*self._endpoints()))

    def _endpoints(self) -> Tuple[str, str]:
        """Return the paths of the last norm and of the head."""
        backbone = self.get_submodule(self.backbone_name)
        norm = getattr(backbone, 'final_norm_name', 'ln1')
        return f'{self.backbone_name}.{norm}', self.head_name

    def attach_teacher(self, teacher: Optional[FrozenTeacher]) -> None:
        """Borrow a teacher, or give it back.

        Args:
            teacher (FrozenTeacher, optional): The teacher, which the caller
                keeps alive; None detaches it.

        Raises:
            ValueError: If the teacher does not fit the distiller.
        """
        if teacher is None:
            self._teacher = None
            return
        self._check_teacher(teacher)
        teacher.check_student(self.data_preprocessor)
        teacher.match_inputs(
            *preprocessor_normalisation(self.data_preprocessor))
        self._teacher = weakref.ref(teacher)

    def _check_teacher(self, teacher: FrozenTeacher) -> None:
        distiller = self.distiller
        for key in ('dims', 'depth'):
            told = getattr(distiller, f'teacher_{key}')
            found = teacher.embed_dims if key == 'dims' else teacher.depth
            if told != found:
                raise ValueError(
                    f'distiller.teacher_{key}={told}, but the teacher has '
                    f'{found}; change model.distiller.teacher_{key} or the '
                    'teacher.')
        self._check_classes(teacher)
        find_modules(teacher.model, self._teacher_names(teacher))

    def _check_classes(self, teacher: FrozenTeacher) -> None:
        """Refuse a teacher whose logits are about something else."""
        own = getattr(self.head, 'num_classes', None)
        if self.distiller.logit_weight > 0 and own != teacher.num_classes:
            raise ValueError(
                f'The teacher has {teacher.num_classes} classes and the '
                f'student {own}, so their logits cannot be compared: fine-'
                'tune the teacher on these classes, change head.num_classes, '
                'or set distiller.logit_weight=0.')

    def _teacher_names(self, teacher: FrozenTeacher) -> List[str]:
        """Return the paths of the teacher's modules to record."""
        return self.distiller.teacher_names(teacher.layer_name,
                                            teacher.final_norm_name,
                                            teacher.head_name)

    @property
    def teacher(self) -> FrozenTeacher:
        """FrozenTeacher: The borrowed teacher.

        Raises:
            RuntimeError: If there is none.
        """
        teacher = self._teacher() if self._teacher is not None else None
        if teacher is None:
            raise RuntimeError(
                f'{type(self).__name__} trains without a teacher: add '
                "dict(type='transmamba_mm.BidirectionalDistillHook', "
                'teacher=...) to custom_hooks, or set model.type to the plain '
                'model and drop model.distiller for a run without '
                'distillation.')
        return teacher

    def distilled_loss(
            self,
            inputs: Union[Tensor, Dict[str, Tensor]],
            own_loss: Callable[[], Dict[str, Tensor]],
            data_samples: Optional[list] = None) -> Dict[str, Tensor]:
        """Compute the own loss once, and add the distiller's terms.

        Args:
            inputs (Tensor | Dict[str, Tensor]): Images (B, C, H, W) or clips
                (B, C, T, H, W), as the student sees them; or what else the
                teacher takes.
            own_loss (Callable): Computes the model's own loss dict.
            data_samples (List[DataSample], optional): Their samples, by
                which a cache of features finds them. Defaults to None.

        Returns:
            Dict[str, Tensor]: ``loss_cls`` and the terms, the latter with
            the prefix 'distill.'. While the distiller is calibrated there is
            no ``loss_cls``, and only the distiller's parameters get a
            gradient other than zero.
        """
        distiller = self.distiller
        if distiller.progress == 0:
            losses, terms = own_loss(), distiller.idle_terms()
            losses['loss_cls'] = distiller.task_weight * losses.pop('loss')
            losses.update({f'distill.{k}': v for k, v in terms.items()})
            return losses
        teacher = self.teacher
        seen = self._teacher_names(teacher)
        more, more_seen = self.task_names()
        shown = teacher.record(inputs, [*seen, *more_seen], data_samples)
        names = distiller.student_names(*self._endpoints())
        with LayerRecorder(self, [*names, *more]) as records, \
                torch.set_grad_enabled(not distiller.calibrating):
            losses = own_loss()
        terms = distiller(
            *self._features([records[n]
                             for n in names], [shown[n]
                                               for n in seen], inputs))
        if not distiller.calibrating:
            further = self.task_terms(records, shown, data_samples)
            terms.update({
                k: distiller.progress * v
                for k, v in further.items()
            })
        task_loss = losses.pop('loss')
        if distiller.calibrating:
            terms['loss_idle'] = touch(self.parameters())
            losses.update({f'distill.{k}': v for k, v in terms.items()})
        else:
            losses.update(
                distiller.join(task_loss, terms, self._shared_weights()))
        return losses

    def task_names(self) -> Tuple[Sequence[str], Sequence[str]]:
        """Name the modules that :meth:`task_terms` looks at.

        Returns:
            Tuple[Sequence[str], Sequence[str]]: Paths in the student and in
            the teacher's model; none, unless a task has terms of its own.
        """
        return (), ()

    def task_terms(self, records: Dict[str, Tensor], shown: Dict[str, Tensor],
                   data_samples: Optional[list]) -> Dict[str, Tensor]:
        """Compute distillation terms that only this task has.

        Args:
            records (Dict[str, Tensor]): Outputs of the student's modules.
            shown (Dict[str, Tensor]): Outputs of the teacher's modules.
            data_samples (List[DataSample], optional): The samples.

        Returns:
            Dict[str, Tensor]: Weighted terms; keys with 'loss' are added up.
        """
        return {}

    def _shared_weights(self) -> List[Tensor]:
        """Return weights of the first trained block, if they are wanted."""
        blocks = find_modules(self, self.distiller.shared_names())
        weights = [[p for p in block.parameters() if p.requires_grad]
                   for block in blocks.values()]
        return next(filter(None, weights), [])

    def _features(self, student: List[Tensor], teacher: List[Tensor],
                  inputs: Tensor) -> tuple:
        """Return the features, and the layouts of both."""
        return (student, teacher, *self._layouts(inputs.shape[2:]))

    def _layouts(self, input_size: Sequence[int]) -> Tuple[list, list]:
        """Return student and teacher layouts, one a student layer."""
        size = tuple(input_size)
        layers = range(self.distiller.student_depth)
        return ([self.backbone.token_layout(size, i) for i in layers], [
            self.teacher.record_layout(size, i)
            for i in self.distiller.layer_map
        ])
