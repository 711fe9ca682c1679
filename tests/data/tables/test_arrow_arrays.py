"""Arrays laid out by hand are those that pyarrow makes of the same values."""

import subprocess
import sys

import pyarrow as pa
import pytest

from diptych.data.tables import arrow_arrays as arrays

NAMED = [{"a": 0.25, "ö": -1.0}, {}, {"b": 0.0}]


def of_lists(values: list[list[str]]) -> pa.Array:
    return arrays.lists(values, arrays.texts)


def of_named(values: list[dict[str, float]]) -> pa.Array:
    return arrays.named(values, lambda each: arrays.numbers(each, pa.float64()))


@pytest.mark.parametrize(
    ("made", "values", "kind"),
    [
        (arrays.texts, ["", "a red boat", "ö\0日本"], pa.string()),
        (lambda values: arrays.numbers(values, pa.int32()), [0, -1, 2**31 - 1], pa.int32()),
        (arrays.moments, [None, 0, 1_700_000_000_000, None, -1, *range(9)], pa.timestamp("ms", tz="UTC")),
        (of_lists, [["a", "b"], [], [""]], pa.list_(pa.string())),
    ],
)
def test_arrays_are_those_of_pyarrow(made, values, kind) -> None:
    for some in (values, []):
        found = made(some)
        found.validate(full=True)
        assert found.equals(pa.array(some, kind))
        assert found.null_count == sum(each is None for each in some)


def test_values_by_name() -> None:
    kind = pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))
    wanted = pa.array([[{"name": name, "value": each} for name, each in row.items()] for row in NAMED], kind)
    found = of_named(NAMED)
    found.validate(full=True)
    assert found.equals(wanted)


def test_numbers_too_large_are_refused() -> None:
    with pytest.raises(OverflowError):
        arrays.numbers([2**31], pa.int32())


def test_a_table_imports_no_pandas() -> None:
    pytest.importorskip("pandas")
    code = (
        "import sys; from diptych.collect.output.facts import facts_of, table_of; from drawn_pairs import drawn_pair;"
        "table = table_of([facts_of(drawn_pair(0), '000')], '0.tar');"
        "print(table.num_rows, 'pandas' in sys.modules)"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1", "False"]
