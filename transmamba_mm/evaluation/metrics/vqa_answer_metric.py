from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.evaluator import BaseMetric
from mmpretrain.evaluation.metrics.vqa import (_process_digit_article,
                                               _process_punctuation)
from mmpretrain.registry import DATASETS

from transmamba_mm.datasets.transforms.tokenize_conversation import best_answer
from transmamba_mm.registry import METRICS
from ..answer_priors import AnswerPriors

UNTYPED = 'untyped'


@METRICS.register_module()
class VQAAnswerMetric(BaseMetric):
    """Accuracy of answers per answer type, with baselines beside it.

    Answers are compared after VQA's usual normalisation (punctuation,
    articles, numbers in words). A sample scores 1 or 0; if its answers have
    weights (the parts of ten people who gave them), it scores VQA's
    ``min(1, weight / full_score_weight)``. All results are in percent:

    - 'acc' and 'acc_TYPE', and 'mean_type_acc', the mean of the types, which
      frequent types cannot dominate;
    - 'majority_acc...': the most frequent training answer, always;
    - 'question_only_acc...': the most frequent training answer to the same
      question, or to its opening, without the image;
    - 'num_TYPE', the number of samples.

    A model has learnt to look only as far as it beats both.

    Args:
        train_dataset (dict, optional): Config of the training set, from
            which the baselines are counted; its pipeline is not run. Defaults
            to None, without baselines.
        answer_types (Sequence[str], optional): The types that may occur.
            Defaults to None, those of the dataset's ``METAINFO``, or any.
        full_score_weight (float): Weight of an answer that scores 1. Defaults
            to 0.3, three people of ten.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the names. Defaults to 'vqa'.
        **kwargs (Any): Other arguments of MMEngine's ``BaseMetric``.

    Raises:
        KeyError: A data sample has no ``pred_answer`` or no ``gt_answer``.
        ValueError: A sample's answer type is unknown.

    Examples:
        >>> test_evaluator = dict(
        >>>     type='transmamba_mm.VQAAnswerMetric',
        >>>     train_dataset=dict(type='transmamba_mm.EasyVQADataset'))
    """

    default_prefix = 'vqa'

    def __init__(self,
                 train_dataset: Optional[dict] = None,
                 answer_types: Optional[Sequence[str]] = None,
                 full_score_weight: float = 0.3,
                 collect_device: str = 'cpu',
                 prefix: Optional[str] = None,
                 **kwargs: Any) -> None:
        super().__init__(
            collect_device=collect_device, prefix=prefix, **kwargs)
        self.train_dataset = train_dataset
        self.answer_types = answer_types
        self.full_score_weight = full_score_weight
        self._priors: Optional[AnswerPriors] = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the answers of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): With ``pred_answer``,
                ``gt_answer``, and as a rule ``question``, ``answer_type`` and
                ``gt_answer_weight``.
        """
        for sample in data_samples:
            for name in ('pred_answer', 'gt_answer'):
                if sample.get(name) is None:
                    raise KeyError(
                        f'VQAAnswerMetric needs `{name}` in the data samples;'
                        ' check the model\'s predict and `PackConversation`')
            answers = sample['gt_answer']
            answers = [answers] if isinstance(answers, str) else answers
            self.results.append(
                dict(
                    pred=normalise(sample['pred_answer']),
                    answers=[normalise(answer) for answer in answers],
                    weights=sample.get('gt_answer_weight'),
                    question=normalise(sample.get('question', '')),
                    type=self._type(sample)))

    def _type(self, sample: dict) -> str:
        kind = sample.get('answer_type') or UNTYPED
        known = self.answer_types or (self.dataset_meta
                                      or {}).get('answer_types')
        if known and kind not in known:
            raise ValueError(
                f'answer type {kind!r} of the question '
                f'{sample.get("question")!r} is unknown; it must be one of '
                f'{tuple(known)} (`answer_types` of VQAAnswerMetric, or of '
                'the dataset)')
        return kind

    def compute_metrics(self, results: List[dict]) -> Dict[str, float]:
        """Compute accuracies.

        Args:
            results (List[dict]): From :meth:`process`, of all ranks.

        Returns:
            Dict[str, float]: The results, without prefix.
        """
        out = self._accuracies('acc', results, [r['pred'] for r in results])
        if self.train_dataset is not None:
            priors = self._fit_priors()
            guesses = dict(
                majority_acc=[priors.majority] * len(results),
                question_only_acc=[
                    priors.guess(r['question']) for r in results
                ])
            for name, answers in guesses.items():
                out.update(self._accuracies(name, results, answers))
        for kind in sorted({r['type'] for r in results}):
            out[f'num_{kind}'] = sum(r['type'] == kind for r in results)
        return out

    def _accuracies(self, name: str, results: List[dict],
                    answers: Sequence[str]) -> Dict[str, float]:
        by_type: Dict[str, List[float]] = {}
        for result, answer in zip(results, answers):
            by_type.setdefault(result['type'], []).append(
                score(answer, result['answers'], result['weights'],
                      self.full_score_weight))
        means = {t: 100 * sum(s) / len(s) for t, s in by_type.items()}
        total = sum(map(sum, by_type.values()))
        out = {name: 100 * total / len(results)}
        if set(means) != {UNTYPED}:
            out.update({f'{name}_{t}': means[t] for t in sorted(means)})
            out[f'mean_type_{name}'] = sum(means.values()) / len(means)
        return out

    def _fit_priors(self) -> AnswerPriors:
        if self._priors is None:
            cfg = dict(self.train_dataset, pipeline=[])
            dataset = DATASETS.build(cfg)
            self._priors = AnswerPriors.fit(
                _pair(dataset.get_data_info(i)) for i in range(len(dataset)))
        return self._priors


def _pair(info: dict) -> Tuple[str, str]:
    return normalise(info['question']), normalise(best_answer(info))


def normalise(text: str) -> str:
    """Normalise an answer as VQA's evaluation does.

    Args:
        text (str): An answer or a question.

    Returns:
        str: It without articles, punctuation and capitals, with digits for
        numbers.
    """
    text = text.replace('\n', ' ').replace('\t', ' ').strip()
    return _process_digit_article(_process_punctuation(text))


def score(answer: str, answers: Sequence[str],
          weights: Optional[Sequence[float]], full_weight: float) -> float:
    """Score an answer.

    Args:
        answer (str): The answer, normalised.
        answers (Sequence[str]): The right answers, normalised.
        weights (Sequence[float], optional): Their weights; None if each is
            right.
        full_weight (float): Weight that scores 1.

    Returns:
        float: From 0 to 1.
    """
    if weights is None:
        return float(answer in answers)
    weight = sum(w for a, w in zip(answers, weights) if a == answer)
    return min(1., weight / full_weight)
