# llava-tiny-64 for 80-pixel images in 100 tokens
_base_ = 'llava-tiny-64.py'

model = dict(vision_tower=dict(backbone=dict(img_size=80)))
