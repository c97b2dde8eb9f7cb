"""Decoders like LLaMA: RMS norms, gated MLP, heads that may share k and v."""
from .dialect import Dialect, Tower

ROWS = (
    ('embed_tokens.weight', 'token_embed.weight'),
    ('layers.{i}.input_layernorm.weight', 'layers.{i}.norm1.weight'),
    ('layers.{i}.post_attention_layernorm.weight', 'layers.{i}.norm2.weight'),
    ('layers.{i}.self_attn.q_proj.*', 'layers.{i}.q.*'),
    ('layers.{i}.self_attn.k_proj.*', 'layers.{i}.k.*'),
    ('layers.{i}.self_attn.v_proj.*', 'layers.{i}.v.*'),
    ('layers.{i}.self_attn.o_proj.*', 'layers.{i}.o.*'),
    ('layers.{i}.mlp.gate_proj.*', 'layers.{i}.gate.*'),
    ('layers.{i}.mlp.up_proj.*', 'layers.{i}.up.*'),
    ('layers.{i}.mlp.down_proj.*', 'layers.{i}.down.*'),
    ('norm.weight', 'final_norm.weight'),
    ('lm_head.*', 'head.*'),
    ('score.*', 'head.*'),
)
IGNORED = (r'(?:.*\.)?rotary_emb\..*', )

LLAMA = Dialect(
    'LLaMA', (Tower('text', ((r'(?:module\.)?(?:model\.)?', ROWS), )), ),
    example='model.layers.0.self_attn.q_proj.weight',
    ignored=IGNORED)
