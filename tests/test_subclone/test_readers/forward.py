"""Run a Transformer from its canonical tensors and description alone."""
import torch
import torch.nn.functional as F

from transmamba_mm.subclone import num_layers

ACTIVATIONS = dict(
    gelu=F.gelu,
    quick_gelu=lambda x: x * torch.sigmoid(1.702 * x),
    silu=F.silu)


class Forward:
    """Features of a tower.

    Args:
        state (TeacherState): The tower.
        heads (int): Attention heads, if the state does not tell.
        eps (float): Of the norms. Defaults to 1e-6.
        rotary (bool): Whether positions turn q and k, as in LLaMA.
        causal (bool): Whether tokens see only earlier ones.
    """

    def __init__(self, state, heads, eps=1e-6, rotary=False, causal=False):
        self.state, self.info, self.eps = state, state.info, eps
        self.heads = state.info.num_heads or heads
        self.rotary, self.causal = rotary, causal

    def linear(self, x, name):
        return F.linear(x, self.state[f'{name}.weight'],
                        self.state.get(f'{name}.bias'))

    def norm(self, x, name):
        weight = self.state[f'{name}.weight']
        if self.info.norm == 'rms':
            return F.rms_norm(x, weight.shape, weight, self.eps)
        return F.layer_norm(x, weight.shape, weight,
                            self.state[f'{name}.bias'], self.eps)

    def attention(self, x, layer):
        q, k, v = (
            self.linear(x, f'{layer}.{part}') for part in ('q', 'k', 'v'))
        kv_heads = self.heads * k.shape[-1] // q.shape[-1]
        q = q.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (
            y.unflatten(-1, (kv_heads, -1)).transpose(1, 2) for y in (k, v))
        if self.rotary:
            q, k = turn(q), turn(k)
        k, v = (y.repeat_interleave(self.heads // kv_heads, 1) for y in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.linear(out.transpose(1, 2).flatten(2),
                           f'{layer}.o') * self.state.get(
                               f'{layer}.scale1', 1)

    def mlp(self, x, layer):
        act = ACTIVATIONS[self.info.activation]
        if f'{layer}.gate.weight' in self.state:
            return self.linear(
                act(self.linear(x, f'{layer}.gate')) *
                self.linear(x, f'{layer}.up'), f'{layer}.down')
        out = self.linear(act(self.linear(x, f'{layer}.fc1')), f'{layer}.fc2')
        return out * self.state.get(f'{layer}.scale2', 1)

    def blocks(self, x):
        if 'pre_norm.weight' in self.state:
            x = self.norm(x, 'pre_norm')
        for i in range(num_layers(self.state)):
            layer = f'layers.{i}'
            if self.info.norm_first:
                x = x + self.attention(self.norm(x, f'{layer}.norm1'), layer)
                x = x + self.mlp(self.norm(x, f'{layer}.norm2'), layer)
            else:
                x = self.norm(x + self.attention(x, layer), f'{layer}.norm1')
                x = self.norm(x + self.mlp(x, layer), f'{layer}.norm2')
        return x

    def image(self, pixels):
        weight = self.state['patch_embed.weight']
        x = F.conv2d(pixels, weight, self.state.get('patch_embed.bias'),
                     weight.shape[-1]).flatten(2).transpose(1, 2)
        tokens = [
            self.state[name].expand(len(x), -1, -1)
            for name in ('cls_token', 'dist_token') if name in self.state
        ]
        return self.blocks(
            torch.cat([*tokens, x], 1) + self.state['pos_embed'])

    def text(self, words):
        x = F.embedding(words, self.state['token_embed.weight'])
        if 'text_pos_embed' in self.state:
            x = x + self.state['text_pos_embed'][:, :words.shape[1]]
        if 'token_type_embed.weight' in self.state:
            x = x + self.state['token_type_embed.weight'][0]
        return self.blocks(x)


def turn(x):
    """Turn the pairs of channels by their position."""
    size = x.shape[-1] // 2
    speed = 10000.**(-torch.arange(size) / size)
    angle = torch.arange(x.shape[-2])[:, None] * speed
    sin, cos = angle.sin(), angle.cos()
    a, b = x[..., :size], x[..., size:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
