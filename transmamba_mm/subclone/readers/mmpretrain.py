"""MMPretrain: ViT, DeiT and CLIP's vision tower, alone or in a classifier."""
from .dialect import Dialect, Tower

ROWS = (
    ('patch_embed.projection.*', 'patch_embed.*'),
    ('cls_token', 'cls_token'),
    ('dist_token', 'dist_token'),
    ('pos_embed', 'pos_embed'),
    ('pre_norm.*', 'pre_norm.*'),
    ('layers.{i}.ln1.*', 'layers.{i}.norm1.*'),
    ('layers.{i}.ln2.*', 'layers.{i}.norm2.*'),
    ('layers.{i}.attn.qkv.*', 'layers.{i}.qkv.*', 'qkv'),
    ('layers.{i}.attn.q_bias', 'layers.{i}.q.bias'),
    ('layers.{i}.attn.v_bias', 'layers.{i}.v.bias'),
    ('layers.{i}.attn.proj.*', 'layers.{i}.o.*'),
    ('layers.{i}.attn.gamma1.weight', 'layers.{i}.scale1'),
    ('layers.{i}.ffn.layers.0.0.*', 'layers.{i}.fc1.*'),
    ('layers.{i}.ffn.layers.1.*', 'layers.{i}.fc2.*'),
    ('layers.{i}.ffn.gamma2.weight', 'layers.{i}.scale2'),
    ('ln1.*', 'final_norm.*'),
    ('ln2.*', 'final_norm.*'),
)
HEAD_ROWS = (
    ('head.fc.*', 'head.*'),
    ('head.layers.head.*', 'head.*'),
    ('head.layers.head_dist.*', 'head_dist.*'),
)

MMPRETRAIN = Dialect(
    'mmpretrain', (Tower('vision', ((r'(?:module\.)?(?:backbone\.)?', ROWS),
                                    (r'(?:module\.)?', HEAD_ROWS))), ),
    example='backbone.layers.0.attn.qkv.weight',
    ignored=(r'data_preprocessor\..*', r'head\.layers\.pre_logits\..*',
             r'(?:module\.)?(?:backbone\.)?layers\.\d+\.pos_conv\..*'))
