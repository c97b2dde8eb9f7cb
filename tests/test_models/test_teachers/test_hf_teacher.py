"""Teachers of the Transformers library."""
import json
import os

import pytest
import torch

from transmamba_mm.models import HFTeacher
from .hf_models import IMAGES, MODELS, TEXTS, save, text, write_processor


def build(kind, folder, **kwargs):
    return HFTeacher(str(folder), tower=MODELS[kind][1], **kwargs)


def recorded(teacher, inputs):
    names = [teacher.layer_name.format(i) for i in range(teacher.depth)]
    shown = teacher.record(inputs, names)
    return [shown[name] for name in names]


@pytest.mark.parametrize('kind', MODELS)
def test_features_are_those_of_the_library(kind, tmp_path):
    own = save(kind, tmp_path)
    teacher = build(kind, tmp_path)
    inputs = text() if kind in TEXTS else torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        kwargs = dict(inputs) if kind in TEXTS else dict(pixel_values=inputs)
        told = own(**kwargs, output_hidden_states=True)
    ours = recorded(teacher, inputs)
    assert len(ours) == teacher.depth == len(told.hidden_states) - 1
    if 'llama' in kind or 'language' in kind:
        norm = teacher.record(inputs, [teacher.final_norm_name])
        ours[-1] = norm[teacher.final_norm_name]  # as the library counts
    for a, b in zip(ours, told.hidden_states[1:]):
        assert a.shape[-1] == teacher.embed_dims
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert teacher.takes_text == (kind in TEXTS)
    logits = teacher.record(inputs, [teacher.head_name])[teacher.head_name]
    if 'logits' in told:
        assert logits.shape[-1] == teacher.num_classes
        torch.testing.assert_close(logits, told.logits)
    elif kind != 'llava language':
        assert teacher.num_classes is None


@pytest.mark.parametrize('kind', IMAGES)
def test_final_norm_sees_all_tokens(kind, tmp_path):
    own = save(kind, tmp_path)
    teacher = build(kind, tmp_path)
    images = torch.randn(2, 3, 16, 16)
    name = teacher.final_norm_name
    tokens = teacher.record(images, [name])[name]
    last = recorded(teacher, images)[-1]
    assert tokens.shape == last.shape
    if 'clip' in kind or 'llava' in kind:
        inner = getattr(own, 'vision_model', own)
        torch.testing.assert_close(tokens[:, 0], inner(images).pooler_output)
    else:
        told = own(images, output_hidden_states=True)
        if 'last_hidden_state' in told:
            torch.testing.assert_close(tokens, told.last_hidden_state)


