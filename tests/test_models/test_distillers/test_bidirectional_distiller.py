"""The distiller: which features meet, and how the terms are named."""
import pytest
import torch

from transmamba_mm.models import (BidirectionalDistiller, TokenLayout,
                                  match_tokens)

VIT = TokenLayout((2, 2), 1, 0)


def make(**kwargs):
    torch.manual_seed(0)
    cfg = dict(
        teacher_dims=6,
        teacher_depth=2,
        student_dims=4,
        student_depth=2,
        directions=('forward', 'backward'))
    return BidirectionalDistiller(**{**cfg, **kwargs})


def run(distiller, layout=VIT, lead=(2, ), **kwargs):
    torch.manual_seed(1)
    student = [torch.randn(*lead, 3, layout.num_tokens, 4) for _ in range(2)]
    teacher = [torch.randn(3, 5, 6) for _ in range(2)]
    return distiller(student, teacher, [layout] * 2, [VIT] * 2)


def test_each_direction_has_its_term():
    terms = run(make())
    assert {k for k in terms if 'loss' in k} == \
        {'loss_forward', 'loss_backward'}
    assert terms['loss_forward'] != terms['loss_backward']
    assert all(f'{n}_{s}' in terms for n in ('cos', 'weight')
               for s in ('mean', 'min', 'max'))


def test_block_features_have_one_term():
    terms = run(make(features='block'), lead=())
    assert {k for k in terms if 'loss' in k} == {'loss_feat'}


def test_layers_are_logged_on_request():
    assert 'cos_l01' not in run(make())
    assert 'cos_l01' in run(make(log_layers=True))


def test_alpha_beta_and_progress_scale_the_terms():
    full = run(make())['loss_forward']
    distiller = make(alpha=2.5, beta=0.5)
    assert distiller.task_weight == 0.5
    torch.testing.assert_close(run(distiller)['loss_forward'], 2.5 * full)
    distiller.progress = 0.2
    terms = run(distiller)
    torch.testing.assert_close(terms['loss_forward'], 0.5 * full)
    torch.testing.assert_close(terms['cos_mean'], run(make())['cos_mean'])


def test_paper_v1_shares_one_weight_between_task_and_features():
    distiller = make(variant='paper_v1', alpha=0.3)
    assert distiller.task_weight == 0.3
    assert distiller.feature_weight == pytest.approx(0.7)
    assert make(variant='paper_v1').task_weight == 0.5
    with pytest.raises(ValueError, match=r'distiller\.alpha=2'):
        make(variant='paper_v1', alpha=2)


def test_released_code_uses_the_last_norm_and_pooled_blocks():
    distiller = make(variant='released_code', student_depth=3)
    assert distiller.student_names('backbone.norm_f', 'head') == [
        'backbone.layers.0', 'backbone.layers.1', 'backbone.norm_f'
    ]
    assert distiller.teacher_names('backbone.layers.{}', 'backbone.ln1',
                                   'head') == ['backbone.ln1']


def test_released_code_equals_the_formula_at_equal_width():
    distiller = make(variant='released_code', student_dims=6)
    torch.manual_seed(2)
    student = [torch.randn(3, 5, 6) for _ in range(2)]
    teacher = torch.randn(3, 5, 6)
    terms = distiller(student, [teacher], [VIT] * 2, [VIT])
    target = (teacher[:, 0] / 2).softmax(-1)

    def cross_entropy(tokens):
        pooled = tokens[:, 1:].mean(1)
        return -(target * (pooled / 2).log_softmax(-1)).sum(-1).mean()

    want = 120 * cross_entropy(student[1]) + cross_entropy(student[0])
    torch.testing.assert_close(terms['loss_feat'], want)


def test_logit_term_needs_the_heads():
    distiller = make(logit_weight=0.5, features='block')
    assert distiller.student_names('n', 'head')[-1] == 'head'
    assert distiller.teacher_names('l.{}', 'n', 'fc')[-1] == 'fc'
    student = [torch.randn(3, 5, 4)] * 2 + [torch.zeros(3, 10)]
    teacher = [torch.randn(3, 5, 6)] * 2 + [torch.randn(3, 10)]
    terms = distiller(student, teacher, [VIT] * 2, [VIT] * 2)
    assert terms['loss_logit'] > 0


def test_every_parameter_is_touched_in_each_variant():
    for kwargs in (dict(), dict(variant='paper_v1'),
                   dict(variant='released_code'),
                   dict(variant='released_code', student_dims=6)):
        distiller = make(**kwargs)
        width = kwargs.get('student_dims', 4)
        lead = () if 'released_code' in kwargs.values() else (2, )
        student = [torch.randn(*lead, 3, 5, width)] * 2
        teacher = [torch.randn(3, 5, 6)] * (1 if not lead else 2)
        terms = distiller(student, teacher, [VIT] * 2, [VIT] * 2)
        sum(v for k, v in terms.items() if 'loss' in k).backward()
        assert all(p.grad is not None for p in distiller.parameters())
    distiller = make()
    loss = distiller.idle_terms()['loss_idle']
    loss.backward()
    assert loss == 0
    assert all(p.grad.eq(0).all() for p in distiller.parameters())


