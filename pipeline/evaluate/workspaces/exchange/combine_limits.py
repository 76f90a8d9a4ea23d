"""What a datacard of CMS's Combine cannot say of a workspace, beside names."""

from pipeline.evaluate.workspaces.exchange.content import CannotSayError, ModelContent

NAME = "Combine"
REFUSED = ("shapefactor", "shapesys")


def require_sayable(content: ModelContent) -> None:
    """Refuse modifiers, settings of parameters and numbers that a datacard has no place for.

    Raises:
        CannotSayError: the first of them, by its name.
    """
    for kind in REFUSED:
        for name in content.modifiers.names(kind):
            raise CannotSayError(f"{kind} {name!r}", NAME, "it has no such modifier")
    for name, parameter in content.parameters.items():
        content.require_plain(name, NAME)
        content.require_start(name, NAME)
        if any(parameter.fixed):
            raise CannotSayError(f"parameter {name!r}", NAME, "the measurement holds it; remove `fixed`")
    for name in content.modifiers.names("lumi"):
        parameter = content.parameters[name]
        if parameter.inits != parameter.auxdata:
            raise CannotSayError(
                f"parameter {name!r}", NAME, f"the measurement gives it a start value, {parameter.inits}"
            )
    for channel, samples in content.templates.items():
        for sample, entry in samples.items():
            where = f"of channel {channel!r}, sample {sample!r}"
            if len(entry.get("staterror", {})) > 1:
                raise CannotSayError(f"staterror {where}", NAME, "there are several")
            for name, ends in entry.get("normsys", {}).items():
                if not min(float(ends["hi"]), float(ends["lo"])) > 0:
                    raise CannotSayError(f"normsys {name!r} {where}", NAME, "a factor of 0 is no kappa")
        carried = {name for entry in samples.values() for name in entry.get("staterror", {})}
        if len(carried) > 1:
            raise CannotSayError(f"channel {channel!r}", NAME, f"it has several staterror, {sorted(carried)}")
