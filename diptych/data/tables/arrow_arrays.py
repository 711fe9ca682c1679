"""Python's texts, numbers and lists as Arrow's arrays, laid out here (Arrow Columnar Format, "Physical Memory Layout").

`pyarrow.array` imports pandas wherever it is installed, which takes as long as hundreds of pictures, and looks at the
type of every value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

Item = TypeVar("Item")


def texts(values: Sequence[str]) -> pa.Array:
    """Strings. Raises OverflowError for more than 2 GiB of them, UnicodeEncodeError for unpaired surrogates."""
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    return pa.StringArray.from_buffers(len(encoded), _offsets(map(len, encoded)), pa.py_buffer(b"".join(encoded)))


def numbers(values: Sequence[float], kind: pa.DataType) -> pa.Array:
    """Numbers of a `kind` of Arrow that NumPy has, too. Raises OverflowError for those that it cannot hold."""
    import pyarrow as pa

    return pa.Array.from_buffers(
        kind, len(values), [None, pa.py_buffer(np.array(values, kind.to_pandas_dtype()).tobytes())]
    )


def moments(milliseconds: Sequence[int | None]) -> pa.Array:
    """Times in UTC, from milliseconds since 1970."""
    import pyarrow as pa

    known = np.packbits(np.array([each is not None for each in milliseconds], bool), bitorder="little").tobytes()
    stored = np.array([each or 0 for each in milliseconds], np.int64).tobytes()
    buffers = [pa.py_buffer(known), pa.py_buffer(stored)]
    return pa.Array.from_buffers(pa.timestamp("ms", tz="UTC"), len(milliseconds), buffers)


def lists(values: Sequence[Sequence[Item]], inner: Callable[[list[Item]], pa.Array]) -> pa.Array:
    """Lists, whose items all together `inner` makes an array of."""
    return _lists([len(each) for each in values], inner(list(chain.from_iterable(values))))


def named(values: Sequence[Mapping[str, Item]], inner: Callable[[list[Item]], pa.Array]) -> pa.Array:
    """Values by name, as lists of names with values: `datasets` 5.2 reads no maps."""
    import pyarrow as pa

    names = texts(list(chain.from_iterable(values)))
    items = inner([item for each in values for item in each.values()])
    pairs = pa.StructArray.from_arrays([names, items], names=["name", "value"])
    return _lists([len(each) for each in values], pairs)


def _lists(lengths: Sequence[int], items: pa.Array) -> pa.Array:
    import pyarrow as pa

    return pa.Array.from_buffers(pa.list_(items.type), len(lengths), [None, _offsets(lengths)], children=[items])


def _offsets(lengths: Iterable[int]) -> pa.Buffer:
    import pyarrow as pa

    ends = list(accumulate(lengths, initial=0))
    if ends[-1] > np.iinfo(np.int32).max:
        raise OverflowError("more than Arrow's lists of 32 bits hold")
    return pa.py_buffer(np.array(ends, np.int32).tobytes())
