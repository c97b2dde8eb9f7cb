"""Text-video retrieval: losses, features, heads, and that it learns."""
import copy
import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS

from .toy_videos import FRAMES, batch, retrieval_cfg

HEADS = ['MeanPoolHead', 'SequenceHead', 'CrossMambaHead']


def build(*args, **kwargs):
    torch.manual_seed(0)
    model = MODELS.build(retrieval_cfg(*args, **kwargs))
    model.init_weights()
    return model


def losses_of(model, indices=range(6)):
    data = model.data_preprocessor(batch(indices), True)
    return model(**data, mode='loss')


def expected_nce(video, text, scale):
    similarity = scale * video @ text.t()
    target = torch.arange(len(video))
    return (F.cross_entropy(similarity, target) +
            F.cross_entropy(similarity.t(), target)) / 2


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('tubelet_size', [1, 2])
def test_loss_is_that_of_the_features(head, tubelet_size):
    model = build(head, tubelet_size=tubelet_size)
    data = model.data_preprocessor(batch(range(6)), True)
    video, text = model(**data, mode='tensor')
    assert video.shape == text.shape == (6, 24)
    torch.testing.assert_close(video.norm(dim=1), torch.ones(6))
    losses = losses_of(model)
    nce = losses.get('nce', losses['loss'])
    torch.testing.assert_close(nce, expected_nce(video, text, 1 / 0.07))
    parsed, _ = model.parse_losses(losses)
    torch.testing.assert_close(parsed, losses['loss'])


@pytest.mark.parametrize('head', HEADS)
def test_every_parameter_gets_a_gradient(head):
    model = build(head)
    if head == 'CrossMambaHead':  # its gate is zero at the start
        for p in model.head.fusion.parameters():
            torch.nn.init.normal_(p, std=0.1)
    losses_of(model)['loss'].backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert not missing


@pytest.mark.parametrize('head', HEADS)
def test_it_learns(head):
    """The captions find clips of their colour within a few steps."""
    few = dict(num_candidates=4) if head == 'CrossMambaHead' else {}
    model = build(head, **few)
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    for _ in range(20):
        model.train_step(batch(range(16)), optim)
    model.eval()
    samples = model.val_step(batch(range(16)))
    similarity = cosines(samples)
    assert colours_found(similarity) > 0.9
    if head == 'CrossMambaHead':
        assert samples[0].video_tokens.shape == (FRAMES, 1, 32)
        scores = all_pairs(model, samples)
        assert colours_found(scores) > 0.9
        # the second judgement has learned something of its own
        assert not torch.allclose(scores, similarity, atol=1e-3)


def cosines(samples):
    video, text = (
        torch.stack([getattr(s, f'{name}_feat') for s in samples])
        for name in ('video', 'text'))
    return text @ video.t()


def colours_found(similarity):
    right = similarity.argmax(dim=1) // 4 == torch.arange(16) // 4
    return right.float().mean()


def all_pairs(model, samples):
    rows = []
    for s in samples:
        n = len(samples)
        rows.append(
            model.head.score(
                torch.stack([o.video_tokens for o in samples]),
                s.text_state.expand(n, -1, -1, -1), s.text_feat.expand(n, -1)))
    return torch.stack(rows).detach()


def test_a_new_fusion_changes_nothing():
    model = build('CrossMambaHead').eval()
    samples = model.test_step(batch(range(5)))
    torch.testing.assert_close(all_pairs(model, samples), cosines(samples))


@pytest.mark.parametrize('visual', ['frames', 'patches'])
def test_second_loss_is_over_all_candidates(visual):
    """With as many candidates as samples it is plain contrast of scores."""
    model = build('CrossMambaHead', visual=visual, num_candidates=9)
    for p in model.head.fusion.parameters():
        torch.nn.init.normal_(p, std=0.3)
    losses = losses_of(model, range(5))
    model.eval()
    scores = all_pairs(model, model.test_step(batch(range(5)))) / 0.07
    target = torch.arange(5)
    expected = (F.cross_entropy(scores, target) +
                F.cross_entropy(scores.t(), target)) / 2
    torch.testing.assert_close(
        losses['rerank'], expected, atol=1e-4, rtol=1e-4)
    assert losses['loss'] == losses['nce'] + losses['rerank']


