import os.path as osp
from typing import Dict, Optional, Sequence, Union

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor, nn

from transmamba_mm.registry import HOOKS
from transmamba_mm.subclone import (SubclonePlan, read_teacher,
                                    subclone_state_dict)
from transmamba_mm.utils.runner import is_fresh_start, unwrap


@HOOKS.register_module()
class WeightSubcloneHook(Hook):
    """Before a fresh training, clone parts of the teacher into the student.

    Never runs when weights were loaded or a run is resumed. The table of what
    happened to each tensor is logged and saved as ``subclone_report.json`` in
    the work dir.

    Args:
        checkpoint (str): The teacher's weights; an MMPretrain ViT, DeiT or
            distilled DeiT.
        plan (str | dict): Preset 'safe', 'linear' or 'none', or a dict of
            :class:`~transmamba_mm.subclone.SubclonePlan`'s arguments.
            Defaults to 'safe'.
        prefix (str): Prefix of the student's backbone. Defaults to
            'backbone.'.
        pretrained_checkpoint (str, optional): The teacher before it was fine-
            tuned. With it, the units that fine-tuning changed least are kept
            (the paper's importance); without, those of largest magnitude
            (our choice). Defaults to None.
        rescale (bool): See ``SubclonePlan``. Defaults to False.
        first_n (int, optional): See ``SubclonePlan``; None clones half of
            the blocks. Defaults to None.
        depth_map (str | Sequence[int]): See ``SubclonePlan``. Defaults to
            'proportional'.
    """

    priority = 'HIGH'

    def __init__(self,
                 checkpoint: str,
                 plan: Union[str, dict] = 'safe',
                 prefix: str = 'backbone.',
                 pretrained_checkpoint: Optional[str] = None,
                 rescale: bool = False,
                 first_n: Optional[int] = None,
                 depth_map: Union[str, Sequence[int]] = 'proportional'
                 ) -> None:
        self.checkpoint = checkpoint
        self.pretrained_checkpoint = pretrained_checkpoint
        self.prefix = prefix
        self.plan = SubclonePlan.from_config(
            plan, rescale=rescale, first_n=first_n, depth_map=depth_map)

    def before_train(self, runner: Runner) -> None:
        """Clone, unless weights were loaded.

        Args:
            runner (Runner): The runner.
        """
        if not is_fresh_start(runner):
            print_log(
                'Weight subcloning: skipped, weights were loaded.',
                logger='current')
            return
        model = unwrap(runner.model)
        backbone = model.get_submodule(self.prefix.rstrip('.'))
        pretrained = self.pretrained_checkpoint
        new, report = subclone_state_dict(
            self._read(self.checkpoint, 'checkpoint'),
            student_tensors(model, self.prefix), self.plan,
            backbone.token_layout(backbone.img_size), pretrained and
            self._read(pretrained, 'pretrained_checkpoint'))
        write_tensors(model, new, self.prefix)
        print_log(report.to_table(), logger='current')
        print_log(report.summary(), logger='current')
        if is_main_process():
            path = osp.join(runner.work_dir, 'subclone_report.json')
            with open(path, 'w') as f:
                f.write(report.to_json())

    @staticmethod
    def _read(path: str, key: str) -> Dict[str, Tensor]:
        where = f'`{key}` of WeightSubcloneHook in custom_hooks'
        try:
            content = CheckpointLoader.load_checkpoint(path, 'cpu')
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"No teacher weights at '{path}'; change {where}, or train "
                'the teacher first.') from error
        return read_teacher(content.get('state_dict', content))


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
    must stay. A moving average copies them at its first update.

    Args:
        model (nn.Module): A classifier.
        new (Dict[str, Tensor]): Values, named as by :func:`student_tensors`.
        prefix (str): Prefix of the backbone.
    """
    params = student_tensors(model, prefix)
    for name, value in new.items():
        params[name].copy_(value)
