import os.path as osp
from typing import Dict, Optional, Sequence, Union

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from transmamba_mm.models.layers.mamba_mixer import is_pretrained
from transmamba_mm.registry import HOOKS
from transmamba_mm.subclone import (SubclonePlan, SubcloneReport, TeacherState,
                                    compare_with_student, read_teacher,
                                    subclone_state_dict)
from transmamba_mm.utils.atomic_io import atomic_write
from transmamba_mm.utils.runner import is_fresh_start, unwrap


@HOOKS.register_module()
class WeightSubcloneHook(Hook):
    """Before a fresh training, clone parts of the teacher into the student.

    Never runs when weights were loaded (``load_from``, an ``init_cfg`` of type
    'Pretrained') or a run is resumed. The table of what happened to each
    tensor is logged and saved as ``subclone_report.json`` in the work dir.

    Args:
        checkpoint (str): The teacher's weights: file, folder or URL of a
            Transformer of MMPretrain, timm, official DeiT, Hugging Face (ViT,
            DeiT, CLIP, BERT, LLaMA, LLaVA), open_clip or OpenAI's CLIP.
        plan (str | dict | Sequence[dict]): Preset 'safe', 'linear' or 'none',
            a dict of :class:`~transmamba_mm.subclone.SubclonePlan`'s
            arguments, or a list of rules alone. Defaults to 'safe'.
        prefix (str): Prefix of the student's backbone. Defaults to
            'backbone.'.
        pretrained_checkpoint (str, optional): The teacher before it was fine-
            tuned. With it, the units that fine-tuning changed least are kept
            (the paper's importance); without, those of largest magnitude
            (our choice). Defaults to None.
        rescale (bool): See ``SubclonePlan``. Defaults to False.
        first_n (int | str, optional): See ``SubclonePlan``; None clones half
            of the blocks. Defaults to None.
        depth_map (str | Sequence[int]): See ``SubclonePlan``. Defaults to
            'proportional'.
        tower (str, optional): 'vision', 'text' or 'projector', if the file
            holds several; None takes the first of these. Defaults to None.

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
                 tower: Optional[str] = None) -> None:
        self.checkpoint = checkpoint
        self.pretrained_checkpoint = pretrained_checkpoint
        self.tower = tower
        self.prefix = prefix.rstrip('.') + '.'
        self.plan = SubclonePlan.from_config(
            plan, rescale=rescale, first_n=first_n, depth_map=depth_map)

    def before_train(self, runner: Runner) -> None:
        """Clone, unless weights were loaded.

        Args:
            runner (Runner): The runner.
        """
        model = unwrap(runner.model)
        backbone = find_backbone(model, self.prefix)
        if not is_fresh_start(runner) or any(
                is_pretrained(m.init_cfg) for m in (model, backbone)):
            print_log(
                'Weight subcloning: skipped, weights were loaded.',
                logger='current')
            return
        source = read_teacher_file(self.checkpoint, 'checkpoint', self.tower)
        compare_with_student(source, model)
        pretrained = self.pretrained_checkpoint and read_teacher_file(
            self.pretrained_checkpoint, 'pretrained_checkpoint', self.tower)
        target = {
            name: param.detach().cpu()
            for name, param in student_tensors(model, self.prefix).items()
        }
        new, report = subclone_state_dict(
            source, target, self.plan,
            backbone.token_layout(backbone.img_size), pretrained)
        write_tensors(model, new, self.prefix)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                write_tensors(hook.ema_model.module, new, self.prefix)
        self._publish(report, runner.work_dir)

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


def find_backbone(model: nn.Module, prefix: str) -> nn.Module:
    """Find the student's backbone.

    Args:
        model (nn.Module): A classifier.
        prefix (str): Prefix of its backbone, such as 'backbone.'.

    Returns:
        nn.Module: The backbone.

    Raises:
        ValueError: If there is no module of that name.
        TypeError: If it is no backbone of this package.
    """
    where = 'WeightSubcloneHook in custom_hooks'
    modules = dict(model.named_modules())
    backbone = modules.get(prefix.rstrip('.'))
    if backbone is None:
        raise ValueError(
            f"The model has no '{prefix.rstrip('.')}'; set `prefix` of "
            f'{where} to where its backbone is, such as one of '
            f'{[name for name, _ in model.named_children()]}.')
    if not hasattr(backbone, 'token_layout'):
        raise TypeError(
            f'{where} clones into a backbone of this package, such as '
            'transmamba_mm.PlainMamba or transmamba_mm.VisionMamba, but '
            f"'{prefix.rstrip('.')}' is {type(backbone).__name__}; change "
            '`model.backbone`, or `prefix` of the hook.')
    return backbone


def read_teacher_file(path: str,
                      key: str,
                      tower: Optional[str] = None) -> TeacherState:
    """Open a teacher's weights; tensors are read when they are used.

    Args:
        path (str): File, folder or URL.
        key (str): The hook's argument that names it, for messages.
        tower (str, optional): See
            :func:`~transmamba_mm.subclone.read_teacher`. Defaults to None.

    Returns:
        TeacherState: Tensors under canonical names. One with NaN or infinity
        raises a ValueError when it is used.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or not of a known Transformer.
    """
    where = f'`{key}` of WeightSubcloneHook in custom_hooks'
    try:
        state = read_teacher(path, tower)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"No teacher weights at '{path}'; change {where}, or train the "
            f'teacher first. {error}') from error
    except ValueError as error:
        raise ValueError(f"Cannot clone from '{path}', given as {where}: "
                         f'{error}') from error
    state.hint = f'Change {where}.'
    return state


def student_tensors(model: nn.Module, prefix: str) -> Dict[str, Tensor]:
    """Collect the parameters that can be cloned into.

    Args:
        model (nn.Module): A classifier.
        prefix (str): Prefix of its backbone.

    Returns:
        Dict[str, Tensor]: The backbone's parameters without prefix, and the
        head's as 'head.*'.
    """
    out = {}
    for name, param in model.named_parameters():
        if name.startswith(prefix):
            out[name[len(prefix):]] = param
        elif name.startswith('head.'):
            out[name] = param
    return out


@torch.no_grad()
def write_tensors(model: nn.Module, new: Dict[str, Tensor],
                  prefix: str) -> None:
    """Write values into a model in place.

    Optimizer and distributed wrapper hold the parameter objects, so these
    must stay.

    Args:
        model (nn.Module): A classifier.
        new (Dict[str, Tensor]): Values, named as by :func:`student_tensors`.
        prefix (str): Prefix of the backbone.
    """
    params = student_tensors(model, prefix)
    for name, value in new.items():
        params[name].copy_(value)
