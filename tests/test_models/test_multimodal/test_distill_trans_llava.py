"""DistillTransLlava: what is compared with the teacher, and bad input."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transmamba_mm.models.losses import (logit_distillation_loss,
                                         vocabulary_distillation_loss)
from transmamba_mm.registry import MODELS
from .toy_llava import make_batch, make_tokenizer, model_cfg

NAME = 'language_model.backbone.layers.{}'
TAUGHT = 'language_model.model.layers.{}'


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp('tokenizer'))


def teacher_of(cfg, folder, **kwargs):
    torch.manual_seed(3)
    model = MODELS.build(cfg)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    path = str(folder / 'teacher.pth')
    torch.save(dict(state_dict=model.state_dict()), path)
    return MODELS.build(
        dict(
            type='transmamba_mm.LlavaTeacher',
            config=cfg,
            checkpoint=path,
            **kwargs))


def student_of(tokenizer,
               kind='mamba',
               distiller=None,
               language=None,
               **kwargs):
    torch.manual_seed(0)
    cfg = model_cfg(tokenizer, kind, language, freeze=())
    cfg.update(
        type='transmamba_mm.DistillTransLlava',
        distiller={
            'type': 'transmamba_mm.BidirectionalDistiller',
            'teacher_dims': 32,
            'teacher_depth': 2,
            **(distiller or {})
        },
        **kwargs)
    return MODELS.build(cfg).train()


@pytest.fixture
def pair(tokenizer, tmp_path):
    student = student_of(tokenizer)
    teacher = teacher_of(
        model_cfg(tokenizer, 'llama'), tmp_path, dtype='float32')
    student.attach_teacher(teacher)
    return student, teacher


def features(model, batch, path):
    """Outputs of both layers of a language model, at real tokens."""
    outs = []
    handles = [
        model.get_submodule(path.format(i)).register_forward_hook(
            lambda m, a, out: outs.append(out[0]
                                          if isinstance(out, tuple) else out))
        for i in range(2)
    ]
    merged = model.embed(**batch)
    hidden = model.hidden_states(merged).last_hidden_state
    for handle in handles:
        handle.remove()
    return [x[merged.mask] for x in outs], hidden, merged


def test_terms_are_those_of_real_tokens(pair):
    student, teacher = pair
    batch = make_batch(student)
    losses = student(**batch, mode='loss')
    assert student._batch is None
    own, hidden, merged = features(student, batch, NAME)
    told, shown, _ = features(teacher.model, batch, TAUGHT)
    cosines = torch.stack([
        F.cosine_similarity(layer(a), b, dim=-1).mean() for layer, a, b in zip(
            student.distiller.aligner.projections, own, told)
    ])
    torch.testing.assert_close(losses['distill.cos_mean'], cosines.mean())
    torch.testing.assert_close(losses['distill.cos_max'], cosines.max())
    learnt = merged.labels[:, 1:] != -100
    expected = logit_distillation_loss(
        student.logits(hidden[:, :-1][learnt]),
        teacher.model.logits(shown[:, :-1][learnt]), 1.)
    torch.testing.assert_close(losses['distill.loss_answer'], expected)
    plain = student.answer_loss(hidden, merged.labels)
    torch.testing.assert_close(losses['loss_cls'], plain)


def test_padding_is_not_compared(pair):
    student, _ = pair
    one = make_batch(student, [0], [''])
    losses = student(**one, mode='loss')
    more = make_batch(student, [0], [''])
    for key, value in (('input_ids', 0), ('attention_mask', False), ('labels',
                                                                     -100)):
        more['inputs'][key] = F.pad(more['inputs'][key], (0, 5), value=value)
    for key, value in student(**more, mode='loss').items():
        torch.testing.assert_close(value, losses[key], msg=key)


def test_every_parameter_learns_and_the_teacher_stays(pair):
    student, teacher = pair
    student.distiller.task_weight = 0.  # the random teacher knows no answer
    before = [p.clone() for p in teacher.parameters()]
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    batch, seen = make_batch(student), []
    for _ in range(25):
        losses = student(**batch, mode='loss')
        total = sum(v for k, v in losses.items() if 'loss' in k)
        optimizer.zero_grad()
        total.backward()
        assert all(p.grad is not None for p in student.parameters())
        optimizer.step()
        seen.append({k: float(v.detach()) for k, v in losses.items()})
    for key in ('distill.loss_feat', 'distill.loss_answer'):
        assert seen[-1][key] < 0.8 * seen[0][key], key
    assert seen[-1]['distill.cos_mean'] > seen[0]['distill.cos_mean']
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters()))
    assert not any(k.startswith('teacher') for k in student.state_dict())


def test_teacher_in_bf16_and_other_sizes(tokenizer, tmp_path):
    cfg = model_cfg(tokenizer, 'llama')
    cfg['language_model']['config'].update(
        hidden_size=48, num_hidden_layers=3, tie_word_embeddings=True)
    cfg['data_preprocessor'] = dict(mean=[0.] * 3, std=[255.] * 3)
    teacher = teacher_of(cfg, tmp_path)
    assert teacher.dtype == torch.bfloat16
    assert {p.dtype for p in teacher.parameters()} == {torch.bfloat16}
    for kind in ('mamba', 'mamba2'):
        student = student_of(
            tokenizer,
            kind,
            dict(teacher_dims=48, teacher_depth=3),
            vocabulary_chunk=7)
        student.attach_teacher(teacher)
        student.attach_teacher(None)
        student.attach_teacher(teacher)
        losses = student(**make_batch(student), mode='loss')
        sum(v for k, v in losses.items() if 'loss' in k).backward()
        assert all(v.isfinite().all() for v in losses.values())
        assert len(student.distiller.layer_map) == 2


def test_answers_of_a_student_need_no_teacher(pair, tokenizer):
    student, _ = pair
    student.attach_teacher(None)
    with pytest.raises(RuntimeError, match='trains without a teacher'):
        student(**make_batch(student), mode='loss')
    student.eval()
    state = student.state_dict()
    plain = MODELS.build(model_cfg(tokenizer, freeze=())).eval()
    result = plain.load_state_dict(state, strict=False)
    assert not result.missing_keys
    assert all(k.startswith('distiller.') for k in result.unexpected_keys)
    batch = make_batch(student, for_answer=True)
    assert torch.equal(student.generate(**batch), plain.generate(**batch))


def test_adapters_and_recomputed_layers_are_distilled_too(tokenizer, pair):
    """Recomputing changes nothing; of adapters, only these learn."""
    student, teacher = pair
    batch = make_batch(student)
    losses = student(**batch, mode='loss')
    student.language_model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs=dict(use_reentrant=False))
    again = student(**batch, mode='loss')
    for key, value in losses.items():
        torch.testing.assert_close(again[key], value, msg=key)
    sum(v for k, v in again.items() if 'loss' in k).backward()
    assert all(p.grad is not None for p in student.parameters())
    pytest.importorskip('peft')
    adapted = student_of(tokenizer, language=dict(lora=dict(r=2)))
    adapted.attach_teacher(teacher)
    losses = adapted(**batch, mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    learnt = {
        n
        for n, p in adapted.named_parameters()
        if n.startswith('language_model.') and p.grad is not None
    }
    assert learnt and all('lora_' in name for name in learnt)


@pytest.mark.parametrize('temperature, chunk', [(1., 7), (2., 100), (1., 40)])
def test_chunks_give_the_divergence_of_the_whole(temperature, chunk):
    torch.manual_seed(0)
    heads = nn.Linear(6, 40, bias=False), nn.Linear(10, 40)
    hidden = [torch.randn(5, 6, requires_grad=True), torch.randn(5, 10)]
    loss = vocabulary_distillation_loss(hidden[0], heads[0], hidden[1],
                                        heads[1], temperature, chunk)
    loss.backward()
    got = hidden[0].grad, heads[0].weight.grad
    hidden[0].grad = heads[0].weight.grad = None
    whole = logit_distillation_loss(heads[0](hidden[0]),
                                    heads[1](hidden[1]).detach(), temperature)
    whole.backward()
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(got, (hidden[0].grad, heads[0].weight.grad))
    assert heads[1].weight.grad is None
    empty = vocabulary_distillation_loss(hidden[0][:0], heads[0],
                                         hidden[1][:0], heads[1], 1., chunk)
    assert empty == 0


class LargestTensor(torch.overrides.TorchFunctionMode):
    """Note the largest tensor with a gradient that a function returns."""

    size = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.size = max(self.size, out.numel())
        return out


def test_logits_are_never_whole():
    heads = [nn.Linear(4, 1000, bias=False) for _ in range(2)]
    hidden = [torch.randn(50, 4, requires_grad=True) for _ in range(2)]
    with LargestTensor() as largest:
        vocabulary_distillation_loss(hidden[0], heads[0], hidden[1], heads[1],
                                     1., 100).backward()
    assert 0 < largest.size <= 50 * 100


@pytest.mark.parametrize('options, message', [
    (dict(answer_weight=-1), 'model.answer_weight=-1'),
    (dict(vocabulary_chunk=0), 'model.vocabulary_chunk=0'),
    (dict(distiller=dict(logit_weight=1.)), 'use model.answer_weight'),
    (dict(distiller=dict(features='directions')), 'one direction'),
    (dict(distiller=dict(layer_map='cka')), 'for images alone'),
])
def test_bad_arguments_are_explained(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        student_of(tokenizer, **options)


def test_students_that_are_no_mamba_are_refused(tokenizer):
    with pytest.raises(ValueError, match='is a llama'):
        student_of(tokenizer, 'llama')


def test_teachers_that_do_not_fit_are_refused(tokenizer, tmp_path, pair):
    student, teacher = pair
    cfg = model_cfg(tokenizer, 'llama')
    cfg['language_model']['config']['vocab_size'] += 1
    other = teacher_of(cfg, tmp_path, dtype='float32')
    with pytest.raises(ValueError, match='has .* words and the student'):
        student.attach_teacher(other)
    teacher.model.vocabulary += 1
    with pytest.raises(ValueError, match='different tokenizers'):
        student.attach_teacher(teacher)
    with pytest.raises(TypeError, match='images with texts'):
        teacher.record(torch.rand(1, 3, 16, 16), [])
    coarse = model_cfg(tokenizer, 'llama')
    coarse['vision_tower']['backbone']['patch_size'] = 16
    other = teacher_of(coarse, tmp_path, dtype='float32')
    student.attach_teacher(other)
    with pytest.raises(ValueError, match='as many tokens of an image'):
        student(**make_batch(student), mode='loss')
