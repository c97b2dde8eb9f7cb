"""Cross-Mamba written as the equations are, for one sample."""
import torch
import torch.nn.functional as F


def read_states(mixer, query, context, mask):
    """Output of a ContextMixer for queries (U, C_q) and context (T, C_c)."""
    q, total = mixer.c_proj(F.silu(mixer.query_proj(query))), 0
    k = F.silu(mixer.in_proj(context))
    for suffix, a_log in (('', 'A_log'), ('_b', 'A_b_log')):
        if getattr(mixer, a_log) is None:
            continue
        A = -getattr(mixer, a_log).exp()  # (E, N)
        x_proj, dt_proj = (
            getattr(mixer, name + suffix) for name in ('x_proj', 'dt_proj'))
        h, states = torch.zeros_like(A), {}
        steps = range(len(context))
        for t in reversed(steps) if suffix else steps:
            dt, b = x_proj(k[t]).split([mixer.dt_rank, mixer.d_state])
            d = F.softplus(dt_proj(dt)).unsqueeze(1)  # (E, 1)
            if mask is None or mask[t]:
                h = (d * A).exp() * h + d * k[t].unsqueeze(1) * b
            states[t] = h
        # (U, E, N): one state a query, or the last for all
        read = [states[t] if mixer.equal_length else h for t in range(len(q))]
        total = total + (torch.stack(read) * q.unsqueeze(1)).sum(-1)
    scale = (total.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    return mixer.out_proj(total * scale * mixer.out_norm.weight)


def fuse(block, query, context, query_mask, context_mask):
    """Output of a ContextBlock for a batch."""
    outs = []
    for i in range(len(query)):
        rows = [
            None if m is None else m[i] for m in (query_mask, context_mask)
        ]
        read = read_states(block.mixer, block.query_norm(query[i]),
                           block.context_norm(context[i]), rows[1])
        read = read if rows[0] is None else read * rows[0].unsqueeze(-1)
        outs.append(query[i] + block.gate * read)
    return torch.stack(outs)
