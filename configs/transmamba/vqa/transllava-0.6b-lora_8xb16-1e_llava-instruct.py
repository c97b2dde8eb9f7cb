_base_ = 'transllava-0.6b_8xb16-1e_llava-instruct.py'

# adapters in the language model
model = dict(language_model=dict(lora=dict(r=128, lora_alpha=256)))
