"""Turn questions about the pictures of a data set, and their answers, into a table."""

from pipeline.core import paths
from pipeline.core.params import load, section
from pipeline.corpus.questions import QuestionParams, extract_questions
from stages import run


def questions(dataset: str) -> None:
    """Write data/corpus/DATASET."""
    params = section(QuestionParams, load(), f"questions.{dataset}")
    report = extract_questions(paths.raw(params.raw), paths.image_table(params.about), paths.corpus(dataset), params)
    print(f"{dataset}: {report['kept']} of {report['read']} questions, about pictures of {params.about}")


if __name__ == "__main__":
    run(questions)
