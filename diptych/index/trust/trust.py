"""Whether an index is one that this user made or accepted, and what of it may be followed then.

What a catalog says is data; but the model that it names is opened, which may ask the hub for it, and its root is
searched. Both are followed where `identity.json`, beside the catalog, carries them with a checksum by this user's key,
under an id that the user's own configuration knows. So an index that is moved or copied stays known, and one whose
facts were altered, or that another user made, is a stranger's. The identity is read before SQLite sees the catalog,
whose facts must be the same then. Several users may share an index: each has an entry of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diptych.errors import Setting, Words, as_warning
from diptych.index.trust import identity, own_indexes
from diptych.index.trust.identity import Facts, Identity
from diptych.index.trust.own_indexes import How, Record, told
from diptych.index.trust.strangers import is_here_before, shown
from diptych.storage.directory import IndexDirectory


class Trust:
    """What this user trusts of the index in a directory. `is_apart` says that it does not lie in the folder of its
    pictures, `accept` that the user takes it as it is.

    `record` is what is kept of it, None of a stranger's, and `altered` says that it was known, and that its facts have
    changed since; both hold of the catalog that was confirmed last, as does `holds`, which says whether its facts may
    be followed, and `is_changing`, which says that a change of its facts was interrupted. `notice` is told what the
    user should know.
    """

    def __init__(
        self,
        directory: IndexDirectory,
        *,
        is_apart: bool,
        accept: bool = False,
        notice: Callable[[Words], None] = as_warning,
    ):
        self.record: Record | None = None
        self.altered = False
        self.accepts = self.holds = accept
        self.is_changing = False
        self._directory, self._is_apart, self._notice = directory, is_apart, notice
        self._identity = Identity()
        self._was_here = False  # before this version
        self._has_said = False

    def _keep(self, record: Record | None) -> None:
        self.record, self.holds = record, record is not None or self.accepts

    @property
    def model(self) -> str | None:
        """The model that this user knows the index to be of, whatever its catalog says; None of a stranger's."""
        known = self._read()
        return known.facts[-1].model if known.record else None

    @property
    def signed(self) -> Record | None:
        """What is kept of it as far as its identity tells, whatever its catalog says."""
        return self._read().record

    @property
    def trouble(self) -> Exception | None:
        """Why the user's configuration is of no use; None where it is."""
        return self._identity.trouble

    def has_root(self, root: str) -> bool:
        """Whether the pictures of the catalog that was confirmed may be looked for there."""
        return self.accepts or (self.record is not None and any(each.root == root for each in self._identity.facts))

    # --- deciding

    def known(self) -> bool:
        """Whether the index is this user's, as far as its identity tells: asked before the catalog is opened."""
        is_known = self._read().record is not None
        # asked now, for what a killed process left is undone when the catalog is opened, which changes its file
        self._was_here = not is_known and self._is_earlier()
        return is_known or self.accepts or self._was_here

    def confirm(self, said: Mapping[str, Any]) -> None:
        """Hold the facts of the catalog, as it was opened, against the identity. One that is to be accepted is, and so,
        once, is one that this user's earlier version made."""
        is_same = self._identity.cover(said, is_apart=self._is_apart)
        if not is_same:  # another process may have put a new catalog in the place of the old, just now
            is_same = self._read().cover(said, is_apart=self._is_apart)
        self._keep(self._identity.record if is_same else None)
        self.is_changing = len(self._identity.facts) > 1
        self.altered = self._identity.record is not None and not is_same
        if self.record is None and self.accepts:
            self.accept(said)
        elif self.record is None and self._was_here and self.accept(said, "earlier"):
            self._notice(_accepted_once(self._directory, said["model"]))

    def _is_earlier(self) -> bool:
        """Whether it was here before this version, and is the user's, who had used another."""
        known = self._identity
        if known.is_there or known.record or known.trouble:
            return False
        with suppress(*own_indexes.TROUBLE, ValueError):
            return is_here_before(self._directory, own_indexes.earlier_until_ns(own_indexes.key()))
        return False

    def _read(self) -> Identity:
        self._identity = identity.read(self._directory)
        return self._identity

    # --- what is written down

    def accept(self, said: Mapping[str, Any], how: How = "accepted") -> bool:
        """Take an index with these facts as this user's, for good; whether that could be written down."""
        facts = Facts.of(said)
        if facts is None:
            return False
        known = self._read()
        if not known.cover(said, is_apart=self._is_apart):  # under another id than its copies that were not altered
            self._identity = known._replace(record=None, facts=())
        with suppress(OSError, ValueError):
            return self._sign((facts,), how)
        return self._keep_by_path(facts, how)

    @contextmanager
    def changing(self, to: Facts, how: How = "made") -> Iterator[None]:
        """Put another catalog in its place, or other facts in it, within this block. Both the old and the new are known
        for its length, so that wherever it ends the index is this user's."""
        before = self._read().facts
        if before == (to,):
            self._keep(self._identity.record)
            yield
            return
        self._sign((*(each for each in before if each != to), to), how)
        yield
        if before:
            self._sign((to,), how)

    @contextmanager
    def moving(self, said: Mapping[str, Any], root: Path, *, follow_links: bool) -> Iterator[None]:
        """Have the catalog, which says this, say another root within this block, and whether links that lead out of it
        are followed; of a stranger's index that is never done."""
        facts = Facts.of(said)
        if self.record is None or facts is None:
            yield
            return
        with self.changing(facts._replace(root=str(root), follow_links=follow_links), self.record.how):
            yield

    def also(self, facts: Facts) -> None:
        """Know it by these facts, too: those of a catalog that is to take the place of a damaged one."""
        known = self._read()
        if known.record and facts not in known.facts:
            self._sign((*known.facts, facts), known.record.how)

    def forget(self) -> bool:
        """Take it back: the index is a stranger's from now on, with its copies. False where it was one. Raises OSError
        and RuntimeError."""
        was_known = False
        while record := self._read().record:  # a folder may have been accepted twice at once
            own_indexes.forget(record)
            was_known = True
        self._keep(None)
        return was_known

    def _sign(self, facts: tuple[Facts, ...], how: How) -> bool:
        """Write the identity. False where the user's configuration cannot keep the record of it; raises what writing
        to the index's directory raises."""
        try:
            key, record = own_indexes.key(), self._noted(how)
        except (*own_indexes.TROUBLE, ValueError) as error:
            self._say_unkept(error)
            return False
        identity.write(self._directory, key, record, facts, self._identity.others)
        self._identity = self._identity._replace(record=record, facts=facts, is_there=True)
        self._keep(record)
        self.altered = False
        return True

    def _noted(self, how: How) -> Record:
        """The record of this index, written down before anything that refers to it."""
        before = self._identity.record
        if before and before.facts is None and before.how == how:
            return before
        id = before.id if before and before.facts is None else own_indexes.new_id()
        own_indexes.note(record := Record(id, str(self._directory), _now(), how))
        return record

    def _keep_by_path(self, facts: Facts, how: How) -> bool:
        """Of an index that cannot be written to: it is known by its path, as long as it says the same."""
        path = str(self._directory)
        record = Record(own_indexes.id_of_path(path), path, _now(), how, facts._asdict())
        try:
            own_indexes.note(record)
        except own_indexes.TROUBLE as error:
            self._say_unkept(error)
            return False
        self._identity = self._identity._replace(record=record, facts=(facts,))
        self._keep(record)
        self.altered = False
        return True

    def _say_unkept(self, error: Exception) -> None:
        if not self._has_said:
            problem = f"your configuration cannot be written ({told(error)}), so nothing notes that the index in "
            wants = f"{self._directory} is yours: a model that is not the bundled one has to be named each time with "
            self._notice([problem, wants, Setting("model"), ", or trusted with ", Setting("trust", True)])
        self._has_said = True


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")


def _accepted_once(directory: IndexDirectory, model: str) -> Words:
    what = "" if model == "bundled" else f" with its model, {shown(model)}"
    return f"{directory} was here before indexes were signed, and is yours: it is accepted as such{what}"
