"""What pymilvus raises, in words."""

import pytest

from diptych.errors import FilterError, IndexDirectoryError, StoreError, StoreLostError

pymilvus = pytest.importorskip("pymilvus")

from diptych.index.stores.milvus.errors import store_error  # noqa: E402

SECRETS = frozenset({"hunter2"})


def said(error: BaseException) -> BaseException:
    return store_error(error, "milvus://h/n", SECRETS, 30)


def milvus_error(message: str, code: int = 65535) -> Exception:
    return pymilvus.MilvusException(code, message)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("[Errno 28] No space left on device: '/data/wal'", "no room left.*Make room"),
        ("auth check failure, please check api key is correct", "refused the user name, password or token"),
        ("DEADLINE_EXCEEDED: deadline exceeded", "did not answer within 30 s"),
        (
            "fail to search: [line\n  two] hunter2 " + "x" * 1000,
            r"failed: fail to search: \[line two\] \*\*\* x+\.\.\.",
        ),
    ],
)
def test_a_message_says_what_came_and_what_next(message: str, words: str) -> None:
    error = said(milvus_error(message))
    assert type(error) is StoreError
    with pytest.raises(StoreError, match=words):
        raise error
    assert "hunter2" not in str(error)
    assert len(str(error)) < 500


def test_causes_that_run_in_circles_have_an_end() -> None:
    first, second = milvus_error("Fail connecting to server", 2), ValueError("StatusCode.UNAUTHENTICATED")
    first.__cause__, second.__context__ = second, first
    assert "refused the user name" in str(said(first))
    second.__context__ = None
    assert "refused the user name" in str(said(first))


def test_kinds_of_errors_are_told_apart() -> None:
    assert isinstance(said(milvus_error("collection not found[database=default]", 100)), IndexDirectoryError)
    assert isinstance(said(milvus_error("Socket closed: UNAVAILABLE", 2)), StoreLostError)
    ours = FilterError("a filter")
    assert said(ours) is ours
