"""Subcloning from a LLaMA into the Mamba of a TransLlava."""
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.test_models.test_multimodal.toy_llava import (build, make_batch,
                                                         make_tokenizer,
                                                         model_cfg)
from transmamba_mm.datasets.vqa import build_word_tokenizer
from transmamba_mm.engine.hooks import WeightSubcloneHook
from transmamba_mm.engine.hooks.subclone_target import (position_layout,
                                                        student_tensors,
                                                        write_tensors)
from transmamba_mm.registry import MODELS
from transmamba_mm.subclone import (SubclonePlan, read_teacher,
                                    subclone_state_dict)
from transmamba_mm.subclone.score_factors import score_factors

TEXT = 'language_model.model.'


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture(scope='module')
def teacher(tokenizer, tmp_path_factory):
    return save(tokenizer, tmp_path_factory.mktemp('teacher'))


def save(tokenizer, folder, **language):
    """The checkpoint of a TransLlava with a LLaMA, and its weights."""
    torch.manual_seed(5)
    cfg = model_cfg(tokenizer, 'llama')
    cfg['language_model']['config'].update(language)
    model = MODELS.build(cfg)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    torch.save(dict(state_dict=model.state_dict()), folder / 'teacher.pth')
    return str(folder / 'teacher.pth'), model.state_dict()


def student(tokenizer, kind='mamba', **language):
    cfg = model_cfg(tokenizer, kind, freeze=())
    cfg['language_model']['config'].update(language)
    torch.manual_seed(0)
    return MODELS.build(cfg)


def clone(model, path, plan='qkv_to_ssm', first_n='all', **kwargs):
    if isinstance(plan, str):
        plan = dict(preset=plan, num_heads=4)
    hook = WeightSubcloneHook(
        path, plan, 'language_model.', first_n=first_n, **kwargs)
    new, report = hook.clone(model)
    write_tensors(model, new, hook.prefix)
    return new, {row.tensor: row for row in report.rows}


