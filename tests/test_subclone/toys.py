"""A small teacher and small students, as dicts of tensors."""
import torch
from mmpretrain.registry import MODELS

from tests.toy import student_cfg, vit_cfg
from transmamba_mm.engine.hooks.subclone_target import student_tensors
from transmamba_mm.subclone import (SubclonePlan, read_teacher,
                                    subclone_state_dict)


def teacher(embed_dims=32, num_layers=3, **kwargs):
    torch.manual_seed(0)
    cfg = vit_cfg(embed_dims, num_layers, **kwargs)
    model = MODELS.build(cfg)
    for p in model.parameters():
        torch.nn.init.normal_(p)
    return dict(read_teacher(model.state_dict()))


def student(kind='VisionMamba', **kwargs):
    torch.manual_seed(1)
    model = MODELS.build(student_cfg(kind, **kwargs))
    model.init_weights()
    layout = model.backbone.token_layout(model.backbone.img_size)
    tensors = student_tensors(model, 'backbone.')
    return {k: v.detach() for k, v in tensors.items()}, layout


def clone(source,
          target,
          plan='safe',
          pretrained=None,
          activations=None,
          **kwargs):
    target, layout = target
    plan = SubclonePlan.from_config(plan, **{'first_n': -1, **kwargs})
    new, report = subclone_state_dict(source, target, plan, layout, pretrained,
                                      activations)
    assert [r.tensor for r in report.rows] == list(target)
    return new, {r.tensor: r for r in report.rows}, report
