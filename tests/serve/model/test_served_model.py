"""What the server's model remembers."""

from collections.abc import Iterator

import numpy as np
import pytest

import diptych
from diptych.errors import TokenizerError
from diptych.serve.model.engine_queue import EngineQueue
from diptych.serve.model.served_model import ServedModel


@pytest.fixture
def served(tiny: diptych.Embedder) -> Iterator[ServedModel]:
    queue = EngineQueue(tiny)
    yield ServedModel(tiny, queue)
    queue.close()


def test_a_text_that_was_searched_for_is_not_embedded_again(served: ServedModel, tiny: diptych.Embedder) -> None:
    served.embed_texts(["a red house"])
    texts = ["a blue star", "a red house", "a green square"]
    np.testing.assert_allclose(served.embed_texts(texts), tiny.embed_texts(texts), atol=1e-5)
    assert served.queue.embedded["text"] == 3
    assert served.embed_texts([]).shape == (0, tiny.dim)


def test_a_long_text_that_was_cut_is_still_an_error_where_it_may_not_be(served: ServedModel) -> None:
    served.embed_texts("a " * 300, truncate=True)
    with pytest.raises(TokenizerError):
        served.embed_texts("a " * 300)
