# Mamba student of 0.6B parameters beside its tower (615M in the language
# model, of which 197M are words), the size that the paper gives; width and
# depth are our choice. Its words are the teacher's
model = dict(
    type='transmamba_mm.TransLlava',
    vision_tower=dict(
        backbone=dict(
            type='transmamba_mm.HFTeacher',
            pretrained='checkpoints/clip-vit-large-patch14-336')),
    language_model=dict(
        config=dict(
            model_type='mamba',
            vocab_size=128256,
            hidden_size=1536,
            num_hidden_layers=28,
            tie_word_embeddings=True,
            initializer_range=0.02,
            bos_token_id=128000,
            eos_token_id=128001,
            pad_token_id=128001),
        gradient_checkpointing=True,
        prefill_chunk=1024),
    tokenizer='checkpoints/Llama-3.2-1B',
    fusion=dict(),
    max_length=4096)
