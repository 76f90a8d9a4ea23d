"""One patch of a pyhf patchset, applied to its workspace by pyhf."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.likelihood.checks import validate
from pipeline.likelihood.workspace import Workspace, read_workspace


def patched(
    workspace: Workspace | str | Path, patchset: Workspace | str | Path, patch: str | tuple[float, ...]
) -> Workspace:
    """Return the workspace with one patch of a pyhf patchset, by its name or its values; the digests are verified.

    Raises:
        ValueError: no such patch, a patchset of another workspace, or a patch that does not apply to it.
    """
    pyhf, jsonpatch = import_module("pyhf"), import_module("jsonpatch")  # of an extra, and slow to import
    validate(read_workspace(workspace))
    background = pyhf.Workspace(read_workspace(workspace))
    try:
        patches = pyhf.PatchSet(read_workspace(patchset))
    except (pyhf.exceptions.InvalidSpecification, pyhf.exceptions.InvalidPatchSet) as error:
        raise ValueError(
            f"patchset: {error}; mend it as https://scikit-hep.org/pyhf/likelihood.html says"
        ) from error
    try:
        content: Workspace = patches.apply(background, patch)
    except pyhf.exceptions.InvalidPatchLookup as error:
        names = ", ".join(p.name for p in patches.patches)
        raise ValueError(f"patchset: no patch {patch!r}; it has {names}") from error
    except pyhf.exceptions.PatchSetVerificationError as error:
        raise ValueError(
            "patchset: its digests are those of another workspace; take the workspace it was made for"
        ) from error
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise ValueError(_unpatchable(background, patches[patch], error)) from error
    except pyhf.exceptions.InvalidSpecification as error:
        raise ValueError(
            f"patch '{patches[patch].name}': what it makes of the workspace is none: {error}; correct its values"
        ) from error
    return content


def _unpatchable(workspace: Workspace, patch: Any, error: Exception) -> str:
    """Return which operation of a patch does not apply, and why.

    The operations are applied one by one, as jsonpatch does.
    """
    jsonpatch = import_module("jsonpatch")
    content: Any = workspace
    for number, operation in enumerate(patch.patch):
        try:
            content = jsonpatch.JsonPatch([operation]).apply(content)
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as found:
            what = {key: value for key, value in operation.items() if key != "value"}
            return (
                f"patch '{patch.name}': operation {number}, {json.dumps(what)}, does not apply to the workspace: "
                f"{found}; correct its path, or take the workspace it was made for"
            )
    return f"patch '{patch.name}': does not apply to the workspace: {error}"
