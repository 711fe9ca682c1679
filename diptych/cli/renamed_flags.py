"""Old names of flags and of their values. They work until version 0.3, are in no help text, and warn on stderr."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.cli.terminal import print_status

UNTIL = "0.3"

# Command -> old flag -> new flag.
RENAMED: dict[str, dict[str, str]] = {
    "classify": {"--places": "--patches", "--each": "--multi-label"},
    "doctor": {"--mend": "--repair", "--empty": "--clear", "--forget": "--revoke-trust"},
    "search": {"--place": "--box"},
}
# Command -> (flag, old value) -> new value.
RENAMED_VALUES: dict[str, dict[tuple[str, str], str]] = {
    "locate": {("--method", "places"): "patches"},
}


def with_new_flags(command: str, arguments: Sequence[str], *, quiet: bool = False) -> list[str]:
    """The arguments of `command` with new flags and values instead of old ones; a warning on stderr for each, unless
    `quiet`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    result, warnings = list[str](), list[str]()
    for argument in arguments[:end]:
        flag, equals, value = argument.partition("=")
        if new := RENAMED.get(command, {}).get(flag):
            result.append(f"{new}{equals}{value}")
            warnings.append(_warning(flag, new))
        elif equals and (new := _new_value(command, flag, value)):
            result.append(f"{flag}={new}")
            warnings.append(_warning(f"{flag} {value}", f"{flag} {new}"))
        elif result and (new := _new_value(command, result[-1], argument)):
            warnings.append(_warning(f"{result[-1]} {argument}", f"{result[-1]} {new}"))
            result.append(new)
        else:
            result.append(argument)
    for warning in [] if quiet else dict.fromkeys(warnings):
        print_status(warning)
    return [*result, *arguments[end:]]


def _new_value(command: str, flag: str, value: str) -> str | None:
    return RENAMED_VALUES.get(command, {}).get((flag, value))


def _warning(old: str, new: str) -> str:
    return f"{old} is now {new}; the old name works until version {UNTIL}"
