import torch.nn.functional as F
from torch import Tensor


def logit_distillation_loss(student: Tensor, teacher: Tensor,
                            temperature: float) -> Tensor:
    """KL divergence between softened class distributions, times T^2.

    Source: Hinton et al., `Distilling the Knowledge in a Neural Network
    <https://arxiv.org/abs/1503.02531>`_.

    Args:
        student (Tensor): Logits (B, K).
        teacher (Tensor): Logits (B, K).
        temperature (float): T, positive.

    Returns:
        Tensor: Scalar, float32.
    """
    log_p = F.log_softmax(student.float() / temperature, dim=-1)
    log_q = F.log_softmax(teacher.float() / temperature, dim=-1)
    divergence = F.kl_div(log_p, log_q, reduction='batchmean', log_target=True)
    return divergence * temperature**2
