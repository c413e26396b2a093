"""What a search of a trained model's smaller networks finds at half of its multiply-accumulates.

A model is trained, made elastic and searched, and what is found is compared with uniform widths at
as many multiply-accumulates: the first channels of every layer, and the largest by L1; of what has
heads, also with heads and MLPs alone made smaller. All are trained on alike, three seeds of
everything.

* digits: a small ResNet on scikit-learn's images;
* fashion: the same on Fashion-MNIST (``--data``, torchvision's layout);
* text: a small GPT on the characters of a text, of ``--text`` or of Python's own help topics.

Long: what is done stands in ``--out``, and the same command goes on from there. Test examples
decide nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from _results import Kept
from _smaller import Lengths, Study
from _subjects import PARTS, Subject, subjects

HEAD = """\
| data | network | million MACs, by seed | at once | trained on | each |
|---|---|---|---|---|---|"""


def table(subject: Subject, studies: list[Study]) -> str:
    """Return the rows of a subject in Markdown."""
    lines = []
    scale = 100.0 if subject.metric == "accuracy" else 1.0
    for row in studies[0].rows:
        each = [study.tuned(row) for study in studies]
        tuned = scale * np.array([scores["tuned"] for scores in each])
        at_once = scale * np.mean([scores["at_once"] for scores in each])
        macs = ", ".join(f"{scores['macs'] / 1e6:.2f}" for scores in each)
        lines.append(
            f"| {subject.name} | {row} | {macs} | {at_once:.2f} | {tuned.mean():.2f} ± "
            f"{tuned.std(ddof=1):.2f} | {', '.join(f'{score:.2f}' for score in tuned)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Compute what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of Fashion-MNIST; left out without it")
    parser.add_argument("--text", help="file of a text; Python's help topics without it")
    parser.add_argument("--out", type=Path, help="folder of all results; else a temporary one")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=16, help="of the models")
    parser.add_argument("--supernet-epochs", type=int, default=8)
    parser.add_argument("--tuning-epochs", type=int, default=4)
    parser.add_argument("--trials", type=int, default=150, help="of a search")
    parser.add_argument("--quick", action="store_true", help="a minute: says nothing")
    given = parser.parse_args()
    lengths = Lengths(given.epochs, given.supernet_epochs, given.tuning_epochs, given.trials)
    if given.quick:
        given.seeds, lengths = 2, Lengths(1, 1, 1, 4)
    if given.seeds < 2:
        parser.error("a standard deviation needs at least two seeds")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        out = given.out or Path(temporary)
        kept = Kept(out / "converted.json", {**asdict(lengths), "quick": given.quick})
        tables = [HEAD]
        for subject in subjects(given.parts, given.data, given.text, given.quick):
            studies = [Study(subject, lengths, seed, kept, out) for seed in range(given.seeds)]
            tables.append(table(subject, studies))
        print("\n".join(tables))


if __name__ == "__main__":
    main()
