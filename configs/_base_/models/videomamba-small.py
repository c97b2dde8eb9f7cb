# VideoMamba-small, 24 layers of width 384, as published
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='transmamba_mm.VideoMamba', arch='small', drop_path_rate=0.15),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ]),
)
