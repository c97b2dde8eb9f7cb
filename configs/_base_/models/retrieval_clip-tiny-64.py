# CLIP4Clip for clips of 8 frames of 64 pixels: a small CLIP that sees each
# frame by itself (our choice)
model = dict(
    type='transmamba_mm.TextVideoRetrieval',
    backbone=dict(
        type='transmamba_mm.OpenCLIPVideoTower',
        num_frames=8,
        arch=dict(
            image_size=64,
            patch_size=8,
            width=192,
            layers=12,
            heads=3,
            output_dim=192)),
    text_tower=dict(
        type='transmamba_mm.OpenCLIPTextTower',
        arch=dict(
            context_length=16,
            vocab_size=49408,
            width=192,
            heads=3,
            layers=4,
            output_dim=192)),
    head=dict(type='transmamba_mm.MeanPoolHead', with_projection=False))
