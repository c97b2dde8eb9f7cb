# VideoMamba for 16-pixel images in 16 tokens, 4 layers of width 64
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='transmamba_mm.VideoMamba', arch='nano-16', drop_path_rate=0.0),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
