"""One distillation step of each family, against a ViT of another size."""
import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from tests.toy import student_cfg, vit_cfg
from transmamba_mm.models import MMPretrainTeacher, match_tokens

FAMILIES = ['PlainMamba', 'VideoMamba', 'VisionMamba', 'VMamba']


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A ViT of width 48 with 6 layers; the students have 32 and 3."""
    torch.manual_seed(0)
    model = MODELS.build(vit_cfg())
    model.init_weights()
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    path = tmp_path_factory.mktemp('teacher') / 'vit.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return MMPretrainTeacher(vit_cfg(), str(path))


def make(family, teacher, **distiller):
    torch.manual_seed(1)
    model = MODELS.build(student_cfg(family, distiller=distiller))
    model.init_weights()
    model.attach_teacher(teacher)
    return model.train()


def batch(model):
    torch.manual_seed(2)
    images = [torch.randint(0, 255, (3, 16, 16)).float() for _ in range(4)]
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    return model.data_preprocessor(
        dict(inputs=images, data_samples=samples), True)


@pytest.mark.parametrize(
    'options', [
        dict(),
        dict(features='block'),
        dict(variant='paper_v1'),
        dict(variant='released_code'),
        dict(logit_weight=0.5, aligner=dict(mode='mlp')),
    ],
    ids=lambda o: '-'.join(map(str, o)) or 'default')
@pytest.mark.parametrize('family', FAMILIES)
def test_distillation_step(family, teacher, options):
    model = make(family, teacher, **options)
    data = batch(model)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4)
    totals, cosines = [], []
    for _ in range(4):
        losses = model(**data, mode='loss')
        terms = {k: v for k, v in losses.items() if 'loss' in k}
        total = sum(terms.values())
        optimizer.zero_grad()
        total.backward()
        assert all(torch.isfinite(v) for v in losses.values())
        still = [n for n, p in model.named_parameters() if p.grad is None]
        assert not still
        optimizer.step()
        totals.append(total.item())
        cosines += [v.item() for k, v in losses.items() if 'cos_mean' in k]
    # the weights of the layers move, and the loss with them; the literal
    # double sum does not even raise the cosines
    if not cosines:
        assert totals[-1] < totals[0]
    elif model.distiller.variant != 'paper_v1':
        assert cosines[-1] > cosines[0]
    expected = {'loss_cls'} | ({'distill.loss_logit'}
                               if 'logit_weight' in options else set())
    if model.distiller.use_directions:
        names = model.backbone.direction_names
        expected |= {f'distill.loss_{n}' for n in names}
    else:
        expected |= {'distill.loss_feat'}
    assert set(terms) == expected


def test_every_stage_meets_the_teachers_grid(teacher):
    """VMamba: 16, 8 and 4 tokens a side, and own projections."""
    model = make('VMamba', teacher, log_layers=True)
    widths = [p.in_features for p in model.distiller.aligner.projections]
    assert widths == [8, 16, 32]
    assert model.distiller.layer_map == (1, 3, 5)
    assert model.distiller.student_names('n', 'h') == [
        f'backbone.layers.{i}.blocks.0.direction_tap' for i in range(3)
    ]
    students, teachers = model._layouts((16, 16))
    assert [x.grid for x in students] == [(16, 16), (8, 8), (4, 4)]
    assert [x.grid for x in teachers] == [(4, 4)] * 3
    losses = model(**batch(model), mode='loss')
    assert {f'distill.cos_l{i:02d}' for i in range(3)} <= set(losses)


def test_student_that_shows_the_teachers_features_has_no_loss(teacher):
    """Tokens and layers of all stages are matched at the right places."""
    model = make('VMamba', teacher)
    distiller = model.distiller
    students, teachers = model._layouts((16, 16))
    shown = torch.randn(2, 17, 48)
    feats = []
    for student, layer, seen in zip(students, distiller.aligner.projections,
                                    teachers):
        layer.weight.data.copy_(torch.randn_like(layer.weight))
        _, target = match_tokens(
            torch.zeros(4, 2, student.num_tokens, layer.in_features), shown,
            student, seen)
        # least squares: a feature whose projection is nearest the target
        feats.append((target @ torch.linalg.pinv(layer.weight).T)[None].repeat(
            4, 1, 1, 1))
    terms = distiller(feats, [shown] * 3, students, teachers)
    # 8, 16 and 32 of 48 dimensions can be reached
    assert 0.3 < terms['cos_min'] < terms['cos_max'] < 1
    torch.testing.assert_close(
        terms['cos_max'], torch.tensor((32 / 48)**0.5), atol=0.05, rtol=0)
    torch.testing.assert_close(
        terms['cos_min'], torch.tensor((8 / 48)**0.5), atol=0.06, rtol=0)


def test_paths_of_the_student_can_be_given(teacher):
    paths = [f'backbone.layers.{i}.blocks.0' for i in (0, 1, 2)]
    model = make('VMamba', teacher, student_layers=paths, features='block')
    assert model.distiller.student_names('n', 'h') == paths
    with pytest.raises(ValueError, match='student_layers has 2 paths'):
        make('VMamba', teacher, student_layers=paths[:2])
