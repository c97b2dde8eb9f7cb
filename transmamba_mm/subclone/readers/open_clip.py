"""open_clip and OpenAI's CLIP, one tower or both.

Files of CLIP4Clip have OpenAI's names after 'clip.'.
"""
from . import timm
from .dialect import Dialect, Tower

_BLOCK = tuple(
    ('transformer.resblocks.{i}.' + row[0], 'layers.{i}.' + row[1], *row[2:])
    for row in (
        ('ln_1.*', 'norm1.*'),
        ('ln_2.*', 'norm2.*'),
        ('attn.in_proj_*', 'qkv.*', 'qkv'),
        ('attn.out_proj.*', 'o.*'),
        ('mlp.c_fc.*', 'fc1.*'),
        ('mlp.c_proj.*', 'fc2.*'),
        ('ls_1.gamma', 'scale1'),
        ('ls_2.gamma', 'scale2'),
    ))

_VISION_ROWS = _BLOCK + (
    ('conv1.*', 'patch_embed.*'),
    ('class_embedding', 'cls_token', 'token'),
    ('positional_embedding', 'pos_embed', 'tokens'),
    ('ln_pre.*', 'pre_norm.*'),
    ('ln_post.*', 'final_norm.*'),
    ('proj', 'projection.weight', 'transpose'),
    # an image tower of timm's
    ('head.proj.weight', 'projection.weight'),
)
_TEXT_ROWS = _BLOCK + (
    ('token_embedding.weight', 'token_embed.weight'),
    ('positional_embedding', 'text_pos_embed', 'tokens'),
    ('ln_final.*', 'final_norm.*'),
    ('text_projection', 'projection.weight', 'transpose'),
    ('text_projection.weight', 'projection.weight'),
)
_LOGITS = (('logit_scale', 'logit_scale'), ('logit_bias', 'logit_bias'))
_TOP = r'(?:module\.)?(?:clip\.|model\.)?'

OPEN_CLIP = Dialect(
    'open_clip',
    (Tower('vision',
           ((_TOP + r'visual\.', _VISION_ROWS),
            (_TOP + r'visual\.trunk\.', timm.ROWS), (_TOP, _LOGITS))),
     Tower('text', ((_TOP + r'(?:text\.)?', _TEXT_ROWS), (_TOP, _LOGITS)))),
    example='visual.transformer.resblocks.0.attn.in_proj_weight',
    ignored=(r'(?:.*\.)?attn_mask', r'(?:.*\.)?input_resolution',
             r'(?:.*\.)?context_length', r'(?:.*\.)?vocab_size'))
