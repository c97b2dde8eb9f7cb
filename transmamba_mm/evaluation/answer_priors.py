"""Answers without looking: what a model must beat to have seen an image."""
from collections import Counter
from dataclasses import dataclass
from typing import Dict, Iterable, Tuple


@dataclass
class AnswerPriors:
    """The most frequent answers of a training set.

    Attributes:
        majority (str): The most frequent answer of all.
        by_question (Dict[str, str]): That of each question.
        by_opening (Dict[Tuple[str, ...], str]): That of the first one, two,
            ... words of questions, for questions that are new.
    """

    majority: str
    by_question: Dict[str, str]
    by_opening: Dict[Tuple[str, ...], str]

    @classmethod
    def fit(cls,
            pairs: Iterable[Tuple[str, str]],
            words: int = 4) -> 'AnswerPriors':
        """Count answers.

        Args:
            pairs (Iterable[Tuple[str, str]]): Questions and answers of the
                training set, normalised as in the evaluation.
            words (int): Longest opening. Defaults to 4.

        Returns:
            AnswerPriors: The priors. Of equally frequent answers, the first
            in the alphabet is taken.

        Raises:
            ValueError: There are no pairs.
        """
        total: Counter = Counter()
        questions: Dict[str, Counter] = {}
        openings: Dict[Tuple[str, ...], Counter] = {}
        for question, answer in pairs:
            total[answer] += 1
            questions.setdefault(question, Counter())[answer] += 1
            parts = question.split()
            for n in range(1, min(words, len(parts)) + 1):
                openings.setdefault(tuple(parts[:n]), Counter())[answer] += 1
        if not total:
            raise ValueError('the training set of the baselines is empty; '
                             'check `train_dataset` of VQAAnswerMetric')
        return cls(
            most_frequent(total), {
                key: most_frequent(count)
                for key, count in questions.items()
            }, {
                key: most_frequent(count)
                for key, count in openings.items()
            })

    def guess(self, question: str) -> str:
        """Answer a question without the image.

        Args:
            question (str): A question, normalised.

        Returns:
            str: The most frequent training answer to it; to a new question,
            that of its longest known opening, or of all.
        """
        if question in self.by_question:
            return self.by_question[question]
        parts = tuple(question.split())
        for n in range(len(parts), 0, -1):
            if parts[:n] in self.by_opening:
                return self.by_opening[parts[:n]]
        return self.majority


def most_frequent(counts: Counter) -> str:
    """Choose the most frequent answer.

    Args:
        counts (Counter): Counts of answers.

    Returns:
        str: The answer; of equals, the first in the alphabet.
    """
    return min(counts, key=lambda answer: (-counts[answer], answer))
