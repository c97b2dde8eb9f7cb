# VideoMamba for 32-pixel images in 64 tokens, 12 layers of width 192
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='transmamba_mm.VideoMamba', arch='tiny-32', drop_path_rate=0.0),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=192,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