def test_what_lands_where(tokenizer, teacher):
    path, source = teacher
    model = student(tokenizer, tie_word_embeddings=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    new, rows = clone(model, path)
    state = model.state_dict()

    def own(name):
        return state[f'language_model.backbone.{name}']

    assert torch.equal(
        own('embeddings.weight'), source[f'{TEXT}embed_tokens.weight'])
    assert torch.equal(state['language_model.lm_head.weight'],
                       source['language_model.lm_head.weight'])
    assert torch.equal(own('norm_f.weight'), source[f'{TEXT}norm.weight'])
    for i in range(2):
        block = f'{TEXT}layers.{i}.'
        assert torch.equal(
            own(f'layers.{i}.norm.weight'),
            source[f'{block}input_layernorm.weight'])
        mixer = f'layers.{i}.mixer.'
        assert torch.equal(
            own(f'{mixer}in_proj.weight')[:32],
            source[f'{block}self_attn.v_proj.weight'])
        assert torch.equal(
            own(f'{mixer}out_proj.weight')[:, :32],
            source[f'{block}self_attn.o_proj.weight'])
        for part in ('A_log', 'D', 'conv1d.weight', 'dt_proj.weight'):
            name = f'language_model.backbone.{mixer}{part}'
            assert torch.equal(state[name], before[name])
        assert rows[f'{mixer}x_proj.weight'].action == 'factorised'
    untouched = [k for k in state if not k.startswith('language_model.')]
    assert all(torch.equal(state[k], before[k]) for k in untouched)


def test_a_cloned_student_speaks_the_teachers_words(tokenizer, teacher):
    """Without layers, words in and out alone give the teacher's logits."""
    path, source = teacher
    model = student(tokenizer, tie_word_embeddings=False)
    clone(model, path)
    model.language_model.backbone.layers = torch.nn.ModuleList()
    ids = torch.tensor([[3, 5, 7]])
    x = source[f'{TEXT}embed_tokens.weight'][ids]
    x = x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    x = x * source[f'{TEXT}norm.weight']
    torch.testing.assert_close(
        model.language_model(input_ids=ids).logits,
        x @ source['language_model.lm_head.weight'].T)


@pytest.mark.parametrize('taught', [True, False])
def test_tied_words_stay_tied(tokenizer, tmp_path, taught):
    path, source = save(tokenizer, tmp_path, tie_word_embeddings=taught)
    model = student(tokenizer, tie_word_embeddings=True)
    _, rows = clone(model, path)
    assert 'lm_head.weight' not in rows
    words = model.language_model.backbone.embeddings.weight
    assert model.language_model.lm_head.weight is words
    assert torch.equal(words, source[f'{TEXT}embed_tokens.weight'])
    untied = student(tokenizer, tie_word_embeddings=False)
    clone(untied, path)
    assert torch.equal(untied.language_model.lm_head.weight,
                       source['language_model.lm_head.weight'])


def test_fewer_and_narrower_layers(tokenizer, tmp_path):
    path, source = save(
        tokenizer, tmp_path, hidden_size=48, num_hidden_layers=4)
    model = student(tokenizer)
    _, rows = clone(model, path)
    for i, (ours, theirs) in enumerate(((0, 0), (1, 2))):
        row = rows[f'layers.{ours}.norm.weight']
        assert row.source == f'layers.{theirs}.norm1.weight'
        assert row.action == 'sliced'
    words = model.language_model.backbone.embeddings.weight
    table = source[f'{TEXT}embed_tokens.weight']
    kept = [(table - words[:, [i]]).abs().sum(0).argmin() for i in range(32)]
    assert len({int(k) for k in kept}) == 32  # 32 whole channels of the 48
    torch.testing.assert_close(words, table[:, torch.stack(kept)])
    norm = source[f'{TEXT}norm.weight'][torch.stack(kept)]
    torch.testing.assert_close(model.language_model.backbone.norm_f.weight,
                               norm)


@pytest.mark.parametrize('groups', [1, 2])
def test_mamba2_has_its_gate_first(tokenizer, teacher, groups):
    path, source = teacher
    model = student(tokenizer, 'mamba2', n_groups=groups)
    name = 'language_model.backbone.layers.1.mixer.in_proj.weight'
    before = model.state_dict()[name].clone()
    new, rows = clone(model, path)
    after = model.state_dict()[name]
    inner, states = 64, 4
    v, q, k = (
        source[f'{TEXT}layers.1.self_attn.{p}_proj.weight'] for p in 'vqk')
    assert torch.equal(after[:inner], before[:inner])
    assert torch.equal(after[inner:inner + 32], v)
    start = 2 * inner
    assert torch.equal(after[start + 2 * groups * states:],
                       before[start + 2 * groups * states:])
    write, read, _ = score_factors(q, k, states)
    for part, want in enumerate((write, read)):
        first = start + part * groups * states
        for rows_of in after[first:first + groups * states].split(states):
            cosine = torch.cosine_similarity(
                rows_of.flatten().double(), want.flatten(), dim=0)
            torch.testing.assert_close(cosine, torch.ones_like(cosine))
    if groups == 2:
        with pytest.raises(ValueError, match='num_groups=3'):
            plan = SubclonePlan('qkv_to_ssm', num_groups=3, first_n=-1)
            tensors = student_tensors(model, 'language_model.')
            subclone_state_dict(
                read_teacher(path, 'text'), {
                    k: v.detach()
                    for k, v in tensors.items()
                }, plan, position_layout(model.language_model))


def test_gated_mlps_of_students_that_have_some(teacher):
    path, source = teacher
    rule = SubclonePlan().all_rules
    for part in ('gate', 'up', 'down'):
        for kind in ('mlp', 'feed_forward'):
            name = f'layers.3.{kind}.{part}_proj.weight'
            match = next(r for r in rule if r.match(name))
            assert match.source == f'layers.{{i}}.{part}.weight'
    text = read_teacher(path, 'text')
    assert torch.equal(text['layers.1.gate.weight'],
                       source[f'{TEXT}layers.1.mlp.gate_proj.weight'])


def test_tower_and_projector_are_copied(tokenizer, teacher):
    path, source = teacher
    model = student(tokenizer)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    _, rows = clone(model, path, copy=('vision_tower', 'projector'))
    state = model.state_dict()
    names = [k for k in state if k.startswith(('vision_tower.', 'projector.'))]
    assert len(names) > 10
    assert all(torch.equal(state[k], source[k]) for k in names)
    assert rows['projector.2.weight'].action == 'copied'
    with pytest.raises(ValueError, match="no 'visual' with weights"):
        clone(model, path, copy='visual')


def test_projector_of_another_width_is_refused(tokenizer, tmp_path):
    path, _ = save(tokenizer, tmp_path, hidden_size=48)
    with pytest.raises(ValueError, match='(?s)projector.0.weight.*Build it'):
        clone(student(tokenizer), path, copy='projector')


def test_folder_of_the_library_is_read(tokenizer, tmp_path):
    torch.manual_seed(0)
    llama = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            vocab_size=len(tokenizer)))
    llama.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = student(tokenizer)
    clone(model, str(tmp_path))
    assert torch.equal(model.language_model.backbone.embeddings.weight,
                       llama.model.embed_tokens.weight)
    other = tmp_path / 'other'
    llama.save_pretrained(other)
    build_word_tokenizer(['other words'], str(other))
    with pytest.raises(ValueError, match='another tokenizer'):
        clone(student(tokenizer), str(other))


