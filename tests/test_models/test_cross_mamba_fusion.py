"""Cross-Mamba fusion on every back end of the scan."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from tests.test_models.cross_mamba import fuse
from transmamba_mm.models import CrossMambaFusion
from transmamba_mm.models.layers import context_mixer
from transmamba_mm.ops import (SCAN_BACKENDS, get_scan_backend,
                               record_operations, selective_scan,
                               set_scan_backend)

#: A card only where there is one.
DEVICES = ['cpu'] + ['cuda'] * torch.cuda.is_available()
PLACES = [(b, d) for b in sorted(SCAN_BACKENDS) for d in DEVICES]


@pytest.fixture(params=PLACES, ids='-'.join)
def device(request, monkeypatch):
    """Force each back end in turn on each device where it runs."""
    backend, name = request.param
    monkeypatch.delenv('TRANSMAMBA_SCAN_BACKEND', raising=False)
    before = set_scan_backend(backend)
    try:
        build().to(name)(*draw((1, 1), batch=1, device=name))
        yield name
    except RuntimeError as error:
        if 'is forced, but' not in str(error):
            raise
        pytest.skip(str(error))
    finally:
        set_scan_backend(before)


def build(open_gate=True, visual=6, text=5, **kwargs):
    torch.manual_seed(0)
    model = CrossMambaFusion(visual, text, d_state=4, **kwargs)
    model.init_weights()
    for layer in model.layers:
        if open_gate:
            torch.nn.init.normal_(layer.gate)
        # larger steps, so that the decay matters
        for name, p in layer.named_parameters():
            if 'dt_proj' in name and name.endswith('bias'):
                p.data += 2
    return model


def draw(lengths=(7, 4), batch=3, dtype=torch.float32, device='cpu'):
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(batch, length, dims, generator=generator, dtype=dtype).to(
            device) for length, dims in zip(lengths, (6, 5)))


def masks(lengths, batch=3, device='cpu'):
    """Real tokens: all, all but the last, only the middle one."""
    out = []
    for length in lengths:
        mask = torch.ones(batch, length, dtype=torch.bool)
        mask[1, -1:] = False
        mask[2] = torch.arange(length) == length // 2
        out.append(mask.to(device))
    return out


CASES = [
    dict(),
    dict(bidirectional=False),
    dict(equal_length=True),
    dict(equal_length=True, bidirectional=False),
    dict(output='text', num_layers=2)
]


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('case', CASES, ids=str)
@pytest.mark.parametrize('backend', ['chunked', 'reference'])
def test_equals_the_equations(case, masked, backend):
    """Outputs and all gradients, in float64."""
    before = set_scan_backend(backend)
    model = build(**case).double()
    lengths = (7, 7) if 'equal_length' in case else (7, 4)
    inputs = [x.requires_grad_() for x in draw(lengths, dtype=torch.float64)]
    visual_mask, text_mask = masks(lengths) if masked else (None, None)
    streams, sides = inputs, [visual_mask, text_mask]
    if model.output == 'text':
        streams, sides = streams[::-1], sides[::-1]
    want = streams[0]
    for layer in model.layers:
        want = fuse(layer, want, streams[1], *sides)
    try:
        got = model(*inputs, text_mask, visual_mask)
        wanted = inputs + list(model.parameters())
        grads = torch.autograd.grad(got.cos().sum(), wanted)
    finally:
        set_scan_backend(before)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    for g, w in zip(grads, torch.autograd.grad(want.cos().sum(), wanted)):
        torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('equal_length', [False, True])
def test_text_side_learns(device, equal_length):
    """Back ends agree with the oracle, on the text side's gradients too."""
    lengths = (7, 7) if equal_length else (7, 4)
    model = build(equal_length=equal_length).to(device)
    visual, text = draw(lengths, device=device)
    mask = masks(lengths, device=device)[1]
    wanted = [text.requires_grad_(), visual.requires_grad_()]
    wanted += list(model.parameters())

    def run():
        out = model(visual, text, mask)
        return out, torch.autograd.grad(out.cos().sum(), wanted)

    got, grads = run()
    set_scan_backend('reference')
    want, want_grads = run()
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    for g, w in zip(grads, want_grads):
        torch.testing.assert_close(g, w, rtol=1e-3, atol=1e-5)
    assert grads[0][mask].abs().min() > 0
    assert (grads[0][~mask] == 0).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('equal_length', [False, True])
