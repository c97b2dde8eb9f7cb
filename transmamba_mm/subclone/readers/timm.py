"""The library timm, which the official DeiT files follow."""
from .dialect import Dialect, Tower

ROWS = (
    ('patch_embed.proj.*', 'patch_embed.*'),
    ('cls_token', 'cls_token'),
    ('dist_token', 'dist_token'),
    ('pos_embed', 'pos_embed'),
    ('norm_pre.*', 'pre_norm.*'),
    ('blocks.{i}.norm1.*', 'layers.{i}.norm1.*'),
    ('blocks.{i}.norm2.*', 'layers.{i}.norm2.*'),
    ('blocks.{i}.attn.qkv.*', 'layers.{i}.qkv.*', 'qkv'),
    ('blocks.{i}.attn.q_bias', 'layers.{i}.q.bias'),
    ('blocks.{i}.attn.v_bias', 'layers.{i}.v.bias'),
    ('blocks.{i}.attn.proj.*', 'layers.{i}.o.*'),
    ('blocks.{i}.mlp.fc1.*', 'layers.{i}.fc1.*'),
    ('blocks.{i}.mlp.fc2.*', 'layers.{i}.fc2.*'),
    ('blocks.{i}.ls1.gamma', 'layers.{i}.scale1'),
    ('blocks.{i}.ls2.gamma', 'layers.{i}.scale2'),
    ('blocks.{i}.gamma_1', 'layers.{i}.scale1'),
    ('blocks.{i}.gamma_2', 'layers.{i}.scale2'),
    ('norm.*', 'final_norm.*'),
    ('fc_norm.*', 'final_norm.*'),
    ('head.*', 'head.*'),
    ('head_dist.*', 'head_dist.*'),
)

#: Also within MMPretrain's wrappers ``TimmClassifier`` and ``TimmBackbone``.
TIMM = Dialect(
    'timm', (Tower('vision', ((r'(?:module\.)?(?:backbone\.)?'
                               r'(?:timm_model\.|model\.)?', ROWS), )), ),
    example='blocks.0.attn.qkv.weight',
    ignored=(r'(?:.*\.)?relative_position_index', r'(?:.*\.)?mask_token'))
