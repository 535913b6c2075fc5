"""The disposable file of an index.

It is a cache: whoever owns the vectors can make it again. A checksummed manifest decides whether it
is believed, because FAISS reads a file with a flipped bit without complaint.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from memory.search.index import VectorIndex

MANIFEST = "manifest.json"
FORMAT = 1
WRITING = ".writing-"
LEFT = 3600.0
"""Seconds after which nobody is still writing a file."""

Index = TypeVar("Index", bound=VectorIndex)


class StaleIndex(Exception):
    """A stored index cannot be believed; the message says why. Rebuild it from the vectors."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stored index claims. `seq` is the last change of its source that it has seen."""

    kind: str
    fingerprint: str
    seq: int
    count: int
    dim: int
    file: str
    sha256: str
    format: int = FORMAT

    def to_text(self) -> str:
        body = asdict(self)
        return json.dumps({**body, "check": _check(body)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises StaleIndex if a byte of it was changed or it is of another format."""
        try:
            body = json.loads(text)
            if body.pop("check") == _check(body) and body["format"] == FORMAT:
                return cls(**body)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StaleIndex("its manifest cannot be read") from error
        raise StaleIndex("its manifest was changed or is of another version")


def _check(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def save(index: VectorIndex, folder: Path, *, fingerprint: str, seq: int) -> Manifest:
    """Write the vectors, then the manifest that points at them; a kill leaves the old pair.

    Args:
        index: what to store.
        folder: made if absent; files of earlier generations are removed at the end.
        fingerprint: digest of the embedder that made the vectors.
        seq: the last change of the source that the index has seen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = index.to_bytes()
    digest = hashlib.sha256(data).hexdigest()
    name = f"gen-{seq}-{digest[:8]}.bin"
    manifest = Manifest(
        index.kind, fingerprint, seq, len(index), index.dim, file=name, sha256=digest
    )
    replace_file(folder / name, data)
    replace_file(folder / MANIFEST, manifest.to_text().encode())
    for old in folder.glob("gen-*.bin"):
        if old.name != name:
            old.unlink(missing_ok=True)
    _clear_leftovers(folder)
    return manifest


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed writers began, each as large as an index; others may write just now."""
    for file in folder.glob(f"{WRITING}*"):
        try:
            if time.time() - file.stat().st_mtime > LEFT:
                file.unlink()
        except FileNotFoundError:
            continue


def load(cls: type[Index], folder: Path, *, fingerprint: str, seq: int) -> Index:
    """Read what `save` wrote, if it is exactly what is wanted.

    Raises:
        StaleIndex: if it is absent, damaged, of another space or kind, or of another `seq`.
    """
    try:
        manifest = Manifest.from_text((folder / MANIFEST).read_text(encoding="utf-8"))
        data = (folder / manifest.file).read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise StaleIndex("its files cannot be read") from error
    wanted = {"kind": cls.kind, "fingerprint": fingerprint, "seq": seq}
    for name, value in wanted.items():
        if getattr(manifest, name) != value:
            raise StaleIndex(f"its {name} is {getattr(manifest, name)}, not {value}")
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise StaleIndex("its vectors were damaged")
    try:
        return cls.from_bytes(data, manifest.dim, manifest.count)
    except (RuntimeError, ValueError) as error:
        raise StaleIndex("its vectors cannot be read") from error


def replace_file(path: Path, data: bytes) -> None:
    """Write to a temporary file, flush it to the disk, and rename it into place.

    A kill at any time leaves the old file or the new one.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=WRITING)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
