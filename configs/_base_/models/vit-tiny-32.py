# Teacher for 32-pixel images: a ViT of 12 layers and width 192, with
# convolutional position encoding
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='transmamba_mm.ConvPosViT',
        arch=dict(
            embed_dims=192,
            num_layers=12,
            num_heads=3,
            feedforward_channels=768),
        img_size=32,
        patch_size=4),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=192,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