def test_padding_never_moves_the_state(device, equal_length, dtype):
    """Bit for bit, forward and backward, whatever the padding holds."""
    lengths = (7, 7) if equal_length else (7, 4)
    model = build(equal_length=equal_length).to(device)
    visual, text = draw(lengths, device=device)
    mask = masks(lengths, device=device)[1]

    def run(filling):
        filled = text.masked_fill(~mask.unsqueeze(-1), filling)
        leaves = [visual.clone().requires_grad_(), filled.requires_grad_()]
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            out = model(*leaves, mask)
        loss = out.float().cos().sum()
        return out, torch.autograd.grad(loss,
                                        leaves + list(model.parameters()))

    out, grads = run(0.)
    other, other_grads = run(float('nan'))
    exact = dict(rtol=0, atol=0)
    torch.testing.assert_close(other, out, **exact)
    # kernels of a card add gradients up in any order
    exact = exact if device == 'cpu' else dict(rtol=1e-3, atol=1e-5)
    for g, w in zip(other_grads, grads):
        torch.testing.assert_close(g, w, **exact)
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(g).all() for g in grads)


def test_more_padding_and_cut_text_agree(device):
    model = build().to(device)
    visual, text = draw(device=device)
    mask = torch.ones(3, 4, dtype=torch.bool, device=device)
    mask[:, 2:] = False
    want = model(visual, text[:, :2])
    torch.testing.assert_close(model(visual, text, mask), want)
    torch.testing.assert_close(
        model(visual, text.flip(1), mask.flip(1)),
        model(visual,
              text.flip(1)[:, 2:]))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_steps_of_size_zero_keep_the_state_exactly(device, dtype, monkeypatch):
    """The same part of the state, read 20 steps later, bit for bit."""
    calls = []

    def scan(u, delta, rates, b, c):
        u, delta, b = (F.pad(t, (0, 20)) for t in (u, delta, b))
        again = c[..., -1:].expand(*c.shape[:-1], 20)
        y = selective_scan(u, delta, rates, b, torch.cat([c, again], -1))
        calls.append((delta, y))
        return y[..., :-20]

    monkeypatch.setattr(context_mixer, 'selective_scan', scan)
    model = build().to(device)
    visual, text = draw(device=device)
    mask = masks((7, 4), device=device)[1]
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        model(visual, text, mask)
    (delta, y), = calls
    assert delta.dtype == torch.float32
    assert (delta[..., 4:] == 0).all()
    forward = delta[:, :12, :4].transpose(1, 2)
    assert torch.equal(forward > 0, mask.unsqueeze(-1).expand_as(forward))
    read = y[..., 7:]
    assert read.shape[-1] == 21 and read.abs().amax() > 0
    assert (read == read[..., :1]).all()


def test_many_clips_read_what_a_text_wrote_once():
    model = build(num_layers=2)
    visual, text = draw()
    mask = masks((7, 4))[1]
    states = model.write(text, mask)
    for i, clip in enumerate(visual):
        torch.testing.assert_close(
            model.read(clip.expand(3, -1, -1), states),
            model(clip.expand(3, -1, -1), text, mask))
        assert len(model.read(visual, states[i:i + 1])) == 3


def test_no_text_and_padded_queries_change_nothing(device):
    model = build().to(device)
    visual, text = draw(device=device)
    visual_mask, text_mask = masks((7, 4), device=device)
    text_mask[0] = False
    out = model(visual, text, text_mask, visual_mask)
    assert torch.equal(out[0], visual[0])
    assert torch.equal(out[~visual_mask], visual[~visual_mask])
    moved = (out - visual).abs().amax(-1)[1:]
    assert moved[visual_mask[1:]].min() > 1e-3


def test_word_order_matters():
    model = build()
    visual, text = draw()
    assert not torch.allclose(model(visual, text), model(visual, text.flip(1)))


