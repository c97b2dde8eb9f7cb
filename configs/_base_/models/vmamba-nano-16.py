# VMamba for 16-pixel images: stem strides 2 and 1, grids of 8, 4, 2 and 1
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='transmamba_mm.VMamba', arch='nano-16', drop_path_rate=0.0),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
