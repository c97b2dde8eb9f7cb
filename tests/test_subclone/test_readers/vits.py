"""One ViT, and one CLIP, written as several libraries write them.

The names are spelled out here a second time, apart from the readers' tables;
that they are right is seen from the libraries' outputs.
"""
import json
import re
from pathlib import Path

import pytest
import torch
from mmpretrain.registry import MODELS

from tests.toy import vit_cfg

open_clip = pytest.importorskip('open_clip')
timm = pytest.importorskip('timm')
transformers = pytest.importorskip('transformers')

V5 = json.loads((Path(__file__).parents[2] / 'fixtures' /
                 'transformers_v5_keys.json').read_text())
WIDTH, DEPTH, HEADS = 32, 2, 2
PAIR = ('weight', 'bias')


def mmpretrain_vit(distilled=False):
    cfg = vit_cfg(WIDTH, DEPTH)
    cfg['backbone']['arch'].update(num_heads=HEADS)
    if distilled:
        cfg['backbone']['type'] = 'DistilledVisionTransformer'
        cfg['head'] = dict(
            type='DeiTClsHead', num_classes=4, in_channels=WIDTH)
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def timm_vit(distilled=False):
    name = 'deit_tiny_distilled_patch16_224' if distilled else \
        'vit_tiny_patch16_224'
    return timm.create_model(
        name,
        img_size=16,
        patch_size=4,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=2,
        num_classes=4).eval()


def hf_vit(distilled=False):
    cfg = dict(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        image_size=16,
        patch_size=4,
        layer_norm_eps=1e-6,
        num_labels=4,
        attn_implementation='eager')
    if distilled:
        return transformers.DeiTForImageClassificationWithTeacher(
            transformers.DeiTConfig(**cfg)).eval()
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(**cfg)).eval()


def to_timm(state):
    """Rename MMPretrain's tensors to timm's."""
    names = (('backbone.', ''), ('patch_embed.projection',
                                 'patch_embed.proj'), (r'\.ln1\.', '.norm1.'),
             (r'\.ln2\.', '.norm2.'), (r'ffn\.layers\.0\.0', 'mlp.fc1'),
             (r'ffn\.layers\.1', 'mlp.fc2'), (r'^layers\.', 'blocks.'),
             (r'^ln1', 'norm'), (r'head\.(fc|layers\.head)\.', 'head.'),
             (r'head\.layers\.head_dist', 'head_dist'))
    return _rename(state, names)


def to_hf_v4(state, distilled=False):
    """Rename MMPretrain's tensors to Hugging Face's of version 4."""
    kind = 'deit' if distilled else 'vit'
    names = (('backbone.', f'{kind}.'), ('patch_embed',
                                         'embeddings.patch_embeddings'),
             ('cls_token',
              'embeddings.cls_token'), ('dist_token',
                                        'embeddings.distillation_token'),
             ('pos_embed', 'embeddings.position_embeddings'),
             (r'\.ln1\.(?=\w+$)', '.layernorm.'), (r'(layers\.\d+)\.layernorm',
                                                   r'\1.layernorm_before'),
             (r'\.ln2\.', '.layernorm_after.'), (r'attn\.proj',
                                                 'attention.output.dense'),
             (r'ffn\.layers\.0\.0', 'intermediate.dense'), (r'ffn\.layers\.1',
                                                            'output.dense'),
             (rf'{kind}\.layers\.',
              f'{kind}.encoder.layer.'), (r'head\.layers\.head_dist',
                                          'distillation_classifier'),
             (r'head\.(fc|layers\.head)\.',
              'cls_classifier.' if distilled else 'classifier.'))
    out = {}
    for key, value in _rename(state, names).items():
        if 'attn.qkv' not in key:
            out[key] = value
            continue
        for i, part in enumerate(('query', 'key', 'value')):
            out[key.replace('attn.qkv', f'attention.attention.{part}')] = \
                value[i * WIDTH:(i + 1) * WIDTH].clone()
    return out


def to_hf_v5(state):
    """Rename tensors of version 4 to those of version 5 in memory."""
    return _rename(
        state, ((r'encoder\.layer\.', 'layers.'),
                (r'attention\.attention\.(\w)\w+\.', r'attention.\1_proj.'),
                (r'attention\.output\.dense', 'attention.o_proj'),
                (r'intermediate\.dense', 'mlp.fc1'),
                (r'(?<!attention\.)output\.dense', 'mlp.fc2')))


def _rename(state, names):
    out = {}
    for key, value in state.items():
        for pattern, new in names:
            key = re.sub(pattern, new, key)
        out[key] = value
    return out


CLIP_WIDTH = 64


def open_clip_model(quick_gelu=True):
    """A CLIP of open_clip with two heads a tower."""
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=8,
        vision_cfg=dict(
            layers=2,
            width=CLIP_WIDTH,
            head_width=32,
            patch_size=4,
            image_size=16,
            mlp_ratio=2.),
        text_cfg=dict(
            width=CLIP_WIDTH,
            heads=2,
            layers=2,
            vocab_size=50,
            context_length=7,
            mlp_ratio=2.),
        quick_gelu=quick_gelu).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return model


def hf_clip_model(quick_gelu=True):
    tower = dict(
        hidden_size=CLIP_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * CLIP_WIDTH,
        hidden_act='quick_gelu' if quick_gelu else 'gelu')
    return transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=dict(
                tower,
                vocab_size=50,
                max_position_embeddings=7,
                eos_token_id=49,
                bos_token_id=48,
                pad_token_id=0),
            vision_config=dict(tower, image_size=16, patch_size=4),
            projection_dim=8)).eval()


def to_hf_clip(state):
    """Rename open_clip's tensors to Hugging Face's."""
    out = {}
    for key, value in state.items():
        tower = 'vision' if key.startswith('visual.') else 'text'
        name = key.replace('visual.', '')
        if name in ('proj', 'text_projection'):
            kind = 'visual' if tower == 'vision' else 'text'
            out[f'{kind}_projection.weight'] = value.t().contiguous()
            continue
        if name == 'logit_scale':
            out[name] = value
            continue
        for pattern, new in (('transformer.resblocks',
                              'encoder.layers'), (r'ln_(\d)', r'layer_norm\1'),
                             ('attn', 'self_attn'), ('c_fc', 'fc1'),
                             ('c_proj', 'fc2'), ('^conv1',
                                                 'embeddings.patch_embedding'),
                             ('^class_embedding',
                              'embeddings.class_embedding'),
                             ('^token_embedding',
                              'embeddings.token_embedding'),
                             ('^positional_embedding',
                              'embeddings.position_embedding.weight'),
                             ('ln_pre', 'pre_layrnorm'), ('ln_post',
                                                          'post_layernorm'),
                             ('ln_final', 'final_layer_norm')):
            name = re.sub(pattern, new, name)
        if 'in_proj_' not in name:
            out[f'{tower}_model.{name}'] = value
            continue
        for part, third in zip('qkv', value.chunk(3)):
            new = name.replace('in_proj_', f'{part}_proj.')
            out[f'{tower}_model.{new}'] = third.clone()
    return out
