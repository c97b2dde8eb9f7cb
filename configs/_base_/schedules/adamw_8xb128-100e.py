# Fine-tuning of a teacher: as the students, 100 epochs
_base_ = 'adamw_8xb128-300e.py'

train_cfg = dict(max_epochs=100)
