"""Whether this user made or accepted an index, and so which of its facts may be used.

A catalog's facts are untrusted data, but two of them have effects: the model that it names is opened, which may
download it, and its root is searched. Both are used only if `identity.json`, beside the catalog, contains them with a
checksum by this user's key, under an id that the user's configuration records. So an index stays trusted when it is
moved or copied, and becomes untrusted when its facts are altered. The identity is read before SQLite opens the catalog,
whose facts must then match. Several users may share an index: each has an entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diptych.errors import MessageParts, Setting, warn
from diptych.index.trust import identity, trusted_indexes
from diptych.index.trust.identity import Facts, Identity
from diptych.index.trust.trusted_indexes import TrustOrigin, TrustRecord, describe_error
from diptych.index.trust.untrusted_index import predates, shown
from diptych.storage.directory import IndexDirectory


class Trust:
    """What this user trusts of the index in a directory. `is_apart` means that the directory is not in the folder of
    the pictures; with `accept` the user accepts the index as it is.

    `record` is this user's record of the index, None if it is untrusted. `is_altered` means that it was trusted before
    its facts changed, `is_changing` that a change of its facts was interrupted, `is_trusted` that its facts may be
    used. All four refer to the catalog that was confirmed last. `notice` gets messages for the user.
    """

    def __init__(
        self,
        directory: IndexDirectory,
        *,
        is_apart: bool,
        accept: bool = False,
        notice: Callable[[MessageParts], None] = warn,
    ):
        self.record: TrustRecord | None = None
        self.is_altered = False
        self.accepts = self.is_trusted = accept
        self.is_changing = False
        self._directory, self._is_apart, self._notice = directory, is_apart, notice
        self._identity = Identity()
        self._was_here = False  # before this version
        self._has_notified = False

    def _set_record(self, record: TrustRecord | None) -> None:
        self.record, self.is_trusted = record, record is not None or self.accepts

    @property
    def model(self) -> str | None:
        """The model of the index by its signed facts, whatever its catalog contains; None if it is untrusted."""
        known = self._read()
        return known.facts[-1].model if known.record else None

    @property
    def signed(self) -> TrustRecord | None:
        """The record by the index's identity alone, whatever its catalog contains."""
        return self._read().record

    @property
    def trouble(self) -> Exception | None:
        """Why the user's configuration cannot be used; None if it can."""
        return self._identity.trouble

    def has_root(self, root: str) -> bool:
        """Whether pictures of the confirmed catalog may be looked for in this root."""
        return self.accepts or (self.record is not None and any(each.root == root for each in self._identity.facts))

    # --- deciding

    def is_known(self) -> bool:
        """Whether the index is this user's by its identity alone, before the catalog is opened."""
        is_known = self._read().record is not None
        # checked now, because opening the catalog may roll a transaction back and so change its file
        self._was_here = not is_known and self._is_earlier()
        return is_known or self.accepts or self._was_here

    def confirm(self, claimed_facts: Mapping[str, Any]) -> None:
        """Compare the facts of the opened catalog with the identity. An untrusted index is accepted if the user asked
        for it, or once if this user's earlier version made it."""
        is_same = self._identity.matches(claimed_facts, is_apart=self._is_apart)
        if not is_same:  # another process may just have replaced the catalog
            is_same = self._read().matches(claimed_facts, is_apart=self._is_apart)
        self._set_record(self._identity.record if is_same else None)
        self.is_changing = len(self._identity.facts) > 1
        self.is_altered = self._identity.record is not None and not is_same
        if self.record is None and self.accepts:
            self.accept(claimed_facts)
        elif self.record is None and self._was_here and self.accept(claimed_facts, "earlier"):
            self._notice(_accepted_once(self._directory, claimed_facts["model"]))

    def _is_earlier(self) -> bool:
        """Whether this user made it with a version that signed nothing."""
        known = self._identity
        if known.is_there or known.record or known.trouble:
            return False
        with suppress(*trusted_indexes.TROUBLE, ValueError):
            return predates(self._directory, trusted_indexes.earlier_until_ns(trusted_indexes.key()))
        return False

    def _read(self) -> Identity:
        self._identity = identity.read(self._directory)
        return self._identity

    # --- what is written down

    def accept(self, claimed_facts: Mapping[str, Any], how: TrustOrigin = "accepted") -> bool:
        """Trust an index with these facts permanently. Returns whether that could be recorded."""
        facts = Facts.of(claimed_facts)
        if facts is None:
            return False
        known = self._read()
        if not known.matches(claimed_facts, is_apart=self._is_apart):  # unaltered copies keep their id
            self._identity = known._replace(record=None, facts=())
        with suppress(OSError, ValueError):
            return self._sign((facts,), how)
        return self._record_by_path(facts, how)

    @contextmanager
    def signing_catalog(self, to: Facts, how: TrustOrigin = "made") -> Iterator[None]:
        """Replace the catalog, or its facts, within this block. Both the old and the new facts are signed during the
        block, so that an interruption leaves a trusted index."""
        before = self._read().facts
        if before == (to,):
            self._set_record(self._identity.record)
            yield
            return
        self._sign((*(each for each in before if each != to), to), how)
        yield
        if before:
            self._sign((to,), how)

    @contextmanager
    def signing_root(self, claimed_facts: Mapping[str, Any], root: Path, *, follow_links: bool) -> Iterator[None]:
        """Change the catalog's root, and whether links out of it are followed, within this block. An untrusted index is
        never signed."""
        facts = Facts.of(claimed_facts)
        if self.record is None or facts is None:
            yield
            return
        with self.signing_catalog(facts._replace(root=str(root), follow_links=follow_links), self.record.how):
            yield

    def add_facts(self, facts: Facts) -> None:
        """Sign these facts as well: those of a catalog that will replace a damaged one."""
        known = self._read()
        if known.record and facts not in known.facts:
            self._sign((*known.facts, facts), known.record.how)

    def revoke(self) -> bool:
        """Make the index, and its copies, untrusted. Returns False if it was untrusted already. Raises OSError and
        RuntimeError."""
        was_known = False
        while record := self._read().record:  # two processes may have accepted it at once
            trusted_indexes.revoke(record)
            was_known = True
        self._set_record(None)
        return was_known

    def _sign(self, facts: tuple[Facts, ...], how: TrustOrigin) -> bool:
        """Write the identity. Returns False if the user's configuration cannot keep the record; raises as writing to
        the index directory raises."""
        try:
            key, record = trusted_indexes.key(), self._store_record(how)
        except (*trusted_indexes.TROUBLE, ValueError) as error:
            self._notify_unrecorded(error)
            return False
        identity.write(self._directory, key, record, facts, self._identity.others)
        self._identity = self._identity._replace(record=record, facts=facts, is_there=True)
        self._set_record(record)
        self.is_altered = False
        return True

    def _store_record(self, how: TrustOrigin) -> TrustRecord:
        """The record of this index, written before anything refers to it."""
        before = self._identity.record
        if before and before.facts is None and before.how == how:
            return before
        id = before.id if before and before.facts is None else trusted_indexes.new_id()
        trusted_indexes.note(record := TrustRecord(id, str(self._directory), _now(), how))
        return record

    def _record_by_path(self, facts: Facts, how: TrustOrigin) -> bool:
        """Record an index that is not writable by its path, for as long as its facts match."""
        path = str(self._directory)
        record = TrustRecord(trusted_indexes.id_of_path(path), path, _now(), how, facts._asdict())
        try:
            trusted_indexes.note(record)
        except trusted_indexes.TROUBLE as error:
            self._notify_unrecorded(error)
            return False
        self._identity = self._identity._replace(record=record, facts=(facts,))
        self._set_record(record)
        self.is_altered = False
        return True

    def _notify_unrecorded(self, error: Exception) -> None:
        if not self._has_notified:
            problem = f"your configuration cannot be written ({describe_error(error)}), so it does not record that "
            effect = f"the index in {self._directory} is yours: each time, name any model but the bundled one with "
            self._notice([problem, effect, Setting("model"), " or trust it with ", Setting("trust", True)])
        self._has_notified = True


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")


def _accepted_once(directory: IndexDirectory, model: str) -> MessageParts:
    what = "" if model == "bundled" else f" with its model, {shown(model)}"
    return f"{directory} was made before indexes were signed, and is yours: it is accepted{what}"
