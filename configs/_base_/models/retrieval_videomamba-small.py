# VideoMamba for clips of 8 frames of 224 pixels, and the text tower of a CLIP
model = dict(
    type='transmamba_mm.TextVideoRetrieval',
    backbone=dict(
        type='transmamba_mm.VideoMamba',
        arch='small',
        img_size=224,
        num_frames=8,
        drop_path_rate=0.1,
        with_cp=True),
    text_tower=dict(
        type='transmamba_mm.OpenCLIPTextTower', arch='ViT-B-16-quickgelu'),
    head=dict(type='transmamba_mm.MeanPoolHead'))
