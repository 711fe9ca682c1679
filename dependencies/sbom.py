"""Writes what is in the wheel and what it wants: sbom.cdx.json, in CycloneDX's form, and the table of licences at the
end of THIRD-PARTY-NOTICES.md. Both follow from pyproject.toml, the locks, the bundled model, and what each release
says of itself, so that they are the same whenever they are made.

    python dependencies/sbom.py            # as `make sbom`
    python dependencies/sbom.py --check    # as CI: says whether they would be others, and writes nothing
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from lock import LEFT_OUT, ROOT, Pin, constraints, normalised, read
from packageurl import PackageURL
from packaging.requirements import Requirement

SBOM, NOTICES = ROOT / "sbom.cdx.json", ROOT / "THIRD-PARTY-NOTICES.md"
TABLE = "| release | for | licence, as it says itself |\n|---|---|---|\n"
# What a classifier means where it means one licence; "BSD License" may be any of three.
CLASSIFIERS = {
    "MIT License": "MIT", "Apache Software License": "Apache-2.0", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}  # fmt: skip
SHORT = 60  # a licence's whole text may stand where its name was meant
BUNDLED = ROOT / "diptych" / "bundled"
APACHE = DisjunctiveLicense(id="Apache-2.0")  # of both released towers and of the word pieces
LICENCES = {
    "model.safetensors": (
        APACHE,
        DisjunctiveLicense(
            name="Trained on Flickr8k, which is offered for non-commercial research and education; see its model card."
        ),
        DisjunctiveLicense(name="WordNet 3.0", url=XsUri("https://wordnet.princeton.edu/license-and-commercial-use")),
        DisjunctiveLicense(id="CC-BY-4.0"),
    ),
    "tokenizer.json": (APACHE,),
}


def extras_of(pins: Mapping[str, Pin], base: Collection[str]) -> dict[str, list[str]]:
    """Which extras bring a release that the base does not; what only `develop` brings is left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wants: dict[str, set[str]] = {}
    for pin in pins.values():
        for by in pin.wanted_by:
            wants.setdefault(by, set()).add(pin.name)
    found: dict[str, list[str]] = {}
    optional = project["optional-dependencies"]
    for extra in sorted(optional.keys() - {"develop"}):
        for name in sorted(_reached(_roots(optional, extra), wants) - set(base)):
            found.setdefault(name, []).append(extra)
    return found


def _roots(optional: Mapping[str, list[str]], extra: str) -> set[str]:
    """What an extra names, and what the extras name that it is made of."""
    roots = set()
    for one in map(Requirement, optional[extra]):
        within = (
            [_roots(optional, other) for other in one.extras] if one.name == "diptych" else [{normalised(one.name)}]
        )
        roots |= set().union(*within)
    return roots


def _reached(roots: Collection[str], wants: Mapping[str, Collection[str]]) -> set[str]:
    found, ahead = set(), list(roots)
    while ahead:
        if (name := ahead.pop()) not in found:
            found.add(name)
            ahead += wants.get(name, ())
    return found


def said_licences(pins: Collection[Pin]) -> dict[str, str]:
    """Of each release, what its metadata says: an SPDX expression where it can. pip is asked, and installs nothing, for
    what is not installed here, as what another system wants."""
    found = {}
    for pin in pins:
        try:
            here = importlib.metadata.metadata(pin.name)
        except importlib.metadata.PackageNotFoundError:
            here = None
        if here and here["Version"].partition("+")[0] == pin.version:
            found[pin.name] = _licence(here.get("License-Expression"), here.get_all("Classifier"), here.get("License"))
        else:
            asked = _asked(f"{pin.name}=={pin.version}")
            found[pin.name] = _licence(asked.get("license_expression"), asked.get("classifier"), asked.get("license"))
    return found