def test_learns_word_order():
    """From the closed gate: "a b" or "b a", behind it random padding."""
    model = CrossMambaFusion(16, 16, d_state=4)
    torch.manual_seed(0)
    model.init_weights()
    head, words = torch.nn.Linear(16, 2), torch.randn(2, 16)
    weights = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-3)
    mask = (torch.arange(6) < 2).expand(32, -1)
    for _ in range(100):
        first = torch.randint(0, 2, (32, ))
        text = words[torch.stack([first, 1 - first], dim=1)]
        text = torch.cat([text, torch.randn(32, 4, 16)], dim=1)
        fused = model(torch.randn(32, 6, 16), text, mask)
        loss = torch.nn.functional.cross_entropy(head(fused.mean(1)), first)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_compiles():
    model = build()
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(*draw()), model(*draw()))


@pytest.mark.parametrize('output', ['visual', 'text'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_starts_as_identity(output, dtype):
    model = build(open_gate=False, num_layers=2, output=output)
    inputs = [x.to(dtype) for x in draw()]
    want = inputs[output == 'text']
    assert torch.equal(model(*inputs), want)
    assert model(*inputs).dtype == dtype
    model(*inputs).float().sum().backward()
    assert all(layer.gate.grad.abs().min() > 0 for layer in model.layers)


def test_generic_rules_do_not_spoil_the_start():
    fusion = dict(
        type='transmamba_mm.CrossMambaFusion', visual_dims=32, text_dims=16)
    parent = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(
                type='transmamba_mm.VisionMamba',
                arch='nano-16',
                img_size=16,
                patch_size=4),
            neck=fusion,
            init_cfg=[
                dict(type='TruncNormal', layer='Linear', std=.02, bias=3.),
                dict(type='Constant', layer='LayerNorm', val=1., bias=0.)
            ]))
    parent.init_weights()
    layer = parent.neck.layers[0]
    assert (layer.gate == 0).all()
    for suffix, a_log in (('', 'A_log'), ('_b', 'A_b_log')):
        step = torch.nn.functional.softplus(
            getattr(layer.mixer, 'dt_proj' + suffix).bias)
        assert 9e-5 < step.min() < step.max() < .11
        rates = getattr(layer.mixer, a_log).exp()
        torch.testing.assert_close(rates[0], torch.arange(1., 17))


def test_pretrained_weights_are_kept(tmp_path):
    model = build()
    torch.save(model.state_dict(), tmp_path / 'fusion.pth')
    other = CrossMambaFusion(
        6,
        5,
        d_state=4,
        init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'fusion.pth')))
    other.init_weights()
    assert torch.equal(other(*draw()), model(*draw()))


def test_a_batch_of_one_is_shared():
    model = build()
    visual, text = draw()
    for pair in ((visual[:1], text), (visual, text[:1])):
        whole = [x.expand(3, -1, -1) for x in pair]
        torch.testing.assert_close(model(*pair), model(*whole))


def test_copies_are_independent():
    model = build()
    other = copy.deepcopy(model)
    assert torch.equal(model(*draw()), other(*draw()))
    other.layers[0].gate.data.zero_()
    assert not torch.equal(model(*draw()), other(*draw()))


def test_operations_are_counted():
    with record_operations('scan') as calls:
        build()(*draw())
    assert calls[0]['length'] == 4 + 4 and calls[0]['directions'] == 2


@pytest.mark.parametrize('options, error', [
    (dict(output='both'), "neck.output='both'"),
    (dict(num_layers=0), 'neck.num_layers=0'),
])
def test_bad_options(options, error):
    with pytest.raises(ValueError, match=error):
        CrossMambaFusion(6, 5, **options)


def test_bad_inputs():
    visual, text = draw()
    mask = masks((7, 4))[1]
    model = build()
    with pytest.raises(ValueError, match='neck.visual_dims'):
        model(visual[..., :3], text)
    with pytest.raises(ValueError, match='length >= 1'):
        model(visual, text[:, :0])
    with pytest.raises(TypeError, match='mask.bool'):
        model(visual, text, mask.long())
    with pytest.raises(ValueError, match='text_mask has the shape'):
        model(visual, text, mask[:, :3])
    with pytest.raises(ValueError, match='3 visual and 2 text samples'):
        model(visual, text[:2])
    with pytest.raises(ValueError, match='equal_length=True'):
        build(equal_length=True)(visual, text)


def test_best_back_end_runs_by_itself():
    name = DEVICES[-1]
    assert get_scan_backend(name) in SCAN_BACKENDS
    visual, text = draw(device=name)
    assert build().to(name)(visual, text).shape == visual.shape
