# Mamba student for 64-pixel images in 64 tokens: the vision tower of
# llava-tiny-64, a cross-Mamba fusion, and a Mamba of 4 layers and width 192
_base_ = 'llava-tiny-64.py'

model = dict(
    language_model=dict(
        config=dict(
            _delete_=True,
            model_type='mamba',
            hidden_size=192,
            num_hidden_layers=4,
            tie_word_embeddings=True,
            initializer_range=0.02,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3)),
    fusion=dict())