def test_other_words_are_refused(tokenizer, teacher, tmp_path):
    path, _ = teacher
    other, _ = save(tokenizer, tmp_path, vocab_size=len(tokenizer) + 1)
    with pytest.raises(ValueError, match=r'words and the student.*vocab_size'):
        clone(student(tokenizer), other)
    state = torch.load(path)
    state['state_dict']['vocabulary'] += 1
    torch.save(state, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='another tokenizer.*model.tokenizer'):
        clone(student(tokenizer), str(tmp_path / 'other.pth'))


def test_adapters_do_not_hide_the_weights(tokenizer, teacher):
    pytest.importorskip('peft')
    path, source = teacher
    model = build(tokenizer, language=dict(lora=dict(r=2)))
    _, rows = clone(model, path)
    assert not any('lora' in name for name in rows)
    name = 'language_model.backbone.layers.0.mixer.in_proj.base_layer.weight'
    assert torch.equal(model.state_dict()[name][:32],
                       source[f'{TEXT}layers.0.self_attn.v_proj.weight'])
    model(**make_batch(model), mode='loss')['loss'].backward()


def test_every_tower_of_a_checkpoint_is_read(tokenizer):
    """And an image tower of our names teaches a ViM."""
    cfg = model_cfg(tokenizer, 'llama')
    cfg['vision_tower']['backbone'] = dict(
        type='mmpretrain.VisionTransformer',
        arch=dict(
            embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
        img_size=16,
        patch_size=8)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    state = model.state_dict()
    towers = ('vision', 'text', 'projector')
    read = {tower: read_teacher(state, tower) for tower in towers}
    assert read['text'].info.towers == towers
    backbone = model.vision_tower.backbone
    assert torch.equal(read['vision']['layers.1.v.weight'],
                       backbone.layers[1].attn.qkv.weight[48:])
    assert torch.equal(read['vision']['patch_embed.weight'],
                       backbone.patch_embed.projection.weight)
    assert torch.equal(read['projector']['projector.fc2.weight'],
                       model.projector[2].weight)
    assert read['text'].info.norm == 'rms'
    linear = MODELS.build({**cfg, 'projector': 'linear'})
    read = read_teacher(linear.state_dict(), 'projector')
    assert torch.equal(read['projector.fc1.weight'], linear.projector.weight)


def test_state_space_parameters_come_from_a_mamba(tokenizer, teacher,
                                                  tmp_path):
    path, _ = teacher
    mamba = student(tokenizer).language_model
    with torch.no_grad():
        for p in mamba.parameters():
            p.normal_()
    mamba.save_pretrained(tmp_path)
    model = student(tokenizer)
    _, rows = clone(model, path, 'safe', ssm_checkpoint=str(tmp_path))
    ours, theirs = (
        m.backbone.layers[1].mixer for m in (model.language_model, mamba))
    for name in ('A_log', 'D', 'conv1d.weight', 'x_proj.weight'):
        assert torch.equal(
            ours.get_parameter(name), theirs.get_parameter(name))
        assert rows[f'layers.1.mixer.{name}'].from_mamba
    assert not torch.equal(ours.in_proj.weight, theirs.in_proj.weight)
    with pytest.raises(ValueError, match="is a 'mamba2'.*pretrained"):
        clone(student(tokenizer, 'mamba2'), path, ssm_checkpoint=str(tmp_path))
