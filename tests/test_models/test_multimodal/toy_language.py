"""Small language models, and an image classifier's worth of pictures."""
import torch
from transformers import (Mamba2Config, Mamba2ForCausalLM, MambaConfig,
                          MambaForCausalLM)

VOCABULARY = 40
SHAPE = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=2,
    state_size=4,
    pad_token_id=0,
    bos_token_id=2,
    eos_token_id=3)
CONFIGS = dict(
    mamba=dict(SHAPE),
    mamba2=dict(SHAPE, num_heads=8, head_dim=8, n_groups=1, chunk_size=16),
    llama=dict(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3))


def make_mamba(kind, **kwargs):
    """A Mamba of the library, whose weights are far from their start."""
    torch.manual_seed(0)
    if kind == 'mamba':
        model = MambaForCausalLM(MambaConfig(**CONFIGS[kind], **kwargs))
    else:
        model = Mamba2ForCausalLM(Mamba2Config(**{**CONFIGS[kind], **kwargs}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()
