"""Clips are normalised frame by frame."""
import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

NORMALISE = dict(mean=[10., 20., 30.], std=[1., 2., 3.], num_classes=4)


def build(kind='transmamba_mm.ClipDataPreprocessor', **kwargs):
    return MODELS.build(dict(type=kind, **NORMALISE, **kwargs))


@pytest.mark.parametrize('to_rgb', [False, True])
@pytest.mark.parametrize('num_frames', [1, 3, 4])
@pytest.mark.parametrize('stacked', [False, True])
def test_each_frame_is_an_image(to_rgb, num_frames, stacked):
    """Also where there are as many frames as channels."""
    clips = torch.randint(0, 255, (2, 3, num_frames, 8, 6), dtype=torch.uint8)
    inputs = clips if stacked else list(clips)
    got = build(to_rgb=to_rgb)(dict(inputs=inputs))['inputs']
    images = build('ClsDataPreprocessor', to_rgb=to_rgb)
    assert got.shape == clips.shape
    for t in range(num_frames):
        want = images(dict(inputs=clips[:, :, t]))['inputs']
        torch.testing.assert_close(got[:, :, t], want)


def test_mixup_mixes_whole_clips():
    torch.manual_seed(0)
    model = build(batch_augments=dict(augments=[dict(type='Mixup', alpha=1.)]))
    clips = torch.rand(2, 3, 4, 8, 8)
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    data = model(dict(inputs=clips, data_samples=samples), True)
    plain = build()(dict(inputs=clips))['inputs']
    score = data['data_samples'][0].gt_score
    assert score.sum().item() == pytest.approx(1)
    torch.testing.assert_close(data['inputs'][0],
                               score[0] * plain[0] + score[1] * plain[1])


def test_augmentation_of_images_is_refused():
    augments = [dict(type='Mixup', alpha=1.), dict(type='CutMix', alpha=1.)]
    with pytest.raises(
            ValueError, match=r"augments holds \['CutMix'\].*Mixup"):
        build(batch_augments=dict(augments=augments))


def test_without_normalisation():
    model = MODELS.build(dict(type='transmamba_mm.ClipDataPreprocessor'))
    clips = torch.rand(2, 3, 3, 8, 8)
    torch.testing.assert_close(model(dict(inputs=clips))['inputs'], clips)