def test_each_query_meets_its_hardest_candidates():
    """Of two candidates one is right, the other the nearest wrong one."""
    model = build('CrossMambaHead', num_candidates=2)
    for p in model.head.fusion.parameters():
        torch.nn.init.normal_(p, std=0.3)
    losses = losses_of(model, range(5))
    model.eval()
    samples = model.test_step(batch(range(5)))
    coarse, scores = cosines(samples), all_pairs(model, samples) / 0.07
    coarse.fill_diagonal_(-1)
    expected = 0.
    for found, judged in ((coarse, scores), (coarse.t(), scores.t())):
        wrong = judged.gather(1, found.argmax(1, keepdim=True))[:, 0]
        expected += F.softplus(wrong - judged.diagonal()).mean() / 2
    torch.testing.assert_close(
        losses['rerank'], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('head', HEADS)
def test_autocast_compares_in_float32(head):
    model = build(head)
    data = model.data_preprocessor(batch(range(6)), True)
    model.head.logit_scale.data.fill_(math.log(100))
    with torch.autocast('cpu', torch.bfloat16):
        video, text = model(**data, mode='tensor')
        losses = model(**data, mode='loss')
    assert video.dtype == text.dtype == torch.float32
    nce = losses.get('nce', losses['loss'])
    torch.testing.assert_close(nce, expected_nce(video, text, 100))
    losses['loss'].backward()


def test_temperature_is_clamped():
    model = build()
    model.head.logit_scale.data.fill_(10.)
    losses = losses_of(model)
    assert losses['logit_scale'].item() == pytest.approx(100)
    assert model.head.logit_scale.item() == pytest.approx(math.log(100))
    losses['loss'].backward()
    assert model.head.logit_scale.grad is not None


def test_alike_samples_are_no_negatives():
    """A caption or a video that comes twice does not count against itself."""
    model = build()
    data = batch([0, 1, 2])
    data['data_samples'][2].set_field('colour 0 course 0', 'caption')
    data = model.data_preprocessor(data, True)
    video, text = model(**data, mode='tensor')
    similarity = video @ text.t() / 0.07
    similarity[0, 2] = similarity[2, 0] = -torch.inf
    target = torch.arange(3)
    expected = (F.cross_entropy(similarity, target) +
                F.cross_entropy(similarity.t(), target)) / 2
    loss = model(**data, mode='loss')['loss']
    torch.testing.assert_close(loss, expected)
    model.head.ignore_same = False
    assert not torch.isclose(model(**data, mode='loss')['loss'], expected)


def test_order_of_frames_matters_to_the_sequence_head():
    model = build('SequenceHead').eval()
    torch.nn.init.normal_(model.head.frame_pos_embed)
    patches = torch.randn(1, FRAMES, 16, 32)
    a, b = (model.head.encode_video(x) for x in (patches, patches.flip(1)))
    assert not torch.allclose(a, b, atol=1e-3)
    assert model.head.encode_video(patches[:, :3]).shape == (1, 24)


def test_copies_are_independent():
    model = build('CrossMambaHead')
    other = copy.deepcopy(model)
    torch.testing.assert_close(
        losses_of(model)['loss'],
        losses_of(other)['loss'])


@pytest.mark.parametrize('change, error, message', [
    (dict(type='transmamba_mm.VisionMamba'), ValueError, 'take clips'),
    (dict(num_frames=None), ValueError, 'num_frames'),
])
def test_backbone_must_take_clips(change, error, message):
    cfg = retrieval_cfg()
    if 'type' in change:
        for key in ('num_frames', 'tubelet_size'):
            cfg['backbone'].pop(key)
    cfg['backbone'].update(change)
    with pytest.raises(error, match=message):
        MODELS.build(cfg)


def test_missing_text_is_named():
    model = build()
    data = batch([0])
    del data['data_samples'][0].text
    with pytest.raises(KeyError, match="video '0'.*tokenising"):
        model.val_step(data)


@pytest.mark.parametrize('kwargs, message', [
    (dict(head='CrossMambaHead', visual='x'), 'head.visual'),
    (dict(head='CrossMambaHead', num_candidates=1), 'num_candidates'),
    (dict(head='SequenceHead', num_heads=7), 'num_heads=7'),
    (dict(init_scale=200.), 'init_scale'),
])
def test_bad_head_is_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
