"""Recall of texts by pictures and pictures by texts, on held-out pairs.

    python bench/recall.py --data pairs/dev [--model runs/1/model]

Name two models to compare them.
"""

from table import Row, arguments, report

import diptych
from diptych.data.sources.opening import open_source
from diptych.scoring.metrics import retrieval
from diptych.training.validation import Validation

QUESTION = "Recall on held-out pairs, in percent"


def main() -> None:
    """Measure every model on the same pairs."""
    parser = arguments(QUESTION)
    parser.add_argument("--data", required=True, help="pairs, as `diptych train --data` takes them")
    parser.add_argument("--model", action="append", help="a model; may be repeated; by default the bundled one")
    options = parser.parse_args()
    source = open_source(options.data)
    rows: list[Row] = []
    for name in options.model or [None]:
        model = diptych.load(name)
        pairs = Validation.read(source, model.preprocessing)
        pictures, texts = model.embed_pixels(pairs.pixels), model.embed_texts(pairs.captions, truncate=True)
        result = retrieval(pictures, texts, pairs.image_index)
        who = f"{name or 'bundled'}, {len(pairs.pixels)} pictures x {len(pairs.captions)} texts"
        for direction, recall in result._asdict().items():
            values = recall._asdict().items()
            rows += [Row(who, value, f"{direction.replace('_', ' ')} R@{at[3:]}") for at, value in values]
    report(QUESTION, rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
