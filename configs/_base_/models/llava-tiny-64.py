# LLaVA-type teacher for 64-pixel images in 64 tokens: a ViT of 4 layers and a
# LLaMA of 6, width 192, trained from scratch
model = dict(
    type='transmamba_mm.TransLlava',
    vision_tower=dict(
        backbone=dict(
            type='mmpretrain.VisionTransformer',
            arch=dict(
                embed_dims=192,
                num_layers=4,
                num_heads=3,
                feedforward_channels=768),
            img_size=64,
            patch_size=8)),
    language_model=dict(
        config=dict(
            model_type='llama',
            hidden_size=192,
            num_hidden_layers=6,
            num_attention_heads=3,
            intermediate_size=512,
            tie_word_embeddings=True,
            initializer_range=0.02,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3)),
    freeze=())
