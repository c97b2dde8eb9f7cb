"""TransLlava: placement of images, loss, answers, parts, bad input."""
import copy

import pytest
import torch
import torch.nn.functional as F

from transmamba_mm.models.multimodal.image_text import IGNORE_INDEX, read_texts
from .toy_llava import (ANSWERS, build, collate, image_places, make_batch,
                        make_sample, make_tokenizer)

KINDS = ('mamba', 'mamba2', 'llama')
PATCHES = 4


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp('tokenizer'))


def train(model, batch, steps, until=0.):
    model.train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        loss = model(**batch, mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < until:
            break
    model.eval()
    return float(loss.detach())


def answers_of(model, batch, **kwargs):
    samples = model.predict(**copy.deepcopy(batch), **kwargs)
    return [sample.pred_answer for sample in samples]


def test_visual_tokens_stand_where_the_image_token_was(tokenizer):
    model = build(tokenizer)
    batch = make_batch(model)
    inputs = batch['inputs']
    merged = model.embed(**batch)
    visual = model.projector(model.vision_tower(inputs['images']))
    table = model.language_model.get_input_embeddings()
    for i, mask in enumerate(inputs['attention_mask']):
        ids, labels = (inputs[k][i][mask] for k in ('input_ids', 'labels'))
        (place, ) = image_places(ids)
        length = len(ids) + PATCHES - 1
        is_visual = merged.is_visual[i].nonzero().flatten().tolist()
        assert is_visual == list(range(place, place + PATCHES))
        row, target = merged.embeddings[i], merged.labels[i]
        assert torch.equal(row[:place], table(ids[:place]))
        assert torch.equal(row[place:place + PATCHES], visual[i])
        assert torch.equal(row[place + PATCHES:length], table(ids[place + 1:]))
        assert (target[place:place + PATCHES] == IGNORE_INDEX).all()
        assert torch.equal(target[place + PATCHES:length], labels[place + 1:])
        assert merged.mask[i].tolist() == [t < length for t in range(len(row))]
        learnt = tokenizer.decode(target[target != IGNORE_INDEX])
        assert learnt == f' {ANSWERS[i]}{tokenizer.eos_token}'


@pytest.mark.parametrize('kind', KINDS)
def test_loss_is_the_mean_over_learnt_tokens(tokenizer, kind):
    model = build(tokenizer, kind, freeze=())
    batch = make_batch(model)
    loss = model(**batch, mode='loss')['loss']
    logits = model(**batch, mode='tensor')
    labels = model.embed(**batch).labels
    assert logits.shape[:2] == labels.shape
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1),
                               labels[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_loss_does_not_see_the_padding(tokenizer):
    model = build(tokenizer)
    losses = [
        model(**make_batch(model, [a], [e]), mode='loss')['loss']
        for a, e in ((0, ''), (1, ' please'))
    ]
    both = model(**make_batch(model, [0, 1]), mode='loss')['loss']
    torch.testing.assert_close(both, sum(losses) / 2)


def test_batch_without_answers_gives_no_loss(tokenizer):
    model = build(tokenizer)
    batch = make_batch(model)
    batch['inputs']['labels'].fill_(IGNORE_INDEX)
    loss = model(**batch, mode='loss')['loss']
    loss.backward()
    assert loss == 0


@pytest.mark.parametrize('kind, fusion', [('mamba', None),
                                          ('mamba', dict(d_state=4)),
                                          ('mamba2', None), ('llama', None)])
def test_it_learns_to_see(tokenizer, kind, fusion):
    model = build(tokenizer, kind, freeze=(), fusion=fusion)
    same = ('', ) * 4
    assert train(model, make_batch(model, extras=same), 200, until=0.05) < 0.05
    batch = make_batch(model, extras=same, for_answer=True)
    assert answers_of(model, batch) == list(ANSWERS)
    assert answers_of(model, batch, num_beams=2) == list(ANSWERS)
    single = [
        answers_of(model, make_batch(model, [a], for_answer=True))[0]
        for a in range(4)
    ]
    assert single == list(ANSWERS)
    # the image decides: exchange two of them
    batch['inputs']['images'] = batch['inputs']['images'].flip(0)
    assert answers_of(model, batch) == list(ANSWERS)[::-1]


@pytest.mark.parametrize('kind', KINDS)
def test_batched_answers_equal_single_ones(tokenizer, kind):
    """Of an untrained model, token by token."""
    model = build(tokenizer, kind, freeze=()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    options = dict(min_new_tokens=8, max_new_tokens=8)
    both = model.generate(**make_batch(model, for_answer=True), **options)
    for i, extra in enumerate(('', ' please', '', '')):
        batch = make_batch(model, [i], [extra], for_answer=True)
        assert torch.equal(model.generate(**batch, **options)[0], both[i])


def test_answers_are_not_shown(tokenizer):
    """Texts with labels are cut before their answers."""
    model = build(tokenizer).eval()
    asked, told = (
        model.embed(**make_batch(model, for_answer=cut), for_answer=True)
        for cut in (True, False))
    assert torch.equal(asked.embeddings, told.embeddings)
    assert asked.mask[:, -1].all() and not asked.mask[:, 0].all()


def test_fusion_reads_the_question_and_not_the_answer(tokenizer):
    model = build(tokenizer, fusion=dict(d_state=4)).eval()
    plain = make_batch(model)
    before = model.embed(**plain).embeddings
    for parameter in model.fusion.parameters():  # its gate starts shut
        torch.nn.init.normal_(parameter, std=0.5)
    texts = read_texts(plain['inputs'])
    (place, ) = image_places(texts.ids[0])

    def visual(batch):
        return model.embed(**batch).embeddings[0, place:place + PATCHES]

    seen = visual(plain)
    assert not torch.allclose(seen, before[0, place:place + PATCHES])
    prompt = int(texts.prompts[0])
    other = copy.deepcopy(plain)
    other['inputs']['input_ids'][0, prompt] += 1
    torch.testing.assert_close(visual(other), seen)
    other['inputs']['input_ids'][0, prompt - 4] += 1
    assert not torch.allclose(visual(other), seen)
    # alone or beside a longer question
    alone = visual(make_batch(model, [0]))
    torch.testing.assert_close(alone, seen, rtol=1e-5, atol=1e-6)


def test_stages_of_llava_freeze_parts(tokenizer):
    model = build(tokenizer, freeze=('vision_tower', 'language_model'))
    model.train()
    trained = {
        n.partition('.')[0]
        for n, p in model.named_parameters() if p.requires_grad
    }
    assert trained == {'projector'}
    assert not model.vision_tower.training and model.projector.training
    before = copy.deepcopy(model.state_dict())
    train(model, make_batch(model), 2)
    changed = {
        n.partition('.')[0]
        for n, t in model.state_dict().items()
        if not torch.equal(t, before[n])
    }
    assert changed == {'projector'}
    # the adapter in front of a frozen language model gets its gradient also
    # where layers are computed again
    frozen = build(
        tokenizer,
        freeze=('vision_tower', 'language_model'),
        language=dict(gradient_checkpointing=True))
    frozen.train()
    frozen(**make_batch(frozen), mode='loss')['loss'].backward()
    assert all(p.grad.abs().sum() > 0 for p in frozen.projector.parameters())


def test_initialisation_leaves_loaded_language_models_alone(tokenizer):
    model = build(tokenizer)
    before = copy.deepcopy(model.language_model.state_dict())
    model.init_weights()
    for name, value in model.language_model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_weights_of_the_first_stage_load_into_adapters(tokenizer):
    pytest.importorskip('peft')
    first = build(tokenizer)
    train(first, make_batch(first), 2)
    state = copy.deepcopy(first.state_dict())
    second = build(tokenizer, language=dict(lora=dict(r=2)))
    result = second.load_state_dict(state, strict=False)
    assert all('lora_' in k for k in result.missing_keys)
    assert not result.unexpected_keys
    batch = make_batch(first)
    first.eval(), second.eval()
    torch.testing.assert_close(second(**batch), first(**batch))
    again = copy.deepcopy(second)
    again.load_state_dict(second.state_dict())
    train(second, batch, 2)
    second.train()
    second(**batch, mode='loss')['loss'].backward()


def test_texts_without_image(tokenizer):
    model = build(tokenizer, freeze=())
    samples = [make_sample(tokenizer, a) for a in (0, 1)]
    sample = samples[0]['data_samples']
    keep = sample.input_ids != -200
    sample.input_ids, sample.labels = sample.input_ids[keep], sample.labels[
        keep]
    with pytest.raises(ValueError, match='sample 0 of the batch has 0 image'):
        model(**collate(model, samples), mode='loss')
    sample.set_field(False, 'has_image', dtype=bool)
    model(**collate(model, samples), mode='loss')
    model(**collate(model, samples[:1]), mode='loss')['loss'].backward()
    assert all(p.grad is not None for p in model.vision_tower.parameters())


def test_bad_batches_are_explained(tokenizer):
    model = build(tokenizer, max_length=17)
    batch = make_batch(model)
    batch['data_samples'][1].set_metainfo(dict(img_path='cat.jpg'))
    with pytest.raises(ValueError, match="'cat.jpg' has 20 tokens.*=17"):
        model(**batch, mode='loss')
    model.max_length = None
    batch['inputs']['input_ids'][1, 1] = -200
    with pytest.raises(ValueError, match="'cat.jpg' has 2 image tokens"):
        model(**batch, mode='loss')
    with pytest.raises(KeyError, match='for_answer'):
        model(**make_batch(model, for_answer=True), mode='loss')
    with pytest.raises(RuntimeError, match="mode='train' is unknown"):
        model(**batch, mode='train')
    model.tokenizer = None
    with pytest.raises(ValueError, match='needs model.tokenizer'):
        model.predict({}, [])


@pytest.mark.parametrize('options, message', [
    (dict(projector='mlp3x'), "model.projector='mlp3x' is unknown"),
    (dict(freeze=('vision', )), r"model.freeze has \['vision'\]"),
    (dict(fusion=dict(output='text')), "model.fusion.output='text'"),
])
def test_bad_arguments_are_explained(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        build(tokenizer, **options)


def test_tokenizer_larger_than_the_vocabulary_is_refused(tokenizer):
    from transmamba_mm.registry import MODELS
    from .toy_llava import model_cfg
    cfg = model_cfg(tokenizer)
    cfg['language_model']['config']['vocab_size'] = len(tokenizer) - 1
    with pytest.raises(ValueError, match='tokens and the language model'):
        MODELS.build(cfg)
