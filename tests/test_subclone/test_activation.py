"""Importance by mean activation."""
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmpretrain.registry import MODELS

from tests.toy import vit_cfg
from transmamba_mm.models import MMPretrainTeacher
from transmamba_mm.subclone import activation_scores, read_teacher
from .toys import clone, student


@pytest.fixture
def built(tmp_path):
    """A teacher of width 48 with 3 layers, and its canonical weights."""
    torch.manual_seed(0)
    model = MODELS.build(vit_cfg(48, 3))
    model.init_weights()
    for name, p in model.named_parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.1)
    torch.save(model.state_dict(), tmp_path / 'vit.pth')
    teacher = MMPretrainTeacher(vit_cfg(48, 3), str(tmp_path / 'vit.pth'))
    return teacher, read_teacher(model.state_dict())


class Text(torch.nn.Module):
    """A teacher of text, faked: its one layer shows the words' numbers."""
    layer_name, depth, model = 'layer{}', 1, torch.nn.Identity()

    def record(self, inputs, names):
        return {names[0]: inputs['input_ids'].float()}


def batches(count=3):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, 3, 16, 16, generator=generator)] * count


def test_scores_are_mean_absolute_activations(built):
    teacher, source = built
    scores = activation_scores(teacher, batches(), source)
    assert set(scores) == {
        'residual',
        *(f'layers.{i}.{p}' for i in range(3) for p in ('inner', 'mlp'))
    }
    names = [f'backbone.layers.{i}' for i in range(3)]
    seen = teacher.record(batches()[0], names)
    want = [seen[n].double().abs().mean((0, 1)) for n in names]
    want = torch.stack([w / w.mean() for w in want]).mean(0)
    torch.testing.assert_close(scores['residual'], want)
    hidden = 'backbone.layers.1.ffn.layers.0'
    want = teacher.record(batches()[0], [hidden])[hidden]
    want = want.double().abs().mean((0, 1))
    torch.testing.assert_close(scores['layers.1.mlp'], want / want.mean())
    proj = 'backbone.layers.1.attn.proj'
    out = teacher.record(batches()[0], [proj])[proj]
    weight = source['layers.1.o.weight']
    fed = torch.linalg.solve(weight, (out - source['layers.1.o.bias']).mT)
    want = fed.double().abs().mean((0, 2))
    torch.testing.assert_close(
        scores['layers.1.inner'], want / want.mean(), rtol=1e-3, atol=1e-3)


def test_units_that_never_act_are_dropped(built, tmp_path):
    """Large weights do not help hidden units that are always off."""
    teacher, source = built
    off = torch.arange(0, 96, 4)
    for i, layer in enumerate(teacher.model.backbone.layers):
        layer.ffn.layers[0][0].bias.data[off] = -100.
        layer.ffn.layers[0][0].weight.data[off] *= 5.
        source[f'layers.{i}.fc1.bias'][off] = -100.
        source[f'layers.{i}.fc1.weight'][off] *= 5.
    target, layout = student()
    for i in range(3):
        target[f'layers.{i}.mlp.fc1.weight'] = torch.zeros(72, 32)
    scores = activation_scores(teacher, batches(), source)
    new, _, _ = clone(source, (target, layout), activations=scores)
    kept = [j for j in range(96) if j not in off]
    residual = scores['residual'].argsort(descending=True)[:32].sort().values
    for i in range(3):
        assert torch.equal(new[f'layers.{i}.mlp.fc1.weight'],
                           source[f'layers.{i}.fc1.weight'][kept][:, residual])
    assert torch.equal(new['cls_token'], source['cls_token'][..., residual])
    by_size, _, _ = clone(source, (target, layout))
    assert not torch.equal(new['cls_token'], by_size['cls_token'])


def test_the_model_is_left_as_it_was(built):
    teacher, source = built
    activation_scores(teacher, batches(), source)
    assert not any(m._forward_pre_hooks or m._forward_hooks
                   for m in teacher.modules())


def test_layers_with_equal_weights_are_told_apart(built):
    teacher, source = built
    source = dict(source)
    teacher.model.backbone.layers[2].attn.proj.weight.data.copy_(
        source['layers.0.o.weight'])
    source['layers.2.o.weight'] = source['layers.0.o.weight']
    scores = activation_scores(teacher, batches(), source)
    assert not torch.allclose(scores['layers.0.inner'],
                              scores['layers.2.inner'])


def test_masked_tokens_do_not_count(built):
    inputs = dict(
        input_ids=torch.tensor([[[1, -3], [90, 7]]]),
        attention_mask=torch.tensor([[1, 0]]))
    scores = activation_scores(Text(), [inputs, inputs])
    assert scores['residual'].tolist() == [0.5, 1.5]


def test_teacher_in_low_precision_is_recognised(built):
    teacher, source = built
    want = set(activation_scores(teacher, batches(), source))
    teacher.bfloat16()
    images = [x.bfloat16() for x in batches()]
    assert set(activation_scores(teacher, images, source)) == want


def test_what_cannot_be_scored(built):
    teacher, source = built
    with pytest.raises(ValueError, match='importance_batches'):
        activation_scores(teacher, [], source)
    with pytest.raises(ValueError, match='not finite'):
        activation_scores(teacher, [batches()[0] * float('nan')], source)
    other = {k: v + 1 for k, v in source.items()}
    assert set(activation_scores(teacher, batches(), other)) == {'residual'}


def score_a_share(rank, port, folder):
    """What each of two processes does: other batches, of other sizes."""
    dist.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    words = [
        torch.tensor([[[6., 0., 0.]]]),
        torch.tensor([[[0., 3., 3.], [0., 3., 0.]]])
    ][rank]
    scores = activation_scores(Text(), [dict(input_ids=words)])
    torch.save(scores, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def test_all_processes_get_the_scores_of_all_data(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    mp.spawn(score_a_share, (port, str(tmp_path)), nprocs=2)
    want = torch.tensor([6., 6., 3.]).double() / 5
    for rank in range(2):
        scores = torch.load(tmp_path / f'{rank}.pth')
        torch.testing.assert_close(scores['residual'], want)
