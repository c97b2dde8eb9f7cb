import os.path as osp
from dataclasses import replace
from typing import Dict, Optional, Sequence, Tuple, Union

from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from transmamba_mm.models.layers.mamba_mixer import is_pretrained
from transmamba_mm.models.teachers import preprocessor_normalisation
from transmamba_mm.registry import HOOKS
from transmamba_mm.subclone import (SubclonePlan, SubcloneReport, TeacherState,
                                    activation_scores, add_ssm_rows, clone_ssm,
                                    compare_with_student, subclone_state_dict)
from transmamba_mm.subclone.report import Row
from transmamba_mm.utils.atomic_io import atomic_write
from transmamba_mm.utils.runner import is_fresh_start, unwrap
from transmamba_mm.utils.training_batches import training_batches
from transmamba_mm.utils.weight_files import open_weights
from .subclone_inputs import (check_importance, check_scoring_teacher,
                              check_ssm_student, check_words,
                              find_teacher_config, read_mamba_file,
                              read_teacher_file)
from .subclone_target import (copied_tensors, find_backbone, is_language,
                              position_layout, student_tensors,
                              whole_parameters, write_tensors)


@HOOKS.register_module()
class WeightSubcloneHook(Hook):
    """Before a fresh training, clone parts of the teacher into the student.

    Never runs when weights were loaded (``load_from``, an ``init_cfg`` of type
    'Pretrained') or a run is resumed. The table of what happened to each
    tensor is logged and saved as ``subclone_report.json`` in the work dir.

    Args:
        checkpoint (str): The teacher's weights: file, folder or URL of a
            Transformer of MMPretrain, timm, official DeiT, Hugging Face (ViT,
            DeiT, DINOv2, CLIP, BERT, LLaMA, LLaVA), open_clip or OpenAI's
            CLIP.
        plan (str | dict | Sequence[dict]): Preset 'safe', 'linear' or 'none',
            a dict of :class:`~transmamba_mm.subclone.SubclonePlan`'s
            arguments, or a list of rules alone. 'qkv_to_ssm' is a further
            preset. Defaults to 'safe'.
        prefix (str): Prefix of the student's backbone, or of its language
            model, such as 'language_model.'. Defaults to 'backbone.'.
        pretrained_checkpoint (str, optional): The teacher before it was fine-
            tuned, for the importance 'change'. Defaults to None.
        rescale (bool): See ``SubclonePlan``. Defaults to False.
        first_n (int | str, optional): See ``SubclonePlan``; None clones half
            of the blocks. Defaults to None.
        depth_map (str | Sequence[int]): See ``SubclonePlan``. Defaults to
            'proportional'.
        tower (str, optional): 'vision', 'text' or 'projector', if the file
            holds several; None takes 'text' for a language model and the
            first of these for others. Defaults to None.
        copy (str | Sequence[str], optional): Parts that the student has
            exactly as the teacher does, such as ``('vision_tower',
            'projector')``, which are copied whole (our choice). Defaults to
            None.
        importance (str, optional): Which units of a wide teacher are kept:

            - 'change': those that fine-tuning changed least (the paper's),
              against ``pretrained_checkpoint``;
            - 'magnitude': those with the largest weights (our choice);
            - 'activation': those that act most strongly on a few batches of
              the training data (our choice), see
              :func:`~transmamba_mm.subclone.activation_scores`.

            None means 'change' with ``pretrained_checkpoint``, and
            'magnitude' without. Defaults to None.
        teacher (dict, optional): For 'activation': config of a
            :class:`~transmamba_mm.models.FrozenTeacher` with the weights of
            ``checkpoint``; None takes that of a distillation hook in
            ``custom_hooks``. Defaults to None.
        importance_batches (int): Batches that each process scores the units
            on. Defaults to 4.
        ssm_checkpoint (str, optional): File or folder of a Mamba language
            model, or of a student of the ViM family, from which the state
            space parameters start; what ``plan`` clones goes before. See
            :func:`~transmamba_mm.subclone.clone_ssm`. Defaults to None.
        ssm_directions (str): 'all' starts every scan direction from it,
            'first' leaves all but the forward one at their own
            initialisation. Defaults to 'all'.

    Examples:
        >>> custom_hooks = [
        ...     dict(
        ...         type='transmamba_mm.WeightSubcloneHook',
        ...         checkpoint='teacher.pth',
        ...         plan=dict(preset='linear', exclude=['pos_embed']))
        ... ]
    """

    priority = 'HIGH'

    def __init__(self,
                 checkpoint: str,
                 plan: Union[str, dict, Sequence[dict]] = 'safe',
                 prefix: str = 'backbone.',
                 pretrained_checkpoint: Optional[str] = None,
                 rescale: bool = False,
                 first_n: Union[int, str, None] = None,
                 depth_map: Union[str, Sequence[int]] = 'proportional',
                 tower: Optional[str] = None,
                 importance: Optional[str] = None,
                 teacher: Optional[dict] = None,
                 importance_batches: int = 4,
                 ssm_checkpoint: Optional[str] = None,
                 ssm_directions: str = 'all',
                 copy: Union[str, Sequence[str], None] = None) -> None:
        self.checkpoint = checkpoint
        self.pretrained_checkpoint = pretrained_checkpoint
        self.tower = tower
        self.prefix = prefix.rstrip('.') + '.'
        self.plan = SubclonePlan.from_config(
            plan, rescale=rescale, first_n=first_n, depth_map=depth_map)
        self.importance = check_importance(importance, pretrained_checkpoint)
        self.teacher = teacher
        self.importance_batches = importance_batches
        self.ssm_checkpoint = ssm_checkpoint
        self.ssm_directions = ssm_directions
        self.copy = (copy, ) if isinstance(copy, str) else tuple(copy or ())

    def before_train(self, runner: Runner) -> None:
        """Clone, unless weights were loaded.

        Args:
            runner (Runner): The runner.
        """
        model = unwrap(runner.model)
        backbone = find_backbone(model, self.prefix)
        loaded = [
            is_pretrained(getattr(m, 'init_cfg', None))
            for m in (model, backbone)
        ]
        if any(loaded) or not is_fresh_start(runner):
            print_log(
                'Weight subcloning: skipped, weights were loaded.',
                logger='current')
            return
        with whole_parameters(runner.model):
            new, report = self.clone(model, runner.cfg, runner.seed or 0)
            for value in new.values():
                broadcast(value)
            write_tensors(model, new, self.prefix)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                write_tensors(hook.ema_model.module, new, self.prefix)
        self._publish(report, runner.work_dir)

    def clone(self,
              model: nn.Module,
              cfg: Optional[dict] = None,
              seed: int = 0) -> Tuple[Dict[str, Tensor], SubcloneReport]:
        """Work out what the student gets; the student is not changed.

        Args:
            model (nn.Module): The student.
            cfg (dict, optional): Config of the run: its ``train_dataloader``
                and ``custom_hooks`` serve the importance 'activation'.
                Defaults to None.
            seed (int): Seed of the order of those images. Defaults to 0.

        Returns:
            Tuple[Dict[str, Tensor], SubcloneReport]: New values, named as by
            :func:`student_tensors`, and what happened to each tensor.
        """
        backbone = find_backbone(model, self.prefix)
        plan, tower = self.plan, self.tower
        if is_language(backbone):
            tower = tower or 'text'
            plan = replace(
                plan, num_groups=getattr(backbone.config, 'n_groups', 1))
        source = read_teacher_file(self.checkpoint, 'checkpoint', tower)
        if is_language(backbone):
            check_words(self.checkpoint, source, model, backbone)
            check_ssm_student(self.ssm_checkpoint, backbone)
        compare_with_student(source, model)
        pretrained = None
        if self.importance == 'change':
            pretrained = read_teacher_file(self.pretrained_checkpoint,
                                           'pretrained_checkpoint', tower)
        activations = None
        if self.importance == 'activation':
            activations = self._score(model, cfg or {}, source, seed)
        target = {
            name: param.detach().cpu()
            for name, param in student_tensors(model, self.prefix).items()
        }
        given, rows = {}, []
        if self.ssm_checkpoint is not None:
            mamba = read_mamba_file(self.ssm_checkpoint)
            given, rows = clone_ssm(mamba, target, self.ssm_directions)
        new, report = subclone_state_dict(source, {
            **target,
            **given
        }, plan, position_layout(backbone), pretrained, activations)
        add_ssm_rows(report, rows, given, new)
        parts = self._copy_parts(model)
        report.rows += [
            Row(name, name, 'copied', value.numel(), value.numel())
            for name, value in parts.items()
        ]
        return {**given, **new, **parts}, report

    def _copy_parts(self, model: nn.Module) -> Dict[str, Tensor]:
        """Read the parts that student and teacher share."""
        if not self.copy:
            return {}
        return copied_tensors(
            model, self.copy, open_weights(self.checkpoint),
            f"'{self.checkpoint}', `checkpoint` of WeightSubcloneHook")

    def _score(self, model: nn.Module, cfg: dict, source: TeacherState,
               seed: int) -> Dict[str, Tensor]:
        """Run the teacher on a few batches of the training data."""
        teacher_cfg = self.teacher or find_teacher_config(cfg)
        teacher = MODELS.build(teacher_cfg).to(next(model.parameters()).device)
        check_scoring_teacher(teacher, source)
        teacher.match_inputs(
            *preprocessor_normalisation(model.data_preprocessor))
        batches = training_batches(model, cfg.get('train_dataloader'),
                                   self.importance_batches, seed)
        scores = activation_scores(teacher, batches, source)
        print_log(
            'Weight subcloning: the units are scored by mean activation over '
            f'{self.importance_batches} batches, the residual stream and '
            f'{len(scores) - 1} sets of attention channels and hidden units; '
            'any others by their weights.',
            logger='current')
        return scores

    def _publish(self, report: SubcloneReport, work_dir: str) -> None:
        """Log the report and save it."""
        print_log(
            f'Weight subcloning from {self.checkpoint}:\n{report.to_table()}',
            logger='current')
        print_log(report.summary(), logger='current')
        if is_main_process():
            atomic_write(
                osp.join(work_dir, 'subclone_report.json'),
                report.to_json().encode())
