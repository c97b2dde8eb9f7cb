"""torch.compile takes a whole block as one graph, on a CPU too."""
import pytest
import torch

from tests.test_models.test_backbones.test_contract import build, get_block

FAMILIES = ['PlainMamba', 'VideoMamba', 'VisionMamba', 'VMamba']


@pytest.mark.parametrize('family', FAMILIES)
def test_block_is_one_graph(family):
    """``fullgraph=True`` fails at the first break; 'aot_eager' traces the
    backward too, but needs no compiler."""
    torch._dynamo.reset()
    model = build(family)
    block = get_block(model, 0)
    size = (4, 4) if family == 'VMamba' else (16, 16)
    layout = model.token_layout(size, 0)
    tokens = torch.randn(2, layout.num_tokens, model.block_dims[0])
    compiled = torch.compile(block, fullgraph=True, backend='aot_eager')
    results = []
    for run in (block, compiled):
        x = tokens.clone().requires_grad_()
        out = run(x, layout.shape, False)
        out.square().sum().backward()
        results.append((out.detach(), x.grad))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b)
