# LLaVA-type teacher of 1.2B parameters beside its tower: Llama-3.2-1B behind
# the patch tokens of CLIP ViT-L/14 at 336 pixels, as in LLaVA-1.5
model = dict(
    type='transmamba_mm.TransLlava',
    vision_tower=dict(
        backbone=dict(
            type='transmamba_mm.HFTeacher',
            pretrained='checkpoints/clip-vit-large-patch14-336')),
    language_model=dict(pretrained='checkpoints/Llama-3.2-1B'),
    tokenizer='checkpoints/Llama-3.2-1B',
    max_length=4096)