@pytest.mark.parametrize('kind', IMAGES)
@pytest.mark.parametrize('size', [(16, 16), (24, 32), (18, 18)])
def test_layout_fits_the_features_of_any_size(kind, size, tmp_path):
    save(kind, tmp_path)
    teacher = build(kind, tmp_path)
    tokens = recorded(teacher, torch.randn(1, 3, *size))[0]
    layout = teacher.record_layout(size)
    assert layout.num_tokens == tokens.shape[1]
    extra = {'deit': 2, 'siglip vision': 0}
    assert layout.num_extra_tokens == extra.get(kind, 1)
    assert layout.grid == (size[0] // 4, size[1] // 4)


def test_images_are_resized_where_it_is_wanted(tmp_path):
    own = save('vit', tmp_path)
    teacher = build('vit', tmp_path, input_size=16)
    images = torch.randn(2, 3, 40, 32)
    assert teacher.record_layout((40, 32)).grid == (4, 4)
    small = torch.nn.functional.interpolate(
        images, (16, 16), mode='bicubic', antialias=True)
    torch.testing.assert_close(
        teacher.record(images, [''])[''],
        own(small).logits)


def test_too_small_images(tmp_path):
    save('vit', tmp_path)
    with pytest.raises(ValueError, match='set `input_size`'):
        build('vit', tmp_path).record_layout((3, 3))


@pytest.mark.parametrize('kind', ['vit', 'llama'])
def test_low_precision_gives_float32_records(kind, tmp_path):
    save(kind, tmp_path)
    inputs = text() if kind in TEXTS else torch.randn(2, 3, 16, 16)
    exact = recorded(build(kind, tmp_path), inputs)[-1]
    teacher = build(kind, tmp_path, dtype='bfloat16')
    assert {p.dtype for p in teacher.parameters()} == {torch.bfloat16}
    rough = recorded(teacher, inputs)[-1]
    assert rough.dtype == torch.float32
    error = (exact - rough).norm() / exact.norm()
    assert 1e-5 < error < 0.05
    with pytest.raises(ValueError, match="'int4' is unknown"):
        build(kind, tmp_path, dtype='int4')


def test_precision_of_the_file_does_not_count(tmp_path):
    save('vit', tmp_path, torch.float16)
    assert {p.dtype
            for p in build('vit', tmp_path).parameters()} == {torch.float32}


def test_normalisation_is_that_of_the_folder(tmp_path):
    save('vit', tmp_path)
    mean, std, to_rgb = build('vit', tmp_path).normalisation()
    torch.testing.assert_close(mean.flatten() / 255,
                               torch.tensor([0.5, 0.4, 0.3]))
    torch.testing.assert_close(std.flatten() / 255,
                               torch.tensor([0.2, 0.3, 0.4]))
    assert to_rgb
    write_processor(tmp_path, do_normalize=False)
    mean, std, _ = build('vit', tmp_path).normalisation()
    assert mean.abs().max() == 0 and std.flatten()[0] == 255
    mean, std, _ = build(
        'vit', tmp_path, mean=[1, 2, 3], std=[4, 5, 6]).normalisation()
    assert mean.flatten().tolist() == [1, 2, 3]
    os.remove(tmp_path / 'preprocessor_config.json')
    assert build('vit', tmp_path).normalisation()[0].flatten()[0] == 127.5
    with pytest.raises(ValueError, match='give both'):
        build('vit', tmp_path, mean=[1, 2, 3])


def test_weights_of_both_kinds_and_in_shards(tmp_path):
    own = save('vit', tmp_path / 'one')
    own.save_pretrained(tmp_path / 'shards', max_shard_size='50KB')
    assert not (tmp_path / 'shards' / 'model.safetensors').exists()
    own.save_pretrained(tmp_path / 'bin')
    os.remove(tmp_path / 'bin' / 'model.safetensors')
    torch.save(own.state_dict(), tmp_path / 'bin' / 'pytorch_model.bin')
    images = torch.randn(2, 3, 16, 16)
    for name in ('one', 'shards', 'bin'):
        teacher = HFTeacher(str(tmp_path / name))
        torch.testing.assert_close(
            teacher.record(images, [''])[''],
            own(images).logits)


class Danger:

    def __reduce__(self):
        return os.mkdir, ('was-run', )


def test_pickles_are_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = save('vit', tmp_path)
    os.remove(tmp_path / 'model.safetensors')
    torch.save({
        **own.state_dict(), 'x': Danger()
    }, tmp_path / 'pytorch_model.bin')
    with pytest.raises((ValueError, FileNotFoundError), match=str(tmp_path)):
        HFTeacher(str(tmp_path))
    assert not (tmp_path / 'was-run').exists()


def edit_config(folder, **changes):
    path = folder / 'config.json'
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps(config))


MISFITS = [
    (dict(num_hidden_layers=5), 'tensors missing'),
    (dict(hidden_size=64), 'mismatch|do not fit'),
    (dict(id2label={i: i
                    for i in range(7)}), 'mismatch|do not fit'),
    (dict(quantization_config=dict(quant_method='gptq', bits=4)),
     r'quantised weights \(gptq\)'),
    (dict(model_type='new_thing',
          auto_map=dict(AutoConfig='a.B')), 'is never run'),
]


@pytest.mark.parametrize('changes, message', MISFITS)
def test_models_that_do_not_fit(changes, message, tmp_path):
    save('vit', tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        HFTeacher(str(tmp_path))


def test_weights_that_are_not_finite(tmp_path):
    own = save('vit', tmp_path)
    own.classifier.bias.data[0] = float('nan')
    own.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='NaN or infinity.*classifier.bias'):
        HFTeacher(str(tmp_path))


def test_towers_are_named(tmp_path):
    save('llava vision', tmp_path / 'llava')
    save('vit', tmp_path / 'vit')
    save('clip vision', tmp_path / 'clip')
    with pytest.raises(ValueError, match="'text', 'vision'"):
        HFTeacher(str(tmp_path / 'llava'))
    with pytest.raises(ValueError, match="'vision'; leave `tower` out"):
        HFTeacher(str(tmp_path / 'vit'), tower='text')
    plain = HFTeacher(str(tmp_path / 'vit'), tower='visual')
    assert not plain.takes_text, 'its only tower may be named'
    with pytest.raises(ValueError, match="'vision', 'text'"):
        HFTeacher(str(tmp_path / 'clip'), tower='projector')
    assert not HFTeacher(str(tmp_path / 'clip')).takes_text
    other = HFTeacher(str(tmp_path / 'llava'), tower='language')
    assert other.takes_text, 'another word for the text tower'


def test_images_for_a_teacher_of_texts(tmp_path):
    save('clip text', tmp_path)
    teacher = HFTeacher(str(tmp_path), tower='text')
    with pytest.raises(ValueError, match="reads texts.*tower='vision'"):
        teacher.record(torch.zeros(1, 3, 16, 16), [teacher.head_name])