def test_teacher_class_token_moves_to_the_students_place():
    vim = TokenLayout((2, 2), 1, 2)
    teacher = torch.arange(5.).reshape(1, 5, 1)  # class token is 0
    student, matched = match_tokens(torch.zeros(1, 5, 1), teacher, vim, VIT)
    assert matched.flatten().tolist() == [1, 2, 0, 3, 4]


def test_teacher_tokens_without_a_counterpart_are_dropped():
    distilled = TokenLayout((2, 2), 2, 0)  # class and distillation token
    teacher = torch.arange(6.).reshape(1, 6, 1)
    plain = TokenLayout((2, 2))
    _, matched = match_tokens(torch.zeros(1, 4, 1), teacher, plain, distilled)
    assert matched.flatten().tolist() == [2, 3, 4, 5]
    vim = TokenLayout((2, 2), 1, 2)
    _, matched = match_tokens(torch.zeros(1, 5, 1), teacher, vim, distilled)
    assert matched.flatten().tolist() == [2, 3, 0, 4, 5]
    # a teacher without class token: the student's is dropped, last axes kept
    student = torch.arange(10.).reshape(2, 1, 5, 1)
    got, matched = match_tokens(student, teacher[:, :4], vim, plain)
    assert got[0].flatten().tolist() == [0, 1, 3, 4]
    assert matched.shape == (1, 4, 1)


def test_teacher_grid_is_resized_as_a_picture():
    teacher = torch.zeros(1, 16, 1)
    teacher[0, :8] = 1.  # upper half of a 4 x 4 grid
    _, matched = match_tokens(
        torch.zeros(1, 4, 1), teacher, TokenLayout((2, 2)), TokenLayout(
            (4, 4)))
    assert matched.flatten().tolist() == [1, 1, 0, 0]


def test_wrong_token_count_is_an_error():
    with pytest.raises(ValueError, match='4 tokens found.*5'):
        match_tokens(torch.zeros(1, 5, 1), torch.zeros(1, 4, 1), VIT, VIT)


@pytest.mark.parametrize('kwargs, message', [
    (dict(variant='v3'), r"distiller\.variant='v3'"),
    (dict(features='pixels'), r"distiller\.features='pixels'"),
    (dict(temperature=0), r'distiller\.temperature=0'),
    (dict(layer_map=[0]), r'distiller\.layer_map has 1'),
])
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_each_term_belongs_to_its_direction():
    """A teacher that equals the forward features leaves nothing to learn
    there, and only there."""
    distiller = make(student_dims=6)
    torch.manual_seed(3)
    student = [torch.randn(2, 3, 5, 6) for _ in range(2)]
    teacher = [x[0] for x in student]
    terms = distiller(student, teacher, [VIT] * 2, [VIT] * 2)
    assert terms['loss_forward'].abs() < 1e-5
    assert terms['loss_backward'] > 0.1


def test_each_layer_meets_the_teacher_layer_of_the_map():
    distiller = make(student_dims=6, features='block', layer_map=[1, 0])
    assert distiller.teacher_names('backbone.layers.{}', 'n', 'head') == [
        'backbone.layers.1', 'backbone.layers.0'
    ]
    teacher = [torch.randn(3, 5, 6) for _ in range(2)]
    student = [x.clone() for x in teacher]
    terms = distiller(student, teacher, [VIT] * 2, [VIT] * 2)
    assert terms['loss_feat'].abs() < 1e-5
    terms = distiller(student[::-1], teacher, [VIT] * 2, [VIT] * 2)
    assert terms['loss_feat'] > 0.1


@pytest.mark.parametrize('student, teacher, key', [
    ((torch.zeros(3, 5, 4), None), torch.zeros(3, 5, 6), 'student_layers'),
    (torch.zeros(3, 5, 8), torch.zeros(3, 5, 6), 'student_layers'),
    (torch.zeros(3, 5, 4), torch.zeros(3, 5, 18), 'teacher_layers'),
    (torch.zeros(3, 4), torch.zeros(3, 5, 6), 'student_layers'),
])
def test_records_that_are_no_features_are_named(student, teacher, key):
    with pytest.raises(ValueError, match=key):
        make(features='block')([student] * 2, [teacher] * 2, [VIT] * 2,
                               [VIT] * 2)


def test_directions_weigh_as_much_as_one_block():
    teacher = [torch.randn(3, 5, 6) for _ in range(2)]
    student = [x.clone().flip(-1) for x in teacher]
    block = make(student_dims=6, features='block')
    both = make(student_dims=6)
    one = block(student, teacher, [VIT] * 2, [VIT] * 2)
    two = both([torch.stack([x, x]) for x in student], teacher, [VIT] * 2,
               [VIT] * 2)
    total = sum(v for k, v in two.items() if 'loss' in k)
    torch.testing.assert_close(total, one['loss_feat'])
