"""The collection of an index: one for pictures and texts, each in a partition of their own, because a graph of both
would lead a text's search to the texts. Its properties hold the facts."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.errors import IndexDirectoryError, IndexNewerError, StoreError
from diptych.index.catalog.facts import valid_facts
from diptych.index.catalog.schema import MODALITIES
from diptych.index.stores.milvus.connection import Connection
from diptych.index.stores.milvus.expressions import Expression, ids_in
from diptych.index.stores.milvus.schema import VectorForm, collection_schema, form_of
from diptych.media.items import Modality
from diptych.untrusted.json import parse_json

FORMAT = 1
EVERYTHING = Expression()
_FORMAT_KEY, _FACT, _SETTINGS_KEY = "diptych.format", "diptych.fact.", "diptych.search"
_CHANGE_KEY, _NEWEST_KEY = "diptych.change", "diptych.newest"
_IDS_AT_ONCE = 1000
_BATCH, _LITE_BATCH = 4096, 16_384  # rows, at most these; Milvus Lite looks at all rows for each batch
_BATCH_NUMBERS = 1 << 21  # numbers of the vectors of a batch

# What was written is found by reads that wait for it, "Strong"; "Session", which should find what this process wrote,
# misses what it deleted on servers that say no time of that (2.3)
_WAITING, _READY = "Strong", "Session"


class Description(NamedTuple):
    """What a collection says of itself: the form of its vectors, its facts, and how it is searched."""

    form: VectorForm
    facts: dict[str, Any]
    settings: dict[str, Any]


class Collection:
    """The collection `name` of a Milvus. Raises StoreError, IndexDirectoryError where there is none."""

    def __init__(self, connection: Connection, name: str):
        self.connection, self.name = connection, name
        self._loaded_in = self._settled_in = -1  # epochs of the connection
        self._form: VectorForm | None = None

    # --- what it is

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        try:
            return bool(self.connection.call("has_collection", self.name))
        except IndexDirectoryError:
            return False

    def description(self) -> Description:
        """Raises StoreError if it is not one of diptych, IndexNewerError if a later version made it."""
        if not self.exists:
            raise IndexDirectoryError(f"{self.connection.name} holds no index; copy one there first.")
        described = self._described()
        properties, form = described["properties"], form_of(described)
        format = str(properties.get(_FORMAT_KEY, ""))
        if format.isdecimal() and int(format) > FORMAT:
            raise IndexNewerError(f"{self.connection.name} has format {format}; this diptych reads {FORMAT}.")
        if form is None or format != str(FORMAT):
            raise StoreError(
                f"{self.connection.name}: the collection {self.name} was not made by diptych; it was not changed.",
                remedy="Name another one in the URI.",
            )
        self._form = form
        return Description(form, _facts_in(properties), _table(properties.get(_SETTINGS_KEY)))

    @property
    def form(self) -> VectorForm:
        """Of its vectors."""
        return self._form or self.description().form

    def create(self, dim: int, facts: Mapping[str, Any]) -> None:
        """Make it. It is there with all its facts, or not at all."""
        self.connection.call("has_collection", self.name, make=True)
        form = VectorForm(dim, self.connection.has_half)
        self.connection.call(
            "create_collection", self.name, schema=collection_schema(form), consistency_level=_READY, again=False,
            properties={_FORMAT_KEY: str(FORMAT), **_properties(facts)},
        )  # fmt: skip
        for modality in MODALITIES:
            self.connection.call("create_partition", self.name, modality)
        if not self.connection.is_lite:
            self.index("FLAT", {})
        self._form = form

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Add or replace facts; None deletes one."""
        self._alter(_properties(facts))

    @property
    def change(self) -> str:
        """A text that is another after each change."""
        return str(self._described()["properties"].get(_CHANGE_KEY, "0"))

    @property
    def newest_id(self) -> int:
        """The highest id, as `note_change` left it."""
        newest = _value(self._described()["properties"].get(_NEWEST_KEY))
        return newest if isinstance(newest, int) else 0

    def note_change(self, ids: Sequence[int], *, newest: int | None = None) -> None:
        """Something was written, among it these ids."""
        self.connection.forget()
        highest = max([self.newest_id if newest is None else newest, *ids])
        self._alter({_CHANGE_KEY: secrets.token_hex(6), _NEWEST_KEY: json.dumps(highest)})

    def _described(self) -> dict[str, Any]:
        described = self.connection.call("describe_collection", self.name)
        return {**described, "properties": _as_texts(described.get("properties") or {})}

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """How it is searched."""
        self._alter({_SETTINGS_KEY: json.dumps(settings)})

    def _alter(self, properties: dict[str, str]) -> None:
        if properties:
            self.connection.call("alter_collection_properties", self.name, properties=properties)

    # --- indexes

    def load(self) -> None:
        """Make it ready for reading, if it is not."""
        if self._loaded_in != self.connection.epoch:
            state = self.connection.call("get_load_state", self.name)["state"]
            if state.name != "Loaded":
                self.connection.call("load_collection", self.name)
            self._loaded_in = self.connection.epoch

    def index(self, kind: str, params: Mapping[str, Any], *, timeout_s: float | None = None) -> None:
        """Replace the index of the vectors, and load it. "FLAT" compares all; Milvus Lite has none for that."""
        call = self.connection.call
        self._loaded_in = -1
        call("release_collection", self.name, timeout_s=timeout_s)
        if call("list_indexes", self.name):
            call("drop_index", self.name, "vector", timeout_s=timeout_s)
        if kind != "FLAT" or not self.connection.is_lite:
            from pymilvus import MilvusClient

            wanted = MilvusClient.prepare_index_params()
            wanted.add_index("vector", index_name="vector", index_type=kind, metric_type="IP", params=dict(params))
            call("create_index", self.name, wanted, timeout_s=timeout_s)
        call("load_collection", self.name, timeout_s=timeout_s)
        self._loaded_in = self.connection.epoch

    def flush(self, *, timeout_s: float | None = None) -> None:
        """Seal what was written, so that it is indexed."""
        self.connection.call("flush", self.name, timeout_s=timeout_s)

    # --- reading

    def count(self, modality: Modality, expression: Expression = EVERYTHING) -> int:
        """How many rows pass."""
        key = "count", modality, expression.text
        if (known := self.connection.kept(key)) is None:
            known = self._counted(modality, expression)
            self.connection.keep(key, known)
        return known

    def _counted(self, modality: Modality, expression: Expression) -> int:
        if self.connection.is_lite and not expression.template:  # it would count the other partition as well
            return int(self.connection.call("get_partition_stats", self.name, modality)["row_count"])
        return int(self._read("query", modality, expression, output_fields=["count(*)"])[0]["count(*)"])

    def settle(self) -> None:
        """Wait until reads find all that was written, by whomever. The first read does, and the first after a write;
        what other processes write later is found within seconds."""
        self.load()
        if not self.connection.is_lite:
            self.connection.call("query", self.name, filter="id in [0]", consistency_level=_WAITING)
        self._settled_in = self.connection.epoch

    def rows(self, modality: Modality | None, expression: Expression, fields: Sequence[str]) -> list[dict[str, Any]]:
        """The rows that pass, as many as one query may find."""
        return list(self._read("query", modality, expression, output_fields=list(fields)))

    def rows_with_ids(
        self, ids: Sequence[int], fields: Sequence[str], *, modality: Modality | None = None
    ) -> dict[int, dict[str, Any]]:
        """The rows with these ids, by id."""
        found = dict[int, dict[str, Any]]()
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids_in(list(ids[start : start + _IDS_AT_ONCE]))
            found |= {int(row["id"]): row for row in self.rows(modality, some, fields)}
        return found

    def batches(
        self,
        modality: Modality | None,
        expression: Expression,
        fields: Sequence[str],
        *,
        after: int | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """All rows that pass, ascending by id, some thousand at a time."""
        size = _LITE_BATCH if self.connection.is_lite else _BATCH
        if "vector" in fields:
            size = max(256, min(size, _BATCH_NUMBERS // self.form.dim))
        while True:
            beyond = Expression("id > {after}", {"after": after}) if after is not None else EVERYTHING
            rows = self._page(modality, expression & beyond, fields, size)
            if rows:
                yield rows
            if not rows or (self.connection.is_lite and len(rows) < size):
                return
            if after is not None and int(rows[-1]["id"]) <= after:  # or the loop would not end
                raise StoreError(f"{self.connection.name} returned rows that were not asked for.")
            after = int(rows[-1]["id"])

    def _page(
        self, modality: Modality | None, expression: Expression, fields: Sequence[str], size: int
    ) -> list[dict[str, Any]]:
        """The first rows that pass by id: what pymilvus's iterator asks for, which asks twice more before."""
        first = {"iterator": "True", "reduce_stop_for_best": "True", "limit": size}
        rows = self._read("query", modality, expression, output_fields=list(fields), **first)
        return sorted(rows, key=lambda row: row["id"])

    def nearest(
        self,
        queries: np.ndarray,
        k: int,
        modality: Modality,
        expression: Expression = EVERYTHING,
        *,
        params: Mapping[str, Any],
        timeout_s: float | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each query the ids of near rows, and their vectors as (rows, dim) float16, in any order."""
        found = self._read(
            "search", modality, expression, data=list(self.form.outgoing(queries)),
            anns_field="vector", limit=k,
            output_fields=["vector"], search_params={"metric_type": "IP", "params": dict(params)}, timeout_s=timeout_s,
        )  # fmt: skip
        results = []
        for hits in found:
            ids = np.fromiter((hit["id"] for hit in hits), np.int64, len(hits))
            results.append((ids, self.form.incoming([hit["entity"]["vector"] for hit in hits])))
        return results

    def _read(self, method: str, modality: Modality | None, expression: Expression, **more: Any) -> Any:
        if self._settled_in != self.connection.epoch:
            self.settle()
        self.load()
        return self.connection.call(
            method, self.name, partition_names=_partitions(modality), consistency_level=_READY,
            **expression.arguments(self.connection.has_templates), **more,
        )  # fmt: skip

    # --- writing

    def upsert(self, modality: Modality, rows: list[dict[str, Any]]) -> None:
        """Store rows, replacing those with their ids."""
        if rows:
            self._settled_in = -1
            self.connection.call("upsert", self.name, rows, partition_name=modality, again=False)
            self.connection.forget()

    def delete(self, ids: Sequence[int], modality: Modality | None = None) -> None:
        """Delete rows; unknown ids are ignored."""
        self._settled_in = -1
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = [int(id) for id in ids[start : start + _IDS_AT_ONCE]]
            self.connection.call("delete", self.name, ids=some, partition_name=modality)
        self.connection.forget()


def _as_texts(properties: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in properties.items()}


def _partitions(modality: Modality | None) -> list[str] | None:
    return [modality] if modality else None


def _properties(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as texts in ASCII: names of folders may be bytes that are not UTF-8."""
    return {f"{_FACT}{key}": json.dumps(value) for key, value in facts.items()}


def _facts_in(properties: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, text in properties.items():
        if key.startswith(_FACT) and (value := _value(text)) is not None:
            found[key[len(_FACT) :]] = value
    return valid_facts(found)


def _table(text: Any) -> dict[str, Any]:
    value = _value(text)
    return value if isinstance(value, dict) else {}


def _value(text: Any) -> Any:
    try:
        return parse_json(text) if isinstance(text, str) else None
    except ValueError:
        return None
