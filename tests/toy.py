"""A toy task: tell four bright quadrants apart, with small models."""
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample

NORMALISE = dict(mean=[120., 120., 120.], std=[60., 60., 60.], num_classes=4)


@DATASETS.register_module()
class ToyDataset(BaseDataset):
    """Random 16-pixel images whose class is the bright quadrant.

    Args:
        length (int): Number of images. Defaults to 16.
    """

    METAINFO = dict(classes=('a', 'b', 'c', 'd'))

    def __init__(self, length=16, **kwargs):
        self.length = length
        super().__init__(**kwargs)

    def load_data_list(self):
        return [dict(gt_label=i % 4, seed=i) for i in range(self.length)]

    def get_cat_ids(self, idx):
        return [self.get_data_info(idx)['gt_label']]

    def get_gt_labels(self):
        return [info['gt_label'] for info in self.data_list]

    def prepare_data(self, idx):
        info = self.get_data_info(idx)
        generator = torch.Generator().manual_seed(info['seed'])
        image = torch.randint(0, 120, (3, 16, 16), generator=generator)
        row, column = divmod(info['gt_label'], 2)
        image[:, 8 * row:8 * row + 8, 8 * column:8 * column + 8] += 130
        sample = DataSample().set_gt_label(info['gt_label'])
        sample.set_metainfo(dict(num_classes=4, sample_idx=idx))
        return dict(inputs=image.to(torch.uint8), data_samples=sample)


def vit_cfg(embed_dims=48, num_layers=6, num_classes=4, **kwargs):
    """Config of a small ViT classifier, the teacher."""
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='VisionTransformer',
            arch=dict(
                embed_dims=embed_dims,
                num_layers=num_layers,
                num_heads=4,
                feedforward_channels=2 * embed_dims),
            img_size=16,
            patch_size=4,
            **kwargs),
        head=dict(
            type='LinearClsHead',
            num_classes=num_classes,
            in_channels=embed_dims,
            loss=dict(type='CrossEntropyLoss')),
        data_preprocessor=dict(NORMALISE))


def student_cfg(kind='VisionMamba',
                distiller=None,
                train_cfg=None,
                **backbone):
    """Config of a small student of width 32 and 3 layers.

    VMamba has three stages instead, of width 8, 16 and 32.
    """
    shape = dict(
        arch=dict(embed_dims=32, num_layers=3, d_state=4), patch_size=4)
    if kind == 'VMamba':
        shape = dict(
            arch=dict(embed_dims=8, depths=(1, 1, 1), d_state=4), patch_size=1)
    model = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type=f'transmamba_mm.{kind}', img_size=16, **shape, **backbone),
        head=dict(
            type='LinearClsHead',
            num_classes=4,
            in_channels=32,
            loss=dict(type='CrossEntropyLoss')),
        data_preprocessor=dict(NORMALISE))
    if train_cfg is not None:
        model['train_cfg'] = train_cfg
        model['head']['loss'] = dict(
            type='LabelSmoothLoss',
            label_smooth_val=0.1,
            num_classes=4,
            mode='original')
        model['head']['cal_acc'] = False
    if distiller is not None:
        model['type'] = 'transmamba_mm.DistillClassifier'
        model['distiller'] = dict(
            type='transmamba_mm.BidirectionalDistiller',
            teacher_dims=48,
            teacher_depth=6,
            **distiller)
    return model


def make_runner(work_dir, model, custom_hooks=(), epochs=1, **kwargs):
    """Build a CPU runner on the toy task."""
    loader = dict(
        batch_size=8,
        num_workers=0,
        dataset=dict(type='ToyDataset'),
        sampler=dict(type='DefaultSampler', shuffle=True))
    cfg = dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_dataloader={
            **loader, 'sampler': dict(type='DefaultSampler', shuffle=False)
        },
        val_cfg=dict(),
        val_evaluator=dict(type='mmpretrain.Accuracy'),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=list(custom_hooks),
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        experiment_name=f'toy_{id(model)}_{torch.rand(1).item()}',
    )
    cfg.update(kwargs)
    return Runner.from_cfg(Config(cfg))
