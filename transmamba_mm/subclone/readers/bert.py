"""Hugging Face's BERT and what is built alike, such as MiniLM."""
from .dialect import Dialect, Tower

ROWS = (
    ('embeddings.word_embeddings.weight', 'token_embed.weight'),
    ('embeddings.position_embeddings.weight', 'text_pos_embed', 'tokens'),
    ('embeddings.token_type_embeddings.weight', 'token_type_embed.weight'),
    ('embeddings.LayerNorm.*', 'pre_norm.*'),
    ('encoder.layer.{i}.attention.self.query.*', 'layers.{i}.q.*'),
    ('encoder.layer.{i}.attention.self.key.*', 'layers.{i}.k.*'),
    ('encoder.layer.{i}.attention.self.value.*', 'layers.{i}.v.*'),
    ('encoder.layer.{i}.attention.output.dense.*', 'layers.{i}.o.*'),
    ('encoder.layer.{i}.attention.output.LayerNorm.*', 'layers.{i}.norm1.*'),
    ('encoder.layer.{i}.intermediate.dense.*', 'layers.{i}.fc1.*'),
    ('encoder.layer.{i}.output.dense.*', 'layers.{i}.fc2.*'),
    ('encoder.layer.{i}.output.LayerNorm.*', 'layers.{i}.norm2.*'),
    ('pooler.dense.*', 'pooler.*'),
    ('classifier.*', 'head.*'),
)

BERT = Dialect(
    'BERT',
    (Tower('text',
           ((r'(?:module\.)?(?:0\.auto_model\.)?(?:bert\.)?', ROWS), )), ),
    example='bert.encoder.layer.0.attention.self.query.weight',
    ignored=(r'(?:.*\.)?position_ids', r'cls\..*', r'qa_outputs\..*'))
