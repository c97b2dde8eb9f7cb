"""A toy task: tell by its caption how the light in a clip changes."""
import torch
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample

FRAMES, LENGTH, VOCAB = 4, 6, 16
TEXT = dict(
    context_length=LENGTH,
    vocab_size=VOCAB,
    width=32,
    heads=2,
    layers=1,
    output_dim=24)
CLIP = dict(
    embed_dim=24,
    vision_cfg=dict(
        image_size=16, layers=3, width=48, head_width=16, patch_size=4),
    text_cfg=dict({
        k: v
        for k, v in TEXT.items() if k != 'output_dim'
    }))


def sample(index):
    """Return clip (3, T, 16, 16) and data sample number ``index`` of 16.

    Each pair of light courses has the same frames in another order.
    """
    colour, course = index // 4, index % 4
    generator = torch.Generator().manual_seed(index)
    clip = torch.randint(0, 40, (3, FRAMES, 16, 16), generator=generator)
    light = [[0, 1, 2, 3], [3, 2, 1, 0], [0, 3, 3, 0], [3, 0, 0, 3]][course]
    shown = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]][colour]
    clip = clip + 70 * torch.tensor(light).reshape(1, -1, 1, 1) * \
        torch.tensor(shown).reshape(-1, 1, 1, 1)
    # start, colour, course, end; the end has the highest number
    ids = torch.tensor([1, 2 + colour, 8 + course, VOCAB - 1, 0, 0])
    data = DataSample()
    data.set_field(str(index), 'video_id')
    data.set_field(f'colour {colour} course {course}', 'caption')
    data.set_field(
        dict(input_ids=ids, attention_mask=(ids > 0).long()), 'text')
    return clip.to(torch.uint8), data


def batch(indices):
    """Return a batch as a collate function gives it."""
    clips, samples = zip(*map(sample, indices))
    return dict(inputs=list(clips), data_samples=list(samples))


@DATASETS.register_module()
class ToyVideos(BaseDataset):
    """The sixteen samples."""

    def load_data_list(self):
        return [dict(index=i) for i in range(16)]

    def prepare_data(self, idx):
        clip, data = sample(self.get_data_info(idx)['index'])
        return dict(inputs=clip, data_samples=data)


def retrieval_cfg(head='MeanPoolHead', distiller=None, tubelet_size=1, **kw):
    """Config of a small model; ``kw`` goes to the head."""
    model = dict(
        type='transmamba_mm.TextVideoRetrieval',
        backbone=dict(
            type='transmamba_mm.VideoMamba',
            arch=dict(embed_dims=32, num_layers=3, d_state=4),
            img_size=16,
            patch_size=4,
            num_frames=FRAMES,
            tubelet_size=tubelet_size),
        text_tower=dict(type='transmamba_mm.OpenCLIPTextTower', arch=TEXT),
        head=dict(type=f'transmamba_mm.{head}', **kw),
        data_preprocessor=dict(mean=[120.] * 3, std=[60.] * 3))
    if distiller is not None:
        model['type'] = 'transmamba_mm.DistillTextVideoRetrieval'
        model['distiller'] = dict(
            type='transmamba_mm.BidirectionalDistiller',
            teacher_dims=48,
            teacher_depth=3,
            **distiller)
    return model
