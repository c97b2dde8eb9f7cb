"""Subcloning through the hook from files of other libraries."""
import json

import pytest
import torch
from mmpretrain.registry import HOOKS, MODELS
from safetensors.torch import save_file

from tests.test_subclone.test_readers import vits
from tests.toy import make_runner, student_cfg
from transmamba_mm.subclone import compare_with_student, read_teacher


def clone_into(runner, source, **kwargs):
    """Call the hook alone, without a training."""
    hook = HOOKS.build(
        dict(
            type='transmamba_mm.WeightSubcloneHook',
            checkpoint=str(source),
            first_n=-1,
            **kwargs))
    hook.before_train(runner)
    return {k: v.clone() for k, v in runner.model.state_dict().items()}


def test_folder_of_hugging_face(tmp_path):
    state = vits.mmpretrain_vit().state_dict()
    torch.save(state, tmp_path / 'mmpretrain.pth')
    model = vits.hf_vit()
    model.load_state_dict(vits.to_hf_v4(state))
    model.save_pretrained(tmp_path / 'hf')
    students = [
        clone_into(
            make_runner(tmp_path / str(i), student_cfg()), tmp_path / source)
        for i, source in enumerate(('mmpretrain.pth', 'hf'))
    ]
    assert torch.equal(students[0]['head.fc.weight'], state['head.fc.weight'])
    assert all(torch.equal(students[0][k], v) for k, v in students[1].items())


def test_tower_is_chosen(tmp_path):
    state = vits.open_clip_model().state_dict()
    torch.save(state, tmp_path / 'clip.pth')
    runner = make_runner(tmp_path / 'run', student_cfg('VMamba'))
    new = clone_into(runner, tmp_path / 'clip.pth', plan='safe', tower='text')
    norm = new['backbone.layers.0.blocks.0.norm.weight']
    text = read_teacher(state, 'text')['layers.0.norm1.weight']
    assert all((text == value).any() for value in norm)
    with pytest.raises(ValueError, match="`checkpoint`.*tower='ear'"):
        clone_into(runner, tmp_path / 'clip.pth', tower='ear')


def test_nan_counts_where_it_is_used(tmp_path):
    state = vits.mmpretrain_vit().state_dict()
    state['backbone.layers.1.attn.qkv.weight'].fill_(float('nan'))
    torch.save(state, tmp_path / 'nan.pth')
    runner = make_runner(tmp_path / 'run', student_cfg())
    clone_into(runner, tmp_path / 'nan.pth', plan='safe')
    before = runner.model.state_dict()
    before = {k: v.clone() for k, v in before.items()}
    with pytest.raises(ValueError, match='nan.pth.*NaN.*qkv.*`checkpoint`'):
        clone_into(runner, tmp_path / 'nan.pth', plan='linear')
    after = runner.model.state_dict()
    assert all(torch.equal(before[k], v) for k, v in after.items())


def clip_folder(path, quick_gelu=True):
    save_file(
        {
            k: v.clone()
            for k, v in vits.open_clip_model().state_dict().items()
        }, path / 'open_clip_model.safetensors')
    (path / 'open_clip_config.json').write_text(
        json.dumps(
            dict(
                model_cfg=dict(
                    quick_gelu=quick_gelu, vision_cfg={}, text_cfg={}),
                preprocess_cfg=dict(mean=[.5, .5, .5], std=[.25, .25, .25]))))
    return path


def test_other_activation_and_other_pixels_are_logged(tmp_path):
    runner = make_runner(tmp_path / 'run', student_cfg('VMamba'))
    clone_into(runner, clip_folder(tmp_path))
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert "teacher's MLPs use 'quick_gelu', the student's 'gelu'" in log
    assert 'mean [127.5, 127.5, 127.5] and std [63.75' in log


def test_nothing_is_said_where_both_are_alike(tmp_path):
    cfg = student_cfg('VMamba')
    cfg['data_preprocessor'].update(mean=[127.5] * 3, std=[63.75] * 3)
    model = MODELS.build(cfg)
    save_file(vits.timm_vit().state_dict(), tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text(
        json.dumps(dict(pretrained_cfg=dict(mean=[.5] * 3, std=[.25] * 3))))
    teacher = read_teacher(tmp_path)
    assert teacher.info.mean == (.5, .5, .5)
    assert compare_with_student(teacher, model) == []


def test_unknown_activation_is_said(tmp_path):
    model = MODELS.build(student_cfg('VMamba'))
    state = vits.open_clip_model().state_dict()
    assert 'does not tell' in compare_with_student(read_teacher(state),
                                                   model)[0]
    # no MLP, no activation
    vim = MODELS.build(student_cfg())
    assert 'does not tell' not in ' '.join(
        compare_with_student(read_teacher(state), vim))


def test_norms_after_the_sum_are_said():
    import transformers
    model = transformers.BertModel(
        transformers.BertConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            vocab_size=50))
    notes = compare_with_student(
        read_teacher(model.state_dict()), MODELS.build(student_cfg()))
    assert 'norms come after' in notes[0] and "exclude=['norm']" in notes[0]


def test_what_lies_between_the_tensors_is_said():
    state = vits.timm_vit().state_dict()
    model = MODELS.build(student_cfg())
    assert compare_with_student(read_teacher(state), model) == []
    for i in range(2):
        state[f'blocks.{i}.ls1.gamma'] = state['norm.weight']
    assert 'factors on the output of its attention, which' in \
        compare_with_student(read_teacher(state), model)[0]
    clip = read_teacher(vits.open_clip_model().state_dict())
    assert 'a norm between' in compare_with_student(clip, model)[0]