def _asked(release: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps"]
    done = subprocess.run([*command, "--report", "-", release], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["install"][0]["metadata"]


def _licence(expression: str | None, classifiers: Collection[str] | None, written: str | None) -> str:
    if expression:
        return expression
    named = [one.rpartition(" :: ")[2] for one in classifiers or () if one.startswith("License ::")]
    known = [CLASSIFIERS[one] for one in named if one in CLASSIFIERS]
    if known:
        return " AND ".join(known)
    is_name = written and len(written) < SHORT and "\n" not in written
    return (written or "") if is_name else ", ".join(named) or "see its own files"


def component(pin: Pin, licence: str, scope: ComponentScope) -> Component:
    """A release with the hashes of its files."""
    url = PackageURL("pypi", None, pin.name, pin.version)
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=one.removeprefix("sha256:")) for one in sorted(pin.hashes)]
    files = [ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(str(url)), hashes=hashes)]
    return Component(
        type=ComponentType.LIBRARY, name=pin.name, version=pin.version, purl=url, bom_ref=str(url), scope=scope,
        licenses=[LicenseFactory().make_from_string(licence)], external_references=files if hashes else [],
    )  # fmt: skip


def bundled() -> list[Component]:
    """The files of the model that is in the wheel."""
    kinds = {"model.safetensors": ComponentType.MACHINE_LEARNING_MODEL, "tokenizer.json": ComponentType.DATA}
    found = []
    for name, kind in kinds.items():
        digest = hashlib.sha256((BUNDLED / name).read_bytes()).hexdigest()
        one = Component(
            type=kind, name=f"diptych/bundled/{name}", bom_ref=f"bundled/{name}",
            licenses=LICENCES[name],
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        )  # fmt: skip
        found.append(one)
    return found


def bill(
    pins: Mapping[str, Pin], base: Collection[str], extras: Mapping[str, list[str]], said: Mapping[str, str]
) -> str:
    """The SBOM, without a time or a number of its own."""
    source = (ROOT / "diptych" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"', source, re.M)[1]  # type: ignore[index]
    root = Component(
        type=ComponentType.APPLICATION, name="diptych", version=version, bom_ref="diptych",
        purl=PackageURL("pypi", None, "diptych", version), licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )  # fmt: skip
    made = {
        name: component(pins[name], said[name], ComponentScope.REQUIRED if name in base else ComponentScope.OPTIONAL)
        for name in [*base, *extras]
    }
    bom = Bom(components=[*made.values(), *bundled()])
    bom.metadata.component = root
    for name, one in [("diptych", root), *made.items()]:
        bom.register_dependency(one, [made[other] for other in made if name in pins[other].wanted_by])
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    del written["serialNumber"], written["metadata"]["timestamp"]
    return json.dumps(written, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Write both, or with --check compare them."""
    pins = {pin.name: pin for pin in read((ROOT / "requirements-develop.lock").read_text(encoding="utf-8"))}
    base = [pin.name for pin in read((ROOT / "requirements.lock").read_text(encoding="utf-8"))]
    pins[LEFT_OUT] = Pin(LEFT_OUT, constraints()[LEFT_OUT], "", frozenset(), ("diptych",))
    extras = extras_of(pins, base)
    said = said_licences([pins[name] for name in [*base, *extras]])
    rows = [f"| {name} {pins[name].version} | every install | {said[name]} |\n" for name in base]
    rows += [f"| {name} {pins[name].version} | {', '.join(extras[name])} | {said[name]} |\n" for name in sorted(extras)]
    before = NOTICES.read_text(encoding="utf-8").partition(TABLE)[0]
    made = {SBOM: bill(pins, base, extras, said), NOTICES: before + TABLE + "".join(rows)}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    print(f"{SBOM.name}: {len(base)} releases for every install, {len(extras)} more for extras")
    if "--check" in sys.argv[1:]:
        print("".join(f"  {path.name} would be another; `make sbom` makes it anew.\n" for path in stale), end="")
        return int(bool(stale))
    for path in stale:
        path.write_text(made[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
