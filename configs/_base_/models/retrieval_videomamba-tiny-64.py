# VideoMamba for clips of 8 frames of 64 pixels, 64 tokens a frame, and a
# small text tower (our choice)
model = dict(
    type='transmamba_mm.TextVideoRetrieval',
    backbone=dict(
        type='transmamba_mm.VideoMamba',
        arch=dict(embed_dims=192, num_layers=12, d_state=8),
        img_size=64,
        patch_size=8,
        num_frames=8,
        drop_path_rate=0.1),
    text_tower=dict(
        type='transmamba_mm.OpenCLIPTextTower',
        arch=dict(
            context_length=16,
            vocab_size=49408,
            width=192,
            heads=3,
            layers=4,
            output_dim=192)),
    head=dict(type='transmamba_mm.MeanPoolHead'))
