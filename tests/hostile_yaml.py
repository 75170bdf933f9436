"""Files of YAML that are no configuration, or that would take for ever."""

from __future__ import annotations

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 14))
#: kind -> the file, and a part of the line that is said of it
FILES: dict[str, tuple[str | bytes, str]] = {
    "aliases of aliases": (BOMB, "stands for more than 100,000 values"),
    "a value within itself": ("a: &a [*a]\n", ":1: an alias stands within what it stands for"),
    "deep lists": (f"a: {'[' * 5000}", ":1: more than 50 lists and mappings within each other"),
    "deep mappings": ("{a: " * 9000, ":1: more than 50 lists and mappings within each other"),
    "deep blocks": ("".join(" " * i + "a:\n" for i in range(200)), ": more than 50 lists and mappings"),
    "a number of 5,000 digits": ("SOLVER:\n  EPOCHS: " + "9" * 5000, "is no int (too many digits)"),
    "a hexadecimal number": ("SOLVER: {EPOCHS: 0x" + "f" * 50_000 + "}", "is no int (too many digits)"),
    "a list as a key": ("? [a]\n: b\n", ":1: a key is a text, got ['a']"),
    "a mapping as a key": ("? {a: 1}\n: b\n", ":1: a key is a text, got {'a': 1}"),
    "a NUL byte": ("SOLVER: {LR: \0}\n", "no valid YAML: unacceptable character #x0000"),
    "a tab": ("SOLVER:\n\tLR: 1\n", "line 2, column 1"),
    "Latin-1": (b"A: 1\nEXPERIMENT: {TAG: \xfc}\n", ":2: not a text file in UTF-8 (byte 0xfc)"),
    "UTF-16": ("SOLVER: {LR: 0.1}\n".encode("utf-16"), ":1: not a text file in UTF-8 (byte 0xff)"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), ":1: not a text file in UTF-8 (byte 0x89)"),
    "empty": ("", "is empty; a configuration is a mapping of keys to values"),
    "comments alone": ("# nothing\n", "is empty; a configuration is a mapping of keys to values"),
    "a list": ("- a\n", "a configuration is a mapping of keys to values, got ['a']"),
    "an empty list": ("[]\n", "a configuration is a mapping of keys to values, got []"),
    "a text": ("hello\n", "a configuration is a mapping of keys to values, got 'hello'"),
    "50 MB": (b"a: " + b"x" * 50_000_000, "larger than 1,000,000 bytes"),
    "two documents": ("a: 1\n---\nb: 2\n", "but found another document"),
    "no day": ("SOLVER: {LR: 2001-02-31}\n", "'2001-02-31' is no timestamp"),
    "no truth value": ("SOLVER: {NESTEROV: !!bool maybe}\n", "'maybe' is no bool"),
    "no number": ("SOLVER: {LR: !!float ''}\n", "'' is no float"),
    "code": ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor for the tag"),
    "a base that is a list": ("_BASE_: [a]\n", "_BASE_ expects the path of a file, got ['a']"),
    "a base of a very long name": (f"_BASE_: {'x' * 5000}.yaml\n", "File name too long"),
}
#: the same of values, which a configuration alone has
VALUES: dict[str, tuple[str, str]] = {
    "1.0e+400": ("SOLVER: {LR: 1.0e+400}\n", "SOLVER.LR: expects a number, got inf"),
    "1e400": ("SOLVER: {LR: 1e400}\n", "SOLVER.LR: expects a number, got '1e400'"),
    "inf": ("SOLVER: {LR: .inf}\n", "SOLVER.LR: expects a number, got inf"),
    "400 digits": (f"SOLVER: {{EPOCHS: {'9' * 90}}}\n", "SOLVER.EPOCHS: 9999"),
    "a text of 100,000 letters": (f"SOLVER: {{TYPE: {'x' * 100_000}}}\n", "... (100,002 letters) is none of SGD"),
    "thousands of unknown keys": ("\n".join(f"k{i}: 1" for i in range(2000)), "2000 errors in the configuration"),
    "bytes": ("EXPERIMENT: {TAG: !!binary aGVsbG8=}\n", "expects text, and YAML reads b'hello' as bytes"),
    "half a surrogate": ('EXPERIMENT: {TAG: "\\ud800"}\n', r"EXPERIMENT.TAG: '\ud800' leads out of LOG.PREFIX"),
    "a key without a text": ("? \n: 1\n", "unknown key 'None'"),
    "options by numbers": ("STUDENT: {OPTIONS: {1: 2}}\n", "STUDENT.OPTIONS: expects names of options, got 1"),
    "a set": (
        "STUDENT: {OPTIONS: {a: !!set {b}}}\n",
        "STUDENT.OPTIONS.a: {'b'} is no number, text, truth value or list",
    ),
    "a date": ("STUDENT: {OPTIONS: {a: 2001-01-01}}\n", "is no number, text, truth value or list of these"),
    "a huge width": (
        "STUDENT:\n  OPTIONS: {widths: [8, 10000000]}\n",
        "c.yaml: STUDENT.OPTIONS.widths: 10000000 lies outside [-1000000, 1000000]",
    ),
}
