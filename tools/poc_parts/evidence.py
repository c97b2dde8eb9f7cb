"""Means, margins and the verdict."""
import math
import statistics
from typing import Dict, List, Optional, Sequence

import numpy as np

#: Confidence of margins.
LEVEL = 0.95


def spread(values: Sequence[float]) -> Dict:
    """Join the values of several seeds.

    Args:
        values (Sequence[float]): One a seed.

    Returns:
        Dict: ``mean``, ``std`` (None of a single value) and ``values``.
    """
    values = [float(v) for v in values]
    return dict(
        mean=statistics.mean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        values=values)


def compare(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Dict:
    """Compare two groups of runs on the same validation images.

    The margin joins two sources of chance: the seeds (Student's t with
    pooled degrees of freedom) and the validation images (normal, paired by
    image; the rule of three where no image tells them apart). With a single
    seed the first is not known (our choice).

    Args:
        first (Sequence[np.ndarray]): A run's flags "right" (N,), one a seed.
        second (Sequence[np.ndarray]): Those of the runs it is compared with.

    Returns:
        Dict: ``difference`` in points of accuracy, ``margin`` (half the 95 %
        interval), ``of_seeds`` (None if not known) and ``of_images``.
    """
    means = [[100 * float(run.mean()) for run in runs]
             for runs in (first, second)]
    difference = statistics.mean(means[0]) - statistics.mean(means[1])
    paired = 100 * (np.mean(first, axis=0) - np.mean(second, axis=0))
    of_images = 1.96 * float(paired.std()) / math.sqrt(len(paired))
    if not paired.any():  # the rule of three
        of_images = min(100., 300 / len(paired))
    of_seeds = None
    if min(map(len, means)) > 1:
        from scipy.stats import t
        error = math.sqrt(sum(statistics.variance(m) / len(m) for m in means))
        freedom = sum(map(len, means)) - 2
        of_seeds = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    return dict(
        difference=difference,
        margin=math.hypot(of_images, of_seeds or 0.),
        of_seeds=of_seeds,
        of_images=of_images)


def judge(comparison: Dict) -> str:
    """Say what a comparison shows.

    Args:
        comparison (Dict): See :func:`compare`.

    Returns:
        str: 'better', 'worse', or 'open' if chance may explain it.
    """
    if abs(comparison['difference']) <= comparison['margin']:
        return 'open'
    return 'better' if comparison['difference'] > 0 else 'worse'


def reliability(confidences: np.ndarray,
                right: np.ndarray,
                bins: int = 10) -> List[Dict]:
    """Sort answers by confidence.

    Args:
        confidences (np.ndarray): Probability of the given answer (N,).
        right (np.ndarray): Whether it is right (N,).
        bins (int): Number of equal bins. Defaults to 10.

    Returns:
        List[Dict]: ``confidence``, ``accuracy`` (means in per cent) and
        ``images`` of each bin that is not empty.
    """
    index = np.clip((confidences * bins).astype(int), 0, bins - 1)
    return [
        dict(
            confidence=100 * float(confidences[index == i].mean()),
            accuracy=100 * float(right[index == i].mean()),
            images=int((index == i).sum())) for i in range(bins)
        if (index == i).any()
    ]


def costs(prices: Dict, images: int, train_seconds: float,
          images_per_s: Optional[float]) -> Dict:
    """Estimate what a model costs.

    Args:
        prices (Dict): ``hour``, ``image``, ``serve_hour`` and
            ``images_per_month``, each None if not set.
        images (int): Labelled training images.
        train_seconds (float): Seconds of training.
        images_per_s (float, optional): Throughput in service.

    Returns:
        Dict: ``data``, ``training``, ``total`` (of those known) and
        ``month`` (of predictions), each None where a price is missing.
    """
    data = _times(prices['image'], images)
    training = _times(prices['hour'], train_seconds / 3600)
    known = [value for value in (data, training) if value is not None]
    month = None
    if images_per_s and prices['images_per_month'] is not None:
        hours = prices['images_per_month'] / images_per_s / 3600
        month = _times(prices['serve_hour'], hours)
    return dict(
        data=data,
        training=training,
        total=sum(known) if known else None,
        month=month)


def _times(price: Optional[float], amount: float) -> Optional[float]:
    return None if price is None else price * amount
