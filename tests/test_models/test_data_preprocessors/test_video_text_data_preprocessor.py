"""Batches of clips with captions on their way to the model."""
import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from tests.test_models.test_multimodal.toy_videos import batch
from transmamba_mm.models.data_preprocessors.video_text_data_preprocessor import \
    random_windows  # noqa: E501


def build(**kwargs):
    return MODELS.build(
        dict(type='transmamba_mm.VideoTextDataPreprocessor', **kwargs))


def test_training_samples_become_one():
    data = build()(batch([0, 1, 5]), True)
    joined, = data['data_samples']
    assert joined.text['input_ids'].shape == (3, 6)
    assert len(joined.groups) == 3
    # what is joined stays as it is
    again = build()(data, True)['data_samples'][0]
    assert torch.equal(again.groups, joined.groups)
    assert torch.equal(again.text['input_ids'], joined.text['input_ids'])


def test_samples_stay_apart_in_tests_and_for_a_cached_teacher():
    data = batch([0, 1, 5])
    assert len(build()(data)['data_samples']) == 3
    for sample in data['data_samples']:
        sample.set_metainfo(dict(augmentation_key='x'))
    assert len(build()(data, True)['data_samples']) == 3


def test_windows_are_cut_in_training_only():
    data = batch([0, 1])
    model = build(crop_size=8)
    assert model(data, True)['inputs'].shape[-2:] == (8, 8)
    assert model(data)['inputs'].shape[-2:] == (16, 16)


def test_a_window_is_the_same_for_all_frames_of_a_clip():
    torch.manual_seed(0)
    frame = torch.rand(4, 3, 1, 12, 12)
    out = random_windows(frame.expand(-1, -1, 5, -1, -1), 12, (0.3, 0.5))
    assert torch.equal(out[:, :, :1].expand_as(out), out)
    same = random_windows(frame[:1].expand(4, -1, -1, -1, -1), 12, (0.3, 0.5))
    assert not torch.allclose(same[0], same[1])


def test_a_window_of_everything_is_the_clip():
    clip = torch.rand(2, 3, 4, 10, 10)
    out = random_windows(clip, 10, (1., 1.), ratio=(1., 1.))
    torch.testing.assert_close(out, clip)


def test_windows_have_the_area_asked_for():
    """A ramp tells by its slope how much of it is seen."""
    ramp = torch.linspace(0, 1, 64)
    rows, columns = torch.meshgrid(ramp, ramp, indexing='ij')
    clip = torch.stack([rows, columns, columns])[None, :, None]
    out = random_windows(clip.expand(200, -1, -1, -1, -1), 64, (0.3, 0.6))
    high = out[:, 0, 0, -1, 0] - out[:, 0, 0, 0, 0]
    wide = out[:, 1, 0, 0, -1] - out[:, 1, 0, 0, 0]
    area = high * wide
    assert 0.28 < area.min() < 0.4 and 0.5 < area.max() < 0.62
    assert out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize('change, message', [
    (dict(crop_size=0), 'crop_size=0'),
    (dict(crop_scale=(0., 1.)), r'crop_scale=\(0.0, 1.0\)'),
    (dict(crop_scale=(0.9, 0.5)), 'rising parts'),
])
def test_bad_windows_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)


def test_a_clip_without_samples_is_normalised():
    model = build(mean=[1.] * 3, std=[2.] * 3)
    got = model(dict(inputs=torch.ones(1, 3, 2, 4, 4)), True)['inputs']
    assert not got.any()
    samples = [DataSample()]
    with pytest.raises(KeyError, match='`text`'):
        model(
            dict(inputs=[torch.ones(3, 2, 4, 4)], data_samples=samples), True)
