# VideoMamba-middle, 32 layers of width 576, as published
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='transmamba_mm.VideoMamba', arch='middle', drop_path_rate=0.5),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=576,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ]),
)