def test_more_weights_than_the_config_has_layers(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('transmamba_mm.models.teachers.hf_loading.print_log',
                        lambda text, **kwargs: lines.append(text))
    for kind, tower in (('vit', None), ('clip vision', 'vision'), ('bert',
                                                                   None)):
        save(kind, tmp_path / kind)
        HFTeacher(str(tmp_path / kind), tower=tower)
        assert not lines
        depth = HFTeacher(str(tmp_path / kind), tower=tower).depth
        path = tmp_path / kind / 'config.json'
        name = '"num_hidden_layers": '
        path.write_text(path.read_text().replace(f'{name}{depth}',
                                                 f'{name}{depth - 1}'))
        HFTeacher(str(tmp_path / kind), tower=tower)
        assert '16 tensors' in lines[0] and 'layer' in lines[0]
        lines.clear()


def test_misfits_are_named_in_short(tmp_path):
    save('vit', tmp_path)
    edit_config(tmp_path, hidden_size=64)
    with pytest.raises(ValueError) as info:
        HFTeacher(str(tmp_path))
    assert len(str(info.value)) < 800


def test_eight_bits_are_named(tmp_path):
    from safetensors.torch import load_file, save_file
    save('vit', tmp_path)
    path = tmp_path / 'model.safetensors'
    state = load_file(path)
    name = next(k for k in state if k.endswith('query.weight'))
    state[name] = state[name].to(torch.int8)
    save_file(state, path, metadata=dict(format='pt'))
    with pytest.raises(ValueError, match=r'quantised: .*query.weight \(I8\)'):
        HFTeacher(str(tmp_path))


def test_paths_that_lead_nowhere(tmp_path, monkeypatch):
    save('vit', tmp_path / 'my-vit')
    with pytest.raises(FileNotFoundError, match='my-vit'):
        HFTeacher(str(tmp_path / 'my-vita'))
    with pytest.raises(FileNotFoundError, match='config.json'):
        HFTeacher(str(tmp_path))
    with pytest.raises(ValueError, match='is a file'):
        HFTeacher(str(tmp_path / 'my-vit' / 'model.safetensors'))
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(FileNotFoundError, match='needs the network'):
        HFTeacher('nobody/nothing')


def test_networks_without_a_list_of_equal_tokens(tmp_path):
    import transformers as hf
    swin = hf.SwinModel(
        hf.SwinConfig(
            image_size=32,
            patch_size=4,
            embed_dim=12,
            depths=[1, 1],
            num_heads=[2, 2],
            window_size=4))
    swin.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='cannot teach'):
        HFTeacher(str(tmp_path))


def test_line_for_the_log(tmp_path):
    save('vit', tmp_path)
    assert build(
        'vit', tmp_path, dtype='bfloat16').describe() == (
            'ViTForImageClassification of width 48 and 3 layers in bfloat16')


@pytest.mark.parametrize('tower', ['vision', 'text'])
@pytest.mark.parametrize('prefix', ['', 'model.'])
def test_only_the_tower_of_a_llava_is_read(tower, prefix, tmp_path,
                                           monkeypatch):
    from transmamba_mm.models.teachers import hf_loading
    kind = 'language' if tower == 'text' else tower
    own = save(f'llava {kind}', tmp_path)
    if prefix:  # the names of later versions
        from safetensors.torch import load_file, save_file
        path = tmp_path / 'model.safetensors'
        state = {}
        for k, v in load_file(path).items():
            k = k.replace('language_model.model.', 'model.language_model.')
            k = k.replace('language_model.lm_head.', 'lm_head.')
            state[f'model.{k}' if k.startswith('vision') else k] = v
        save_file(state, path, metadata=dict(format='pt'))
    read = {}

    def spy(*args):
        read.update(hf_loading_read(*args))
        return dict(read)

    hf_loading_read = hf_loading.read_tower
    monkeypatch.setattr(hf_loading, 'read_tower', spy)
    teacher = HFTeacher(str(tmp_path), tower=tower)
    # later versions keep the head of the tower elsewhere
    assert 0 <= len(read) - len(own.state_dict()) <= 1
    inputs = text() if tower == 'text' else torch.randn(2, 3, 16, 16)
    kwargs = inputs if tower == 'text' else dict(pixel_values=inputs)
    last = teacher.record(inputs, [teacher.final_norm_name])
    told = own(**kwargs, output_hidden_states=True).hidden_states[-1]
    if tower == 'text':
        torch.testing.assert_close(last[teacher.final_norm_name], told)
    else:
        torch.testing.assert_close(recorded(teacher, inputs)[-1], told)


def test_damaged_weights(tmp_path):
    save('vit', tmp_path)
    with open(tmp_path / 'model.safetensors', 'r+b') as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match='truncated.*`pretrained`'):
        HFTeacher(str(tmp_path))
